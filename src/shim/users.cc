#include "shim/users.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <map>
#include <optional>
#include <string_view>

#include "base/file.h"

namespace cctl::shim {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// name:password:uid:gid:gecos:home:shell
std::optional<User> parsePasswdLine(std::string_view line) {
  const auto fields = split(line, ':');
  if (fields.size() < 6) return std::nullopt;
  const auto uid = number(fields[2]);
  const auto gid = number(fields[3]);
  if (!uid || !gid) return std::nullopt;
  return User{*uid, *gid, std::string(fields[0]), std::string(fields[5]), {*gid}};
}

std::optional<User> userIn(std::string_view passwd, std::string_view name, bool by_number) {
  for (const std::string_view line : split(passwd, '\n')) {
    auto user = parsePasswdLine(line);
    if (!user) continue;
    if (by_number ? number(name) == user->uid : user->name == name) return user;
  }
  return std::nullopt;
}

// name:password:gid:member,member
void addGroups(std::string_view group, User& user) {
  for (const std::string_view line : split(group, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 4) continue;
    const auto gid = number(fields[2]);
    const auto members = split(fields[3], ',');
    if (!gid || std::find(members.begin(), members.end(), user.name) == members.end()) continue;
    if (std::find(user.groups.begin(), user.groups.end(), *gid) == user.groups.end())
      user.groups.push_back(*gid);
  }
}

// Every start asks for these; they are read again when they have changed.
Result<std::string> readCached(const std::string& path) {
  struct Kept {
    struct stat info {};
    std::string text;
  };
  static std::map<std::string, Kept> kept;
  struct stat now {};
  if (::stat(path.c_str(), &now) != 0) return failErrno(errno, path);
  Kept& known = kept[path];
  const auto same = [](const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  };
  if (known.info.st_ino == now.st_ino && known.info.st_dev == now.st_dev &&
      known.info.st_size == now.st_size && same(known.info.st_ctim, now.st_ctim))
    return known.text;
  CCTL_TRY(known.text, readFile(path));
  timespec clock{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &clock);
  known.info = now;
  // Changed a moment ago: a later change might not show.
  if (clock.tv_sec - now.st_ctim.tv_sec < 2) known.info.st_ino = 0;
  return known.text;
}

}  // namespace

Result<User> findUser(const std::string& name, const std::string& passwd,
                      const std::string& group) {
  CCTL_TRY(const std::string text, readCached(passwd));
  auto user = userIn(text, name, false);
  if (!user) user = userIn(text, name, true);
  if (!user)
    return fail(Code::kNotFound, "this host has no user \"{}\" in {}; make it, or name another",
                name, passwd);
  if (const auto groups = readCached(group)) addGroups(*groups, *user);
  return *user;
}

User thisUser() {
  const std::string uid = std::to_string(::geteuid());
  if (const auto text = readCached("/etc/passwd"))
    if (auto user = userIn(*text, uid, true)) return *user;
  return User{::geteuid(), ::getegid(), uid, "/", {::getegid()}};
}

}  // namespace cctl::shim
