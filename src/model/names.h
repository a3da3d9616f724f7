// The names of things as types of their own, so that a host cannot be passed for a service.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace cctl {

// A piece of text that is one kind of name and converts to nothing else by itself. The constructor
// checks nothing; text from outside goes through the parse function of its kind.
template <typename Tag>
class Name {
 public:
  Name() = default;
  explicit Name(std::string text) : text_(std::move(text)) {}
  const std::string& str() const { return text_; }
  bool empty() const { return text_.empty(); }
  friend bool operator==(const Name&, const Name&) = default;
  friend std::strong_ordering operator<=>(const Name& a, const Name& b) {
    return a.text_.compare(b.text_) <=> 0;
  }

 private:
  std::string text_;
};

using HostName = Name<struct HostNameTag>;
using ServiceName = Name<struct ServiceNameTag>;
using Version = Name<struct VersionTag>;

// [A-Za-z0-9][A-Za-z0-9._-]{0,62}, not ending in '.': DNS names, IPv4 addresses, nicknames.
[[nodiscard]] Result<HostName> parseHostName(std::string_view text);
// [a-z0-9][a-z0-9_-]{0,62}
[[nodiscard]] Result<ServiceName> parseServiceName(std::string_view text);
// [0-9A-Za-z][0-9A-Za-z._+-]{0,63}, except "instances" and "specs": a version is a directory name
// beside these two (host_paths.h).
[[nodiscard]] Result<Version> parseVersion(std::string_view text);

// One of the processes of a service, numbered from 0 over the whole cluster: sudoku-solver/0.
struct InstanceId {
  ServiceName service;
  int index = 0;

  std::string text() const;
  friend auto operator<=>(const InstanceId&, const InstanceId&) = default;
};

[[nodiscard]] Result<InstanceId> parseInstanceId(std::string_view text);

// What a command works on: a whole service, or one instance of it.
struct Target {
  ServiceName service;
  std::optional<int> index;

  std::string text() const;
  bool covers(const InstanceId& instance) const;
  friend auto operator<=>(const Target&, const Target&) = default;
};

// "sudoku-solver" or "sudoku-solver/3".
[[nodiscard]] Result<Target> parseTarget(std::string_view text);

}  // namespace cctl

template <typename Tag>
struct std::hash<cctl::Name<Tag>> {
  size_t operator()(const cctl::Name<Tag>& name) const noexcept {
    return std::hash<std::string>{}(name.str());
  }
};

template <>
struct std::hash<cctl::InstanceId> {
  size_t operator()(const cctl::InstanceId& id) const noexcept {
    return std::hash<cctl::ServiceName>{}(id.service) * 31 + static_cast<size_t>(id.index);
  }
};

template <typename Tag>
struct fmt::formatter<cctl::Name<Tag>> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const cctl::Name<Tag>& name, Context& context) const {
    return fmt::formatter<std::string_view>::format(name.str(), context);
  }
};

template <>
struct fmt::formatter<cctl::InstanceId> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const cctl::InstanceId& id, Context& context) const {
    return fmt::formatter<std::string_view>::format(id.text(), context);
  }
};

template <>
struct fmt::formatter<cctl::Target> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const cctl::Target& target, Context& context) const {
    return fmt::formatter<std::string_view>::format(target.text(), context);
  }
};
