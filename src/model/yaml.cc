// Bytes → Node, through yaml-cpp's events. Its Node class is not used: it lets duplicate keys pass,
// loads cycles, and expands aliases without bound.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "model/node.h"
#include "model/utf8.h"

namespace cctl {
namespace {

constexpr size_t kMaxKey = 256;

// Thrown to leave the parser's recursion; the problem was recorded before.
struct Abandoned {};

bool isQuotedTag(const std::string& tag) { return tag == "!" || tag == "tag:yaml.org,2002:str"; }

bool isKnownTag(const std::string& tag) {
  return tag.empty() || tag == "?" || isQuotedTag(tag) || tag == "tag:yaml.org,2002:map" ||
         tag == "tag:yaml.org,2002:seq";
}

size_t countNodes(const Node& node) {
  size_t count = 1;
  for (const Node& item : node.items()) count += countNodes(item);
  for (const Node::Member& member : node.members()) count += 1 + countNodes(member.value);
  return count;
}

int depthOf(const Node& node) {
  int deepest = 0;
  for (const Node& item : node.items()) deepest = std::max(deepest, depthOf(item));
  for (const Node::Member& member : node.members())
    deepest = std::max(deepest, depthOf(member.value));
  return deepest + 1;
}

// A list or map that is being read.
struct Open {
  Location where;
  YAML::anchor_t anchor = YAML::NullAnchor;
  bool is_map = false;
  Node::Sequence items;
  Node::Map members;
  std::map<std::string, Location> keys;
  std::optional<Node::Member> pending;  // a key that waits for its value
  bool skip_value = false;              // of a key that was refused
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& file, Problems& problems)
      : file_(file), problems_(problems), root_({file, 1, 1}, Node::Scalar{}) {}

  Node takeRoot() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ == 0) return;
    abandon(place(mark), "a second document begins here", "keep one document in a file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (awaitsKey()) return refuseKey(place(mark), "a key is missing or is null");
    // The library's mark is that of the next token, which may be lines away.
    const Location where = awaitsValue()   ? open_.back().pending->where
                           : open_.empty() ? Location{file_, 1, 1}
                                           : place(mark);
    add(Node(where, Node::Scalar{}), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (awaitsKey()) return refuseKey(place(mark), "an alias cannot be a key");
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end())
      abandon(place(mark), "this alias refers to something that contains it",
              "write the content out");
    count(place(mark), countNodes(found->second));
    checkDepth(place(mark), depthOf(found->second));
    add(Node(found->second), YAML::NullAnchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const Location where = place(mark);
    count(where, 1);
    checkTag(where, tag);
    if (hasControlCharacter(value))
      problems_.add(where, "the text contains a control character", "take it out");
    if (awaitsKey()) return addKey(where, value);
    add(Node(where, Node::Scalar{value, isQuotedTag(tag)}), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(place(mark), tag, anchor, false);
  }
  void OnSequenceEnd() override { end(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(place(mark), tag, anchor, true);
  }
  void OnMapEnd() override { end(); }

 private:
  Location place(const YAML::Mark& mark) const { return {file_, mark.line + 1, mark.column + 1}; }

  [[noreturn]] void abandon(const Location& where, std::string message, std::string hint) {
    problems_.add(where, std::move(message), std::move(hint));
    throw Abandoned{};
  }

  void count(const Location& where, size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > kMaxYamlNodes)
      abandon(where, fmt::format("more than {} values, aliases counted", kMaxYamlNodes),
              "make the file smaller");
  }

  void checkDepth(const Location& where, int more) {
    if (static_cast<int>(open_.size()) + more > kMaxYamlDepth)
      abandon(where, fmt::format("nested deeper than {}", kMaxYamlDepth), "make it flatter");
  }

  void checkTag(const Location& where, const std::string& tag) {
    if (!isKnownTag(tag))
      problems_.add(where, fmt::format("tag \"{}\" is not taken", printable(tag)),
                    "remove it: every value keeps its text");
  }

  bool awaitsKey() const { return !open_.empty() && open_.back().is_map && !open_.back().pending; }
  bool awaitsValue() const { return !open_.empty() && open_.back().is_map && open_.back().pending; }

  // The value that belongs to the key is read and dropped.
  void refuseKey(const Location& where, std::string message, std::string hint = {}) {
    if (hint.empty()) hint = "write it as text";
    problems_.add(where, std::move(message), std::move(hint));
    open_.back().pending = Node::Member{{}, where, {}};
    open_.back().skip_value = true;
  }

  void addKey(const Location& where, const std::string& key) {
    Open& map = open_.back();
    if (key == "<<")
      return refuseKey(where, "merge keys (<<) are not taken", "write the content out");
    if (key.size() > kMaxKey)
      return refuseKey(where, fmt::format("a key longer than {} bytes", kMaxKey), "shorten it");
    const auto [first, fresh] = map.keys.emplace(key, where);
    if (!fresh)
      return refuseKey(where, fmt::format("\"{}\" is given twice", printable(key)),
                       fmt::format("remove one; the first is on line {}", first->second.line));
    map.pending = Node::Member{key, where, {}};
  }

  void begin(const Location& where, const std::string& tag, YAML::anchor_t anchor, bool is_map) {
    // The library takes a bracket that is never closed for the beginning of a key, too.
    if (awaitsKey())
      abandon(where, "a list or a map cannot be a key, or a bracket is never closed",
              "close each bracket, and write keys as text");
    count(where, 1);
    checkDepth(where, 1);
    checkTag(where, tag);
    Open open;
    open.where = where;
    open.anchor = anchor;
    open.is_map = is_map;
    open_.push_back(std::move(open));
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.is_map)
      add(Node(done.where, std::move(done.members)), done.anchor);
    else
      add(Node(done.where, std::move(done.items)), done.anchor);
  }

  void add(Node node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (!parent.is_map) {
      parent.items.push_back(std::move(node));
      return;
    }
    if (!parent.skip_value) {
      parent.pending->value = std::move(node);
      parent.members.push_back(std::move(*parent.pending));
    }
    parent.pending.reset();
    parent.skip_value = false;
  }

  const std::string& file_;
  Problems& problems_;
  Node root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
  size_t nodes_ = 0;
  int documents_ = 0;
};

// What is wrong with the bytes themselves, before any syntax.
bool checkBytes(std::string_view bytes, const std::string& file, Problems& problems) {
  if (bytes.size() > kMaxYamlBytes) {
    problems.add({file, 0, 0}, fmt::format("larger than {} MiB", kMaxYamlBytes >> 20),
                 "split it up");
    return false;
  }
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") {
    problems.add({file, 1, 1}, "begins with a byte order mark", "save it as UTF-8 without one");
    return false;
  }
  if (const auto bad = findBadByte(bytes)) {
    problems.add({file, bad->line, bad->column},
                 fmt::format("byte 0x{:02X} {}", bad->byte,
                             bad->control ? "is a control character" : "is not UTF-8"),
                 bad->control ? "take it out" : "save the file as UTF-8");
    return false;
  }
  return true;
}

int hexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The code unit of "\uXXXX" at `at`; 0 when there is none.
uint32_t unicodeEscape(std::string_view text, size_t at) {
  if (at + 6 > text.size() || text.substr(at, 2) != "\\u") return 0;
  uint32_t unit = 0;
  for (size_t i = at + 2; i < at + 6; ++i) {
    if (hexDigit(text[i]) < 0) return 0;
    unit = unit * 16 + static_cast<uint32_t>(hexDigit(text[i]));
  }
  return unit;
}

// JSON writes characters past U+FFFF as two escapes, which YAML does not know: one escape of
// YAML's takes their place. Only for JSON, where a backslash always escapes.
std::string joinSurrogates(std::string_view bytes) {
  std::string text(bytes);
  for (size_t at = text.find('\\'); at != std::string::npos; at = text.find('\\', at)) {
    const uint32_t high = unicodeEscape(text, at), low = unicodeEscape(text, at + 6);
    const bool pair = high >= 0xD800 && high < 0xDC00 && low >= 0xDC00 && low < 0xE000;
    if (pair)
      text.replace(at, 12,
                   fmt::format("\\U{:08X}", 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
    at += pair ? 10 : 2;
  }
  return text;
}

bool isJson(std::string_view bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && (bytes[first] == '{' || bytes[first] == '[');
}

void readDocuments(std::string_view bytes, const std::string& file, Node& root,
                   Problems& problems) {
  TreeBuilder builder(file, problems);
  try {
    std::istringstream stream(isJson(bytes) ? joinSurrogates(bytes) : std::string(bytes));
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    root = builder.takeRoot();
  } catch (const Abandoned&) {
  } catch (const YAML::Exception& error) {
    problems.add({file, error.mark.line + 1, error.mark.column + 1}, printable(error.msg),
                 "mend the YAML here or just above");
  } catch (const std::exception& error) {
    problems.add({file, 0, 0}, fmt::format("not readable as YAML ({})", printable(error.what())),
                 "mend the file");
  }
}

}  // namespace

bool parseYaml(std::string_view bytes, const std::string& file, Node& root, Problems& problems) {
  const size_t before = problems.size();
  root = Node({file, 1, 1}, Node::Scalar{});
  if (checkBytes(bytes, file, problems)) readDocuments(bytes, file, root, problems);
  return problems.size() == before;
}

}  // namespace cctl
