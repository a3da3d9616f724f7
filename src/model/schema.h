// Readers from Node to values that record what is wrong, with its place, and go on.
// `what` in every function is the key's path for messages: "upgrade.batch".
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "model/node.h"
#include "model/problem.h"
#include "model/utf8.h"

namespace cctl {

// A key, or a key with one value, that the interface has and this build does not enforce. Refused
// by name, so that nobody believes it works. Later work deletes lines from the table in schema.cc.
struct NotYet {
  std::string_view path;   // "cluster:alerts", "service:health.live"; "*" stands for any key
  std::string_view value;  // empty: whatever the value
};

// Reads a map's members, and remembers which keys it was asked for.
class MapReader {
 public:
  // `path` is "cluster" or "service" for a document, and grows by keys: "service:health.ready".
  MapReader(const Node& node, std::string path, Problems& problems);

  bool ok() const { return node_.isMap(); }  // otherwise reported already, and all keys absent
  // nullptr when absent, and when refused as not enforced yet.
  const Node* find(std::string_view key);
  // The same; absence is reported with `example`.
  const Node* require(std::string_view key, std::string_view example);
  // Reports every key that was not asked for. Call last.
  void finish();

  // "health.ready" for the path "service:health" and the key "ready".
  std::string nameOf(std::string_view key) const;
  std::string pathOf(std::string_view key) const;
  Problems& problems() { return problems_; }
  const Location& where() const { return node_.where(); }

 private:
  void refuseNotYet();

  const Node& node_;
  std::string path_;
  Problems& problems_;
  std::vector<std::string> known_;
  std::vector<std::string> refused_;
};

// Reports and returns true when `path` (with this value) is not enforced by this build.
bool refuseNotYet(const std::string& path, const Node& value, Problems& problems);

// Every reader below returns nullopt after it has reported.
std::optional<std::string> readText(const Node& node, std::string_view what, Problems& problems);
std::optional<int64_t> readInteger(const Node& node, std::string_view what, int64_t least,
                                   int64_t most, Problems& problems);
std::optional<bool> readTruth(const Node& node, std::string_view what, Problems& problems);
std::optional<Millis> readDuration(const Node& node, std::string_view what, Millis least,
                                   Millis most, Problems& problems);
std::optional<uint64_t> readSize(const Node& node, std::string_view what, uint64_t least,
                                 uint64_t most, Problems& problems);

// A list of values without lists or maps in it; nullopt when it is not a list.
std::optional<std::vector<const Node*>> readList(const Node& node, std::string_view what,
                                                 std::string_view example, Problems& problems);

// Strictly decimal: no sign, no leading zeros, no blanks.
std::optional<int64_t> parseInteger(std::string_view text);

// One of a few words.
template <typename T>
std::optional<T> readChoice(const Node& node, std::string_view what,
                            std::initializer_list<std::pair<std::string_view, T>> choices,
                            Problems& problems) {
  const auto text = readText(node, what, problems);
  if (!text) return std::nullopt;
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) {
    if (word == *text) return value;
    words.emplace_back(word);
  }
  problems.add(node.where(),
               fmt::format("{}: \"{}\" is not one of {}", what, *text, fmt::join(words, ", ")),
               spellingHint(*text, words, "write one of these"));
  return std::nullopt;
}

// Runs `parse` (a Result-returning parser of text) over a scalar.
template <typename Parser>
auto readParsed(const Node& node, std::string_view what, Parser parse, Problems& problems)
    -> std::optional<typename decltype(parse(std::string_view()))::value_type> {
  const auto text = readText(node, what, problems);
  if (!text) return std::nullopt;
  auto parsed = parse(*text);
  if (parsed) return std::move(*parsed);
  problems.add(node.where(), fmt::format("{}: {}", what, parsed.error().message));
  return std::nullopt;
}

}  // namespace cctl
