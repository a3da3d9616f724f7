// web-server: options in, service out. What it does is in service.h.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "web/service.h"
#include "web/version.h"

namespace {

using namespace sudoku;

const std::vector<OptionSpec> kOptions{
    {"--port", "N", "where to serve HTTP (default: $PORT_MAIN); 0: the kernel chooses"},
    {"--listen", "ADDRESS", "numeric address to listen on (default: 0.0.0.0)"},
    {"--conf", "FILE", "configuration, read again at SIGHUP"},
    {"--solvers", "A:P,B:P", "the solvers; wins over the `solver = A:P` lines of the file"},
    {"--solver-service", "NAME", "follow the solvers by this name, over $CLUSTERCTL_NAMING"},
    {"--version", "", "print the version"},
    {"--help", "", "print this"},
};

constexpr const char* kAbout =
    "usage: web-server --port N [options]\n\n"
    "A page where a person fills in and solves sudokus, and GET /solve/<81 digits>; passes\n"
    "puzzles on to all solvers it is given, and to another one when one fails. /healthz says\n"
    "that it serves, /readyz that a solver is connected, /stats what it did. A port passed\n"
    "as LISTEN_FDS (name main) wins over options. SIGTERM finishes what was asked.\n\n";

constexpr const char* kExitCodes =
    "\nKeys of the file: solver (repeated), solver_service, connections_per_solver, "
    "solver_timeout, eject_for,\n"
    "max_pending, max_connections, idle_timeout, shutdown_grace, log_level, motd\n"
    "Exit codes: 0 stopped by a signal, 64 bad options, 65 bad configuration, 69 port taken\n";

int complain(int code, const std::string& why) {
  std::fprintf(stderr, "web-server: %s\n", why.c_str());
  return code;
}

OrError<std::vector<HostPort>> parseSolvers(const Options& options) {
  std::vector<HostPort> solvers;
  for (const std::string& item : splitList(options.get("--solvers").value_or(""), ',')) {
    const auto address = parseHostPort(item);
    if (!address) return Failure{"--solvers: " + address.error()};
    solvers.push_back(address.value());
  }
  return solvers;
}

int openPortAndServe(const Options& options, WebSetup setup) {
  auto inherited = takeInheritedSockets();
  auto choice = choosePort("main", options, inherited);
  if (!choice) return complain(kExitUsage, choice.error());
  if (!choice.value()) return complain(kExitUsage, "no port: say --port N or set PORT_MAIN");
  auto port = openPort(std::move(*choice.value()));
  if (!port) return complain(kExitUnavailable, port.error());
  setup.main = std::move(port.value());
  WebService service(std::move(setup));
  service.run();
  return kExitOk;
}

int run(const Options& options) {
  WebSetup setup;
  const auto solvers = parseSolvers(options);
  if (!solvers) return complain(kExitUsage, solvers.error());
  setup.solvers = solvers.value();
  setup.conf_path = options.get("--conf").value_or("");
  if (!setup.conf_path.empty()) {
    const auto text = readConfFile(setup.conf_path);
    if (!text) return complain(kExitConf, text.error());
    const auto conf = parseWebConf(text.value(), setup.conf_path);
    if (!conf) return complain(kExitConf, conf.error());
    setup.conf = conf.value();
  }
  setup.solver_service = options.get("--solver-service").value_or("");
  return openPortAndServe(options, std::move(setup));
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
    std::printf("web-server %s\n", std::string(kVersion).c_str());
    return kExitOk;
  }
  return run(options.value());
}
