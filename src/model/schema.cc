#include "model/schema.h"

#include <algorithm>
#include <charconv>

namespace cctl {
namespace {

constexpr NotYet kNotYet[] = {
    {"cluster:alerts.on", "host-down"}, {"cluster:alerts.webhook", ""}, {"service:boot", "wait"},
    {"service:failover", ""},           {"service:sign_off", ""},       {"service:singleton", ""},
};

std::string_view partOf(std::string_view& path) {
  const size_t end = std::min(path.find_first_of(":."), path.size());
  const std::string_view part = path.substr(0, end);
  path.remove_prefix(std::min(end + 1, path.size()));
  return part;
}

bool matchesPath(std::string_view pattern, std::string_view path) {
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = partOf(pattern), part = partOf(path);
    if (wanted != "*" && wanted != part) return false;
  }
  return pattern.empty() && path.empty();
}

// "health.live" of "service:health.live".
std::string withoutDocument(const std::string& path) { return path.substr(path.find(':') + 1); }

void reportKind(const Node& node, std::string_view what, std::string_view wanted,
                std::string_view example, Problems& problems) {
  problems.add(node.where(), fmt::format("{}: {} where {} belongs", what, node.kindName(), wanted),
               example.empty() ? std::string() : fmt::format("write like {}", example));
}

}  // namespace

bool refuseNotYet(const std::string& path, const Node& value, Problems& problems) {
  for (const NotYet& entry : kNotYet) {
    if (!matchesPath(entry.path, path)) continue;
    if (!entry.value.empty() && value.text() != entry.value) continue;
    const std::string name = withoutDocument(path);
    const std::string shown = entry.value.empty() ? name : fmt::format("{}: {}", name, entry.value);
    problems.add(value.where(), fmt::format("{} is known, but not enforced by this build", shown),
                 "remove it until a later version enforces it");
    return true;
  }
  return false;
}

MapReader::MapReader(const Node& node, std::string path, Problems& problems)
    : node_(node), path_(std::move(path)), problems_(problems) {
  if (!node.isMap()) {
    const bool document = path_.find(':') == std::string::npos;
    reportKind(node, document ? "the file" : withoutDocument(path_), "a map of keys and values", "",
               problems_);
  }
  refuseNotYet();
}

void MapReader::refuseNotYet() {
  for (const Node::Member& member : node_.members())
    if (cctl::refuseNotYet(pathOf(member.key), member.value, problems_))
      refused_.push_back(member.key);
}

const Node* MapReader::find(std::string_view key) {
  known_.emplace_back(key);
  if (std::find(refused_.begin(), refused_.end(), key) != refused_.end()) return nullptr;
  return node_.find(key);
}

const Node* MapReader::require(std::string_view key, std::string_view example) {
  const Node* found = find(key);
  if (found == nullptr && ok() &&
      std::find(refused_.begin(), refused_.end(), key) == refused_.end())
    problems_.add(node_.where(), fmt::format("{} is missing", nameOf(key)),
                  fmt::format("add it, like {}", example));
  return found;
}

void MapReader::finish() {
  for (const Node::Member& member : node_.members()) {
    if (std::find(known_.begin(), known_.end(), member.key) != known_.end()) continue;
    if (std::find(refused_.begin(), refused_.end(), member.key) != refused_.end()) continue;
    problems_.add(member.where, fmt::format("unknown key \"{}\"", printable(nameOf(member.key))),
                  spellingHint(member.key, known_,
                               fmt::format("remove it; known here: {}", fmt::join(known_, ", "))));
  }
}

std::string MapReader::pathOf(std::string_view key) const {
  return fmt::format("{}{}{}", path_, path_.find(':') == std::string::npos ? ':' : '.', key);
}

std::string MapReader::nameOf(std::string_view key) const { return withoutDocument(pathOf(key)); }

std::optional<std::string> readText(const Node& node, std::string_view what, Problems& problems) {
  if (!node.isScalar() || node.isNull()) {
    reportKind(node, what, "a single value", "", problems);
    return std::nullopt;
  }
  return node.text();
}

std::optional<int64_t> parseInteger(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  if (!whole || number < 0 || text[0] == '-' || (text.size() > 1 && text[0] == '0'))
    return std::nullopt;
  return number;
}

std::optional<int64_t> readInteger(const Node& node, std::string_view what, int64_t least,
                                   int64_t most, Problems& problems) {
  const auto text = readText(node, what, problems);
  if (!text) return std::nullopt;
  const auto number = parseInteger(*text);
  if (number && *number >= least && *number <= most) return number;
  problems.add(node.where(), fmt::format("{}: \"{}\" is not a whole number from {} to {}", what,
                                         printable(*text), least, most));
  return std::nullopt;
}

std::optional<bool> readTruth(const Node& node, std::string_view what, Problems& problems) {
  return readChoice<bool>(node, what, {{"true", true}, {"false", false}}, problems);
}

std::optional<Millis> readDuration(const Node& node, std::string_view what, Millis least,
                                   Millis most, Problems& problems) {
  const auto duration = readParsed(node, what, parseDuration, problems);
  if (!duration || (*duration >= least && *duration <= most)) return duration;
  problems.add(node.where(),
               fmt::format("{}: {} is not between {} and {}", what, formatDuration(*duration),
                           formatDuration(least), formatDuration(most)));
  return std::nullopt;
}

std::optional<uint64_t> readSize(const Node& node, std::string_view what, uint64_t least,
                                 uint64_t most, Problems& problems) {
  const auto size = readParsed(node, what, parseSize, problems);
  if (!size || (*size >= least && *size <= most)) return size;
  problems.add(node.where(), fmt::format("{}: {} is not between {} and {}", what, humanSize(*size),
                                         humanSize(least), humanSize(most)));
  return std::nullopt;
}

std::optional<std::vector<const Node*>> readList(const Node& node, std::string_view what,
                                                 std::string_view example, Problems& problems) {
  if (!node.isSequence()) {
    reportKind(node, what, "a list", example, problems);
    return std::nullopt;
  }
  std::vector<const Node*> items;
  for (const Node& item : node.items()) items.push_back(&item);
  return items;
}

}  // namespace cctl
