// A YAML (or JSON) document as a plain tree of text, converted once from the library's events.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "model/problem.h"

namespace cctl {

struct NodeScalar {
  std::string text;
  bool quoted = false;
};

// A scalar keeps its text as written (1.10 stays "1.10"); what it means is the reader's business.
// `quoted` tells "false" from false. An absent value (`key:`, `key: ~`, `key: null`) is a plain
// scalar with empty text.
class Node {
 public:
  struct Member;
  using Scalar = NodeScalar;
  using Sequence = std::vector<Node>;
  using Map = std::vector<Member>;  // in the order of the file; keys are unique

  // All out of line: Member is complete only after this class.
  Node();
  Node(Location where, Scalar scalar);
  Node(Location where, Sequence items);
  Node(Location where, Map members);
  Node(const Node&);
  Node(Node&&) noexcept;
  Node& operator=(const Node&);
  Node& operator=(Node&&) noexcept;
  ~Node();

  const Location& where() const { return where_; }
  bool isScalar() const;
  bool isSequence() const;
  bool isMap() const;
  bool isNull() const;

  // Empty for another kind.
  const std::string& text() const;
  bool quoted() const;
  const Sequence& items() const;
  const Map& members() const;
  const Node* find(std::string_view key) const;  // of a map; nullptr when absent
  std::string_view kindName() const;             // "a list", "a map", "a single value", "nothing"

  // JSON with sorted keys; scalars are strings, but for plain true, false and null: equal for equal
  // content, whatever the layout, order and comments of the file.
  std::string canonical() const;

  // Equal in content; locations do not count.
  friend bool operator==(const Node& a, const Node& b);

 private:
  Location where_;
  std::variant<Scalar, Sequence, Map> value_;
};

struct Node::Member {
  std::string key;
  Location where;  // of the key
  Node value;
};

// Limits on one document, against bombs and accidents.
inline constexpr size_t kMaxYamlBytes = 4u << 20;
inline constexpr size_t kMaxYamlNodes = 200'000;
inline constexpr int kMaxYamlDepth = 32;

// One YAML document. Refused with their place: duplicate keys, keys that are not text, merge keys
// (<<), anchors and aliases past the node limit, several documents, tags other than !!str, !!map
// and !!seq, NUL and other control bytes, what is not UTF-8, and whatever the library refuses.
// An alias stands for a copy of what it names. Anything wrong is added to `problems`; false then.
[[nodiscard]] bool parseYaml(std::string_view bytes, const std::string& file, Node& root,
                             Problems& problems);

}  // namespace cctl
