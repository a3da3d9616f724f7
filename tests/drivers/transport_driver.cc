// Does one thing over the SSH transport and prints one JSON line about it: what
// tests/e2e/test_transport.py drives.
//   transport_driver [--option value]… COMMAND [ARG]…
#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "transport/bootstrap.h"
#include "transport/fan_out.h"
#include "transport/host_link.h"
#include "transport/shell_quote.h"
#include "transport/wait.h"

namespace {

using namespace cctl;
using namespace cctl::ssh;

using Clock = std::chrono::steady_clock;

double msSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

struct Arguments {
  std::map<std::string, std::string> options;
  std::vector<std::string> words;

  std::string get(const std::string& key, const std::string& fallback = "") const {
    const auto it = options.find(key);
    return it == options.end() ? fallback : it->second;
  }
  int number(const std::string& key, int fallback) const {
    const auto it = options.find(key);
    return it == options.end() ? fallback : std::atoi(it->second.c_str());
  }
  std::optional<std::string> maybe(const std::string& key) const {
    const auto it = options.find(key);
    return it == options.end() ? std::nullopt : std::optional(it->second);
  }
};

Arguments parseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--") && i + 1 < argc && arguments.words.empty()) {
      arguments.options[word.substr(2)] = argv[++i];
    } else {
      arguments.words.push_back(word);
    }
  }
  return arguments;
}

Json errorJson(const Error& error) {
  return {{"ok", false}, {"code", std::string(codeName(error.code))}, {"message", error.message}};
}

Json execJson(const Result<ExecResult>& result) {
  if (!result) return errorJson(result.error());
  Json json = {{"ok", true},
               {"exit", result->exit_status},
               {"out", result->out},
               {"err", result->err},
               {"truncated", result->truncated}};
  if (result->signal) json["signal"] = *result->signal;
  return json;
}

class Driver {
 public:
  explicit Driver(Arguments arguments) : arguments_(std::move(arguments)) {}

  Json run() {
    if (arguments_.number("cancel-after", 0) > 0) {
      canceller_ = std::thread([this] {
        std::this_thread::sleep_for(Millis(arguments_.number("cancel-after", 0)));
        cancel_.cancel();
      });
    }
    Json json = command();
    if (canceller_.joinable()) canceller_.join();
    json["prompts"] = prompts_.load();
    json["notices"] = notices_;
    return json;
  }

 private:
  Deadline deadline() const { return Deadline::in(Millis(arguments_.number("timeout", 20'000))); }

  SshTarget target(const std::string& address, std::optional<int> port) const {
    SshTarget target;
    target.name = arguments_.get("name", "host1");
    target.address = address;
    target.port = port;
    target.user = arguments_.maybe("user");
    target.identity_file = arguments_.maybe("identity");
    target.known_hosts = arguments_.maybe("known-hosts");
    target.proxy_jump = arguments_.maybe("jump");
    target.config_file = arguments_.maybe("config");
    target.connect_timeout = Millis(arguments_.number("connect-timeout", 5000));
    return target;
  }

  SshTarget target() const {
    const auto port = arguments_.maybe("port");
    return target(arguments_.get("address", "127.0.0.1"),
                  port ? std::optional(std::atoi(port->c_str())) : std::nullopt);
  }

  std::shared_ptr<SshContext> context() {
    SshPolicy policy;
    policy.accept_new = arguments_.number("accept-new", 0) != 0;
    if (const auto passphrase = arguments_.maybe("passphrase")) {
      policy.passphrase_prompt = [this, answer = *passphrase](const std::string&) {
        ++prompts_;
        std::this_thread::sleep_for(Millis(arguments_.number("typing-time", 0)));
        return std::optional(answer);
      };
    }
    policy.on_notice = [this](const std::string& text) {
      const std::lock_guard lock(mutex_);
      notices_.push_back(text);
    };
    return *SshContext::create(policy);
  }

  Json command() {
    const auto& name = arguments_.words.at(0);
    if (name == "bench-connect") return benchConnect();
    if (name == "fan-out") return fanOutHosts();
    const auto begin = Clock::now();
    auto link = HostLink::connect(target(), context(), deadline(), &cancel_);
    const double connect_ms = msSince(begin);
    Json json = link ? onLink(name, **link) : errorJson(link.error());
    json["connect_ms"] = connect_ms;
    json["total_ms"] = msSince(begin);
    if (link) {
      const auto& info = (*link)->info();
      json["info"] = {{"user", info.user},
                      {"address", info.address},
                      {"port", info.port},
                      {"fingerprint", info.host_key_fingerprint},
                      {"kex", info.kex},
                      {"cipher", info.cipher},
                      {"banner", info.server_banner}};
    }
    return json;
  }

  Json onLink(const std::string& name, HostLink& link) {
    if (name == "connect") return {{"ok", true}};
    if (name == "exec") return exec(link);
    if (name == "parallel") return parallel(link);
    if (name == "echo") return echo(link.openUnixSocket(word(1), deadline(), &cancel_));
    if (name == "control") return echo(link.openControl(word(1), word(2), deadline(), &cancel_));
    if (name == "bench-exec") return benchExec(link);
    if (name == "bench-echo") return benchEcho(link);
    if (name == "push") return push(link);
    if (name == "pull") return pull(link);
    if (name == "hold") return hold(link);
    if (name == "probe") return probe(link);
    if (name == "bootstrap") return bootstrapHost(link);
    return errorJson({Code::kUsage, "no such command: " + name});
  }

  std::string word(size_t index) const {
    return index < arguments_.words.size() ? arguments_.words[index] : "";
  }

  Json exec(HostLink& link) {
    ExecRequest request;
    request.command = word(1);
    if (const auto file = arguments_.maybe("input")) request.input = *readFile(*file);
    request.output_limit = static_cast<size_t>(arguments_.number("limit", 64 << 20));
    const auto begin = Clock::now();
    const auto result = link.exec(request, deadline(), &cancel_);
    Json json = execJson(result);
    json["ms"] = msSince(begin);
    if (result && arguments_.number("digest", 0) != 0) {
      json["size"] = result->out.size();
      json["out"] = sha256Hex(result->out);
    }
    return json;
  }

  Json parallel(HostLink& link) {
    const auto count = static_cast<size_t>(std::stoul(word(1)));
    std::vector<Json> results(count);
    std::vector<std::thread> threads;
    const auto begin = Clock::now();
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] {
        ExecRequest request;
        request.command = fmt::format("{} {}", word(2), i);
        results[i] = execJson(link.exec(request, deadline(), &cancel_));
      });
    }
    for (auto& thread : threads) thread.join();
    return {{"ok", true}, {"results", results}, {"ms", msSince(begin)}};
  }

  // Sends --bytes (default 1 MiB) and reads as many back.
  Json echo(Result<std::unique_ptr<Stream>> opened) {
    if (!opened) return errorJson(opened.error());
    Stream& stream = **opened;
    std::string sent(static_cast<size_t>(arguments_.number("bytes", 1 << 20)), 'x');
    for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 13);
    std::optional<Error> write_error;
    std::thread writer([&] {
      for (size_t at = 0; at < sent.size(); at += 100'000) {
        const auto written = stream.write(std::string_view(sent).substr(at, 100'000), deadline());
        if (!written) {
          write_error = written.error();
          return;
        }
      }
    });
    std::string got;
    std::optional<Error> read_error;
    std::vector<char> buffer(1 << 16);
    while (got.size() < sent.size()) {
      const auto count = stream.read(buffer.data(), buffer.size(), deadline(), &cancel_);
      if (!count) read_error = count.error();
      if (!count || *count == 0) break;
      got.append(buffer.data(), *count);
    }
    writer.join();
    if (read_error) return errorJson(*read_error);
    if (write_error) return errorJson(*write_error);
    return {{"ok", got == sent}, {"bytes", got.size()}, {"message", "compared"}};
  }

  Json push(HostLink& link) {
    const auto bytes = *readFile(word(1), 1u << 30);
    ExecRequest request;
    request.command = "cat > " + shellQuote(word(2));
    bool done = false;
    request.next_input = [&]() -> Result<std::string_view> {
      const auto view = done ? std::string_view() : std::string_view(bytes);
      done = true;
      return view;
    };
    const auto begin = Clock::now();
    Json json = execJson(link.exec(request, deadline(), &cancel_));
    json["ms"] = msSince(begin);
    return json;
  }

  Json pull(HostLink& link) {
    ExecRequest request;
    request.command = "cat " + shellQuote(word(1));
    request.output_limit = 0;
    size_t size = 0;
    Sha256 digest;
    request.on_out = [&](std::string_view bytes) {
      size += bytes.size();
      digest.update(bytes);
    };
    const auto begin = Clock::now();
    Json json = execJson(link.exec(request, deadline(), &cancel_));
    json["ms"] = msSince(begin);
    json["size"] = size;
    json["digest"] = digest.hex();
    return json;
  }

  // Waits on an idle stream until it ends.
  Json hold(HostLink& link) {
    auto stream = link.openExecStream(word(1), deadline(), &cancel_);
    if (!stream) return errorJson(stream.error());
    std::printf("held\n");
    std::fflush(stdout);
    const auto begin = Clock::now();
    Signal ended;
    Json json = {{"ok", true}};
    (*stream)->setOnClose([&](const Error& error) {
      json = errorJson(error);
      ended.set();
    });
    if (!ended.wait(deadline(), &cancel_)) json["message"] = "still up";
    json["ms"] = msSince(begin);
    return json;
  }

  Json benchExec(HostLink& link) {
    const int count = std::stoi(word(1));
    std::vector<double> times;
    for (int i = 0; i < count; ++i) {
      ExecRequest request;
      request.command = "true";
      const auto begin = Clock::now();
      const auto result = link.exec(request, deadline());
      if (!result) return errorJson(result.error());
      times.push_back(msSince(begin));
    }
    return summary(times);
  }

  static Json summary(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    return {{"ok", true},
            {"median_ms", times[times.size() / 2]},
            {"min_ms", times.front()},
            {"max_ms", times.back()}};
  }

  // Round trips of one short line over one stream.
  Json benchEcho(HostLink& link) {
    auto stream = link.openUnixSocket(word(1), deadline());
    if (!stream) return errorJson(stream.error());
    std::vector<double> times;
    char buffer[64];
    for (int i = 0; i < std::stoi(word(2)); ++i) {
      const auto begin = Clock::now();
      if (auto sent = (*stream)->write("hello\n"); !sent) return errorJson(sent.error());
      if (auto got = (*stream)->read(buffer, sizeof buffer, deadline()); !got) {
        return errorJson(got.error());
      }
      times.push_back(msSince(begin));
    }
    return summary(times);
  }

  // Cold connect + true, --count times, each with a context of its own.
  Json benchConnect() {
    std::vector<double> times;
    for (int i = 0; i < arguments_.number("count", 20); ++i) {
      const auto begin = Clock::now();
      auto link = HostLink::connect(target(), context(), deadline());
      if (!link) return errorJson(link.error());
      ExecRequest request;
      request.command = "true";
      if (auto result = (*link)->exec(request, deadline()); !result) {
        return errorJson(result.error());
      }
      times.push_back(msSince(begin));
    }
    return summary(times);
  }

  // fan-out CMD ADDRESS:PORT…
  Json fanOutHosts() {
    const std::vector<std::string> hosts(arguments_.words.begin() + 2, arguments_.words.end());
    FanOutOptions options;
    options.forks = static_cast<size_t>(arguments_.number("forks", 64));
    options.cancel = &cancel_;
    options.late_after = Millis(arguments_.number("late-after", 3000));
    std::vector<Json> late;
    const auto begin = Clock::now();
    options.on_late = [&](size_t index, Millis) {
      const std::lock_guard lock(mutex_);
      late.push_back({{"host", hosts[index]}, {"ms", msSince(begin)}});
    };
    const auto shared = context();
    const auto results = forEachHost<ExecResult>(
        hosts.size(), options, [&](size_t i) { return execOn(hosts[i], shared); });
    Json list = Json::array();
    for (const auto& result : results) list.push_back(execJson(result));
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const double cpu = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
                       static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
    return {
        {"ok", true}, {"results", list}, {"late", late}, {"ms", msSince(begin)}, {"cpu_ms", cpu}};
  }

  Result<ExecResult> execOn(const std::string& host, const std::shared_ptr<SshContext>& shared) {
    const auto colon = host.rfind(':');
    auto where = target(host.substr(0, colon), std::atoi(host.c_str() + colon + 1));
    where.name = host;
    CCTL_TRY(const auto link, HostLink::connect(where, shared, deadline(), &cancel_));
    ExecRequest request;
    request.command = word(1);
    return link->exec(request, deadline(), &cancel_);
  }

  static Json probeJson(const HostProbe& probe) {
    Json json = {{"ok", true},
                 {"machine", probe.machine},
                 {"kernel", probe.kernel},
                 {"root", probe.root},
                 {"user", probe.user},
                 {"home", probe.home},
                 {"uid", probe.uid},
                 {"server_address", probe.server_address},
                 {"systemd", probe.systemd}};
    if (probe.shim_info) json["shim_info"] = *probe.shim_info;
    return json;
  }

  Json probe(HostLink& link) {
    const auto probed = probeHost(link, word(1), deadline(), &cancel_);
    return probed ? probeJson(*probed) : errorJson(probed.error());
  }

  // bootstrap ROOT SHIM_FILE VERSION
  Json bootstrapHost(HostLink& link) {
    const auto shim = *readFile(word(2), 1u << 30);
    BootstrapRequest request;
    request.root = word(1);
    request.cluster = "test";
    request.host = "host1";
    request.shim = shim;
    request.shim_sha256 = arguments_.get("sha256", sha256Hex(shim));
    request.shim_version = word(3);
    request.shim_machine = arguments_.get("machine", "x86_64");
    request.become = arguments_.get("become") == "sudo" ? Become::kSudo : Become::kNone;
    const auto result = bootstrap(link, request, deadline(), &cancel_);
    if (!result) return errorJson(result.error());
    Json json = probeJson(result->probe);
    json["placed"] = result->placed;
    json["outcome"] = result->outcome;
    return json;
  }

  const Arguments arguments_;
  CancelToken cancel_;
  std::thread canceller_;
  std::mutex mutex_;
  std::vector<std::string> notices_;
  std::atomic<int> prompts_{0};
};

}  // namespace

int main(int argc, char** argv) {
  Driver driver(parseArguments(argc, argv));
  const Json json = driver.run();
  std::printf("%s\n", dumpJson(json).c_str());
  return json["ok"] == true ? 0 : 1;
}
