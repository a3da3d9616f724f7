// sudoku-load: options in, load out, summary at the end. How it works is in generator.h.
#include <sys/prctl.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <vector>

#include "load/generator.h"
#include "load/report.h"
#include "net/service.h"

namespace {

using namespace sudoku;

const std::vector<OptionSpec> kOptions{
    {"--target", "URL[,URL]", "http://HOST:PORT (web-server) or tcp://HOST:PORT (solver)"},
    {"--rate", "N", "requests a second over all targets (default: 100)"},
    {"--duration", "TIME", "how long to send, such as 10s (the default)"},
    {"--until-signal", "", "send until SIGINT or SIGTERM instead"},
    {"--connections", "N", "connections over all targets (default: 64)"},
    {"--new-connections", "", "a connection of its own for each request"},
    {"--timeout", "TIME", "when an answer counts as failed (default: 5s)"},
    {"-o", "FORMAT", "text (the default) or json"},
    {"--help", "", "print this"},
};

constexpr const char* kAbout =
    "usage: sudoku-load --target URL[,URL...] [options]\n\n"
    "Sends puzzles at a fixed rate, whatever becomes of them, checks every answer, and says\n"
    "at the end how long answers took from the time each request was due, and what failed.\n"
    "SIGINT or SIGTERM ends the sending, a second one the waiting for answers.\n\n";

constexpr const char* kExitCodes = "\nExit codes: 0 nothing failed, 1 something failed, 64 usage\n";

int complain(const std::string& why) {
  std::fprintf(stderr, "sudoku-load: %s\n", why.c_str());
  return kExitUsage;
}

OrError<std::vector<Target>> readTargets(const Options& options) {
  std::vector<Target> targets;
  for (const std::string& item : splitList(options.get("--target").value_or(""), ',')) {
    const auto target = parseTarget(item);
    if (!target) return Failure{"--target: " + target.error()};
    targets.push_back(target.value());
  }
  if (targets.empty()) return Failure{"no target: say --target http://HOST:PORT"};
  return targets;
}

OrError<double> readRate(const Options& options) {
  const std::string text = options.get("--rate").value_or("100");
  double rate = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
  if (error != std::errc() || end != text.data() + text.size() || !(rate > 0 && rate <= 1e6)) {
    return Failure{"--rate must be a number above 0 and at most 1000000"};
  }
  return rate;
}

OrError<Clock::duration> readTime(const Options& options, std::string_view name,
                                  std::string_view otherwise) {
  const auto time = parseDuration(options.get(name).value_or(std::string(otherwise)));
  if (!time || time->count() == 0) {
    return Failure{std::string(name) + " must be a time such as 500ms, 10s or 2m"};
  }
  return Clock::duration(*time);
}

OrError<LoadPlan> makePlan(const Options& options) {
  LoadPlan plan;
  const auto targets = readTargets(options);
  if (!targets) return Failure{targets.error()};
  const auto rate = readRate(options);
  if (!rate) return Failure{rate.error()};
  const auto duration = readTime(options, "--duration", "10s");
  if (!duration) return Failure{duration.error()};
  const auto timeout = readTime(options, "--timeout", "5s");
  if (!timeout) return Failure{timeout.error()};
  const auto connections = parseNumber(options.get("--connections").value_or("64"), 1, 10'000);
  if (!connections) return Failure{"--connections must be a number from 1 to 10000"};
  if (options.has("--duration") && options.has("--until-signal")) {
    return Failure{"--duration and --until-signal exclude each other"};
  }
  plan.targets = targets.value();
  plan.rate = rate.value();
  if (!options.has("--until-signal")) plan.duration = duration.value();
  plan.connections = static_cast<std::size_t>(*connections);
  plan.keep_open = !options.has("--new-connections");
  plan.timeout = timeout.value();
  return plan;
}

int generate(const LoadPlan& plan, bool json) {
  // The kernel may delay timers by 50 us by default: that much error in every latency.
  prctl(PR_SET_TIMERSLACK, 1UL);
  EventLoop loop;
  Generator generator(loop, plan, [&loop] { loop.stop(); });
  const Signals signals(loop, [&generator](int) { generator.stop(); });
  generator.start();
  loop.run();
  const LoadSummary& summary = generator.summary();
  std::fputs((json ? reportJson(plan, summary) : reportText(plan, summary)).c_str(), stdout);
  return summary.failed() == 0 ? kExitOk : kExitFailure;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parseOptions(kOptions, {argv + 1, argv + argc});
  if (!options) return complain(options.error());
  if (options.value().has("--help")) {
    std::printf("%s%s%s", kAbout, formatOptionHelp(kOptions).c_str(), kExitCodes);
    return kExitOk;
  }
  const std::string format = options.value().get("-o").value_or("text");
  if (format != "text" && format != "json") return complain("-o must be text or json");
  const auto plan = makePlan(options.value());
  if (!plan) return complain(plan.error());
  return generate(plan.value(), format == "json");
}
