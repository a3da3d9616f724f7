// The registry's consensus in a simulated world.
//   registry_sim run [--seed N] [--schedules N | --seconds N] [--history FILE] [--trace yes]
//   registry_sim mutants [--schedules N]   wrong rules: each must be caught
//   registry_sim check FILE                is this history (history.h) linearizable?
// Exits 1 when something is wrong; a schedule is found again by its seed, --schedules 1.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "world_impl.h"

namespace cctl::sim {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t schedules = 1'000;
  double seconds = 0;
  std::string history;
  bool trace = false;
};

// ---- wrong rules -----------------------------------------------------------------------------

// Counters alone are compared, so that two proposers can hold equal ballots, and equal is enough.
struct EqualBallots : AcceptorRules {
  static bool mayPromise(const Ballot& ballot, const Ballot& promised, const Ballot& accepted) {
    return ballot.counter >= promised.counter && ballot.counter >= accepted.counter;
  }
  static bool mayAccept(const Ballot& ballot, const Ballot& promised, const Ballot& accepted) {
    return ballot.counter >= promised.counter && ballot.counter >= accepted.counter;
  }
};
struct ForgetsPromises : AcceptorRules {
  static constexpr bool kRecordsPromises = false;
};
struct ForgetsValues : AcceptorRules {
  static constexpr bool kRecordsValues = false;
};
struct IgnoresEpochs : AcceptorRules {
  static bool isEpochOf(const Epoch& asked, const Epoch& own) {
    return own.isNone() ? asked == own : true;
  }
};
struct SkipsPrepare : ProposerRules {
  static constexpr bool kPreparesFirst = false;
};
struct ReadsWithoutAccept : ProposerRules {
  static constexpr bool kReadsThroughAccept = false;
};
struct TellsEarly : ProposerRules {
  static constexpr bool kTellsOnlyCommitted = false;
};

// ---- running ---------------------------------------------------------------------------------

double secondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string describe(const Weather& weather) {
  return fmt::format(
      "{} hosts, {} clients, {} keys, loss {} %, twice {} %, delay {} us, sync {} us, {} crashes, "
      "{} "
      "wipes, {} cuts, {} kills, {} changes{}{}",
      weather.hosts, weather.clients, weather.keys, weather.loss, weather.twice, weather.most_delay,
      weather.most_sync, weather.crashes, weather.wipes, weather.cuts, weather.kills,
      weather.changes, weather.asks_ahead ? ", promises asked ahead" : "",
      weather.born ? ", born by rivals" : "");
}

void print(uint64_t seed, const Verdict& verdict) {
  std::printf("schedule %llu: %s\n", static_cast<unsigned long long>(seed), verdict.wrong->c_str());
}

int runSchedules(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  Verdict sum;
  uint64_t ran = 0;
  uint64_t wrong = 0;
  const auto more = [&] {
    return options.seconds > 0 ? secondsSince(begin) < options.seconds : ran < options.schedules;
  };
  for (; more(); ++ran) {
    World<AcceptorRules, ProposerRules> world(options.seed + ran);
    world.trace = options.trace;
    const Verdict verdict = world.run();
    sum.messages += verdict.messages;
    sum.changes += verdict.changes;
    sum.decided += verdict.decided;
    sum.undecided += verdict.undecided;
    if (!options.history.empty() && ran == 0) {
      if (auto written = writeHistory(options.history, verdict.history); !written)
        std::fprintf(stderr, "%s\n", written.error().message.c_str());
    }
    if (!verdict.wrong) continue;
    print(options.seed + ran, verdict);
    std::printf("  %s\n", describe(world.weather()).c_str());
    if (++wrong == 10) break;
  }
  std::printf(
      "%llu schedules from seed %llu in %.1f s: %llu messages, %llu operations decided, %llu "
      "not, %llu changes of members; %llu wrong\n",
      static_cast<unsigned long long>(ran), static_cast<unsigned long long>(options.seed),
      secondsSince(begin), static_cast<unsigned long long>(sum.messages),
      static_cast<unsigned long long>(sum.decided), static_cast<unsigned long long>(sum.undecided),
      static_cast<unsigned long long>(sum.changes), static_cast<unsigned long long>(wrong));
  return wrong == 0 ? 0 : 1;
}

template <typename A, typename P>
bool isCaughtBy(bool only_history, const Options& options, bool carries_over) {
  const char* how = only_history ? "history alone" : "all";
  for (uint64_t ran = 0; ran < options.schedules; ++ran) {
    World<A, P> world(options.seed + ran);
    world.only_history = only_history;
    world.carries_over = carries_over;
    const Verdict verdict = world.run();
    if (!verdict.wrong) continue;
    std::printf("  %-14s ", how);
    print(options.seed + ran, verdict);
    return true;
  }
  std::printf("  %-14s NOT CAUGHT in %llu schedules\n", how,
              static_cast<unsigned long long>(options.schedules));
  return false;
}

// `seen`: clients can see the difference, so that the checker of histories must find it unaided.
template <typename A, typename P>
bool isCaught(const char* name, const Options& options, bool seen = true,
              bool carries_over = true) {
  std::printf("%s\n", name);
  const bool by_all = isCaughtBy<A, P>(false, options, carries_over);
  return (!seen || isCaughtBy<A, P>(true, options, carries_over)) && by_all;
}

int runMutants(const Options& options) {
  bool all = true;
  all &= isCaught<EqualBallots, ProposerRules>("equal ballots accepted", options);
  all &= isCaught<AcceptorRules, SkipsPrepare>("no promise phase", options);
  all &= isCaught<AcceptorRules, ReadsWithoutAccept>("read without accept", options);
  all &= isCaught<ForgetsPromises, ProposerRules>("promise not persisted", options);
  all &= isCaught<ForgetsValues, ProposerRules>("accepted value not persisted", options);
  all &= isCaught<IgnoresEpochs, ProposerRules>("epoch ignored", options);
  all &= isCaught<AcceptorRules, TellsEarly>("push before commit", options, false);
  all &= isCaught<AcceptorRules, ProposerRules>("members changed, nothing carried", options, true,
                                                false);
  return all ? 0 : 1;
}

int check(const std::string& path) {
  const auto history = readHistory(path);
  if (!history) {
    std::fprintf(stderr, "%s\n", history.error().message.c_str());
    return 2;
  }
  const auto wrong = findNonLinearizable(*history);
  std::printf("%s: %zu operations: %s\n", path.c_str(), history->size(),
              wrong ? wrong->c_str() : "linearizable");
  return wrong ? 1 : 0;
}

int usage() {
  std::fprintf(stderr,
               "usage: registry_sim run [--seed N] [--schedules N | --seconds N] [--history FILE]\n"
               "       registry_sim mutants [--seed N] [--schedules N]\n"
               "       registry_sim check FILE\n");
  return 64;
}

int main(int argc, char** argv) {
  if (argc < 2) return usage();
  const std::string mode = argv[1];
  if (mode == "check") return argc == 3 ? check(argv[2]) : usage();
  Options options;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--seed") options.seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--schedules") options.schedules = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seconds") options.seconds = std::strtod(argv[i + 1], nullptr);
    if (name == "--history") options.history = argv[i + 1];
    if (name == "--trace") options.trace = std::string(argv[i + 1]) == "yes";
  }
  if (mode == "run") return runSchedules(options);
  if (mode == "mutants") return runMutants(options);
  return usage();
}

}  // namespace
}  // namespace cctl::sim

int main(int argc, char** argv) { return cctl::sim::main(argc, argv); }
