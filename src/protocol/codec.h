// Structs to JSON and back from one list of fields each: `describe(visitor, message)` names every
// field once, and the two visitors here write or read it. Included by .cc files only.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/json.h"

namespace cctl::protocol {

// Enumerations travel by name. Each has enumNames(E) → a range of {value, name} pairs, found by
// argument-dependent lookup.
template <typename E>
std::string nameOfEnum(E value) {
  for (const auto& [candidate, name] : enumNames(value))
    if (candidate == value) return std::string(name);
  return "?";
}

// Small values that travel as text of their own: text() and fromText().
template <typename T>
concept HasText = requires(const T& value, std::string_view text) {
  { value.text() } -> std::same_as<std::string>;
  { T::fromText(text) } -> std::same_as<Result<T>>;
};

// Writes the text itself: a tree of values in between would cost a push ten times as much.
class FieldWriter {
 public:
  template <typename T>
  void operator()(const char* key, const T& value) {
    text_ += std::exchange(empty_, false) ? "{\"" : ",\"";
    text_ += key;
    text_ += "\":";
    write(value);
  }
  // Left out when it has its default value.
  template <typename T>
  void maybe(const char* key, const T& value) {
    if (!(value == T{})) (*this)(key, value);
  }
  std::string take() {
    close();
    return std::move(text_);
  }

 private:
  void close() { text_ += empty_ ? "{}" : "}"; }
  template <typename T>
  void write(const std::vector<T>& values) {
    text_ += '[';
    for (const T& value : values) {
      if (&value != &values.front()) text_ += ',';
      write(value);
    }
    text_ += ']';
  }
  template <typename T>
  void write(const std::map<std::string, T>& values) {
    text_ += '{';
    for (const auto& [key, value] : values) {
      if (&key != &values.begin()->first) text_ += ',';
      write(key);
      text_ += ':';
      write(value);
    }
    text_ += '}';
  }
  template <typename T>
  void write(const std::optional<T>& value) {
    if (value)
      write(*value);
    else
      text_ += "null";
  }
  void write(const std::string& value) {
    const bool is_plain = std::all_of(value.begin(), value.end(), [](char c) {
      return c >= ' ' && c <= '~' && c != '"' && c != '\\';
    });
    if (!is_plain) {
      text_ += dumpJson(value);
      return;
    }
    text_ += '"';
    text_ += value;
    text_ += '"';
  }
  void write(bool value) { text_ += value ? "true" : "false"; }
  void write(Millis value) { write(value.count()); }
  void write(WallTime value) { write(formatTime(value)); }
  void write(const JsonText& value) { text_ += value.text; }
  template <typename T>
  void write(const T& value) {
    if constexpr (HasText<T>) {
      write(value.text());
    } else if constexpr (std::is_enum_v<T>) {
      write(nameOfEnum(value));
    } else if constexpr (std::is_integral_v<T>) {
      text_ += std::to_string(value);
    } else if constexpr (std::is_floating_point_v<T>) {
      text_ += dumpJson(value);
    } else {
      empty_ = true;
      describe(*this, value);
      close();
      empty_ = false;  // of the one around it, which has at least this
    }
  }

  std::string text_;
  bool empty_ = true;  // the innermost object that is open
};

// Remembers the first thing that does not fit and ignores the rest; fields that it does not know
// are passed over, since a newer peer may add some.
class FieldReader {
 public:
  explicit FieldReader(const Json& json) : json_(json) {
    if (!json.is_object()) problem_ = "not an object";
  }

  template <typename T>
  void operator()(const char* key, T& value) {
    if (!problem_.empty()) return;
    const auto found = json_.find(key);
    if (found == json_.end()) {
      problem_ = fmt::format("field \"{}\" is missing", key);
      return;
    }
    readNamed(key, *found, value);
  }
  template <typename T>
  void maybe(const char* key, T& value) {
    if (!problem_.empty()) return;
    const auto found = json_.find(key);
    if (found != json_.end()) readNamed(key, *found, value);
  }
  const std::string& problem() const { return problem_; }

 private:
  template <typename T>
  void readNamed(const char* key, const Json& json, T& value) {
    const std::string problem = read(json, value);
    if (!problem.empty()) problem_ = fmt::format("field \"{}\": {}", key, problem);
  }

  // Each returns what is wrong, or nothing.
  template <typename T>
  static std::string read(const Json& json, std::vector<T>& values) {
    if (!json.is_array()) return "not a list";
    values.clear();
    for (const Json& item : json) {
      if (std::string problem = read(item, values.emplace_back()); !problem.empty()) return problem;
    }
    return {};
  }
  template <typename T>
  static std::string read(const Json& json, std::map<std::string, T>& values) {
    if (!json.is_object()) return "not an object";
    values.clear();
    for (const auto& [key, item] : json.items())
      if (std::string problem = read(item, values[key]); !problem.empty()) return problem;
    return {};
  }
  template <typename T>
  static std::string read(const Json& json, std::optional<T>& value) {
    value.reset();
    return json.is_null() ? std::string() : read(json, value.emplace());
  }
  static std::string read(const Json& json, std::string& value) {
    if (!json.is_string()) return "not a string";
    value = json.get<std::string>();
    return {};
  }
  static std::string read(const Json& json, bool& value) {
    if (!json.is_boolean()) return "not true or false";
    value = json.get<bool>();
    return {};
  }
  static std::string read(const Json& json, JsonText& value) {
    value.text = dumpJson(json);
    return {};
  }
  static std::string read(const Json& json, double& value) {
    if (!json.is_number()) return "not a number";
    value = json.get<double>();
    return {};
  }
  static std::string read(const Json& json, Millis& value) {
    int64_t count = 0;
    std::string problem = read(json, count);
    value = Millis(count);
    return problem;
  }
  static std::string read(const Json& json, WallTime& value) {
    std::string text;
    if (std::string problem = read(json, text); !problem.empty()) return problem;
    auto time = parseTime(text);
    if (!time) return time.error().message;
    value = *time;
    return {};
  }
  template <typename T>
  static std::string read(const Json& json, T& value) {
    if constexpr (HasText<T>) {
      return readText(json, value);
    } else if constexpr (std::is_enum_v<T>) {
      return readEnum(json, value);
    } else if constexpr (std::is_integral_v<T>) {
      return readInteger(json, value);
    } else {
      FieldReader inner(json);
      describe(inner, value);
      return inner.problem();
    }
  }
  template <typename T>
  static std::string readInteger(const Json& json, T& value) {
    if (!json.is_number_integer()) return "not a whole number";
    if (json.is_number_unsigned()) {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(std::numeric_limits<T>::max())) return "too large";
      value = static_cast<T>(number);
      return {};
    }
    const auto number = json.get<int64_t>();
    if (std::is_unsigned_v<T> || number < static_cast<int64_t>(std::numeric_limits<T>::min()))
      return "too small";
    value = static_cast<T>(number);
    return {};
  }
  template <typename T>
  static std::string readText(const Json& json, T& value) {
    std::string text;
    if (std::string problem = read(json, text); !problem.empty()) return problem;
    auto parsed = T::fromText(text);
    if (!parsed) return parsed.error().message;
    value = *parsed;
    return {};
  }
  template <typename E>
  static std::string readEnum(const Json& json, E& value) {
    if (!json.is_string()) return "not a string";
    const auto text = json.get<std::string>();
    for (const auto& [candidate, name] : enumNames(value)) {
      if (name != text) continue;
      value = candidate;
      return {};
    }
    return fmt::format("\"{}\" is not known here", text);
  }

  const Json& json_;
  std::string problem_;
};

template <typename T>
std::string encodeFields(const T& message) {
  FieldWriter writer;
  describe(writer, message);
  return writer.take();
}

template <typename T>
Result<T> decodeFields(const Json& json) {
  T message;
  FieldReader reader(json);
  describe(reader, message);
  if (!reader.problem().empty()) return fail(Code::kCorrupt, "{}", reader.problem());
  return message;
}

}  // namespace cctl::protocol
