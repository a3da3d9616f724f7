// sudoku-solver: options in, service out. What it does is in service.h.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "solver/service.h"
#include "solver/version.h"

namespace {

using namespace sudoku;

const std::vector<OptionSpec> kOptions{
    {"--port", "N", "where puzzles are solved (default: $PORT_MAIN); 0: the kernel chooses"},
    {"--admin-port", "N", "HTTP: /healthz, /stats, /metrics (default: $PORT_ADMIN, else none)"},
    {"--listen", "ADDRESS", "numeric address to listen on (default: 0.0.0.0)"},
    {"--conf", "FILE", "configuration, read again at SIGHUP"},
    {"--threads", "N", "threads that solve (default: the file's, else one for each core)"},
    {"--version", "", "print the version"},
    {"--help", "", "print this"},
};

constexpr const char* kAbout =
    "usage: sudoku-solver --port N [options]\n\n"
    "Solves sudokus over TCP: a line `[id:]<81 digits>\\r\\n`, 0 for an empty cell, is\n"
    "answered by `[id:]<81 digits>\\r\\n` or `[id:]NoSolution\\r\\n`, in order; what is no\n"
    "such line by `Bad Request!\\r\\n` and the end of the connection.\n"
    "Ports passed as LISTEN_FDS (names main, admin) win over options. SIGTERM finishes\n"
    "what was asked and exits; a client may then find its idle connection closed.\n\n";

constexpr const char* kExitCodes =
    "\nKeys of the file: threads, max_connections, idle_timeout, shutdown_grace, log_level, motd\n"
    "Exit codes: 0 stopped by a signal, 64 bad options, 65 bad configuration, 69 port taken\n";

int complain(int code, const std::string& why) {
  std::fprintf(stderr, "sudoku-solver: %s\n", why.c_str());
  return code;
}

int serve(SolverSetup setup) {
  SolverService service(std::move(setup));
  service.run();
  return kExitOk;
}

int openPortsAndServe(const Options& options, SolverSetup setup) {
  auto inherited = takeInheritedSockets();
  auto main_choice = choosePort("main", options, inherited);
  if (!main_choice) return complain(kExitUsage, main_choice.error());
  if (!main_choice.value()) return complain(kExitUsage, "no port: say --port N or set PORT_MAIN");
  auto admin_choice = choosePort("admin", options, inherited);
  if (!admin_choice) return complain(kExitUsage, admin_choice.error());
  auto main_port = openPort(std::move(*main_choice.value()));
  if (!main_port) return complain(kExitUnavailable, main_port.error());
  setup.main = std::move(main_port.value());
  if (!admin_choice.value()) return serve(std::move(setup));
  auto admin_port = openPort(std::move(*admin_choice.value()));
  if (!admin_port) return complain(kExitUnavailable, admin_port.error());
  setup.admin = std::move(admin_port.value());
  return serve(std::move(setup));
}

int run(const Options& options) {
  SolverSetup setup;
  if (const auto text = options.get("--threads")) {
    setup.threads = parseNumber(*text, 1, 256);
    if (!setup.threads) return complain(kExitUsage, "--threads must be a number from 1 to 256");
  }
  setup.conf_path = options.get("--conf").value_or("");
  if (!setup.conf_path.empty()) {
    const auto text = readConfFile(setup.conf_path);
    if (!text) return complain(kExitConf, text.error());
    const auto conf = parseSolverConf(text.value(), setup.conf_path);
    if (!conf) return complain(kExitConf, conf.error());
    setup.conf = conf.value();
  }
  return openPortsAndServe(options, std::move(setup));
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parseOptions(kOptions, {argv + 1, argv + argc});
  if (!options) return complain(kExitUsage, options.error());
  if (options.value().has("--help")) {
    std::printf("%s%s%s", kAbout, formatOptionHelp(kOptions).c_str(), kExitCodes);
    return kExitOk;
  }
  if (options.value().has("--version")) {
    std::printf("sudoku-solver %s\n", std::string(kVersion).c_str());
    return kExitOk;
  }
  return run(options.value());
}
