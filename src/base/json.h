// JSON as this project reads it: from untrusted bytes, with errors as values and without surprises.
// Only .cc files include <nlohmann/json.hpp>; headers use this forward declaration.
#pragma once

#include <exception>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cctl {

using Json = nlohmann::json;

// One JSON text (RFC 8259). Refuses duplicate keys, nesting deeper than 64 and anything after it.
[[nodiscard]] Result<Json> parseJson(std::string_view text);

// What one of the library's errors says, without its own marks: "type must be string, but is null".
std::string jsonProblem(const std::exception& error);

// A JSON value as its compact text: what a header can hold of one without the library. It goes into
// messages as it is, so whoever makes one takes the text from dumpJson() or a decoder.
struct JsonText {
  std::string text = "null";
  bool isNull() const { return text == "null"; }
  bool operator==(const JsonText&) const = default;
};

// Compact, on one line; bytes that are not UTF-8 become U+FFFD, so it never fails.
std::string dumpJson(const Json& value);
// Indented by two, for people.
std::string dumpJsonPretty(const Json& value);

}  // namespace cctl
