// Small matters of wording.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace cctl {

// "1 instance", "3 instances"
inline std::string counted(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// "host1: no answer", also when the text names its subject by itself, as errors of hosts do.
inline std::string about(const std::string& subject, std::string text) {
  if (subject.empty()) return text;
  const std::string name = subject + ": ";
  const size_t at = text.find(name);
  if (at != std::string::npos && (at == 0 || text.substr(0, at).ends_with(": ")))
    text.erase(at, name.size());
  return name + text;
}

}  // namespace cctl
