#include "model/signals.h"

#include <charconv>
#include <csignal>
#include <utility>

namespace cctl {
namespace {

constexpr std::pair<std::string_view, int> kSignals[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"ILL", SIGILL},
    {"TRAP", SIGTRAP},     {"ABRT", SIGABRT}, {"BUS", SIGBUS},     {"FPE", SIGFPE},
    {"KILL", SIGKILL},     {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},   {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE},     {"ALRM", SIGALRM}, {"TERM", SIGTERM},   {"CHLD", SIGCHLD},
    {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ},
    {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"IO", SIGIO},
    {"PWR", SIGPWR},       {"SYS", SIGSYS},
};

constexpr int kMaxSignal = 64;  // the last real-time signal on Linux

}  // namespace

std::optional<int> signalFromName(std::string_view name) {
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && end == name.data() + name.size())
    return number >= 1 && number <= kMaxSignal ? std::optional(number) : std::nullopt;
  if (name.substr(0, 3) == "SIG") name.remove_prefix(3);
  for (const auto& [known, value] : kSignals)
    if (known == name) return value;
  return std::nullopt;
}

std::string signalName(int number) {
  for (const auto& [name, value] : kSignals)
    if (value == number) return std::string(name);
  return std::to_string(number);
}

std::vector<std::string> signalNames() {
  std::vector<std::string> names;
  for (const auto& [name, value] : kSignals) names.emplace_back(name);
  return names;
}

}  // namespace cctl
