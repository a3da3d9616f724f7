#include "ops/identity.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/file.h"

namespace cctl::ops {
namespace {

using Environment = std::function<std::optional<std::string>(const char*)>;

std::string hostName() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
  return name;
}

std::string loginName(const Environment& env) {
  if (const passwd* entry = ::getpwuid(::geteuid())) return entry->pw_name;
  return env("USER").value_or(fmt::format("uid {}", ::geteuid()));
}

std::string gitHubJob(const Environment& env) {
  const auto run = env("GITHUB_RUN_ID");
  const auto repository = env("GITHUB_REPOSITORY");
  if (!run || !repository) return "";
  return fmt::format("{}/{}/actions/runs/{}",
                     env("GITHUB_SERVER_URL").value_or("https://github.com"), *repository, *run);
}

std::string ciJob(const Environment& env) {
  if (std::string job = gitHubJob(env); !job.empty()) return job;
  constexpr std::array kJobVariables = {"CI_JOB_URL",       "BUILD_URL",     "BUILDKITE_BUILD_URL",
                                        "CIRCLE_BUILD_URL", "CI_BUILD_LINK", "DRONE_BUILD_LINK",
                                        "BUILD_NUMBER"};
  for (const char* name : kJobVariables)
    if (auto value = env(name); value && !value->empty()) return *value;
  return "";
}

std::string firstLine(std::string text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::string Identity::text() const {
  const std::string person = fmt::format("{}@{}", login, machine);
  return ci_job.empty() ? person : fmt::format("{} ({})", person, ci_job);
}

Identity currentIdentity(const Environment& env) {
  Identity identity;
  identity.login = loginName(env);
  identity.machine = hostName();
  identity.boot_id =
      firstLine(readFile("/proc/sys/kernel/random/boot_id", 1024).value_or("unknown"));
  identity.pid = ::getpid();
  identity.ci_job = ciJob(env);
  return identity;
}

Identity currentIdentity() {
  return currentIdentity([](const char* name) -> std::optional<std::string> {
    const char* value = ::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

}  // namespace cctl::ops
