#include "model/node.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace cctl {
namespace {

const std::string kNoText;
const Node::Sequence kNoItems;
const Node::Map kNoMembers;

Json scalarJson(const Node& node) {
  if (node.isNull()) return nullptr;
  if (!node.quoted() && node.text() == "true") return true;
  if (!node.quoted() && node.text() == "false") return false;
  return node.text();
}

Json toCanonicalJson(const Node& node) {
  if (node.isScalar()) return scalarJson(node);
  if (node.isSequence()) {
    Json list = Json::array();
    for (const Node& item : node.items()) list.push_back(toCanonicalJson(item));
    return list;
  }
  Json object = Json::object();  // nlohmann keeps its keys sorted
  for (const Node::Member& member : node.members())
    object[member.key] = toCanonicalJson(member.value);
  return object;
}

}  // namespace

Node::Node() = default;
Node::Node(Location where, Scalar scalar) : where_(std::move(where)), value_(std::move(scalar)) {}
Node::Node(Location where, Sequence items) : where_(std::move(where)), value_(std::move(items)) {}
Node::Node(Location where, Map members) : where_(std::move(where)), value_(std::move(members)) {}
Node::Node(const Node&) = default;
Node::Node(Node&&) noexcept = default;
Node& Node::operator=(const Node&) = default;
Node& Node::operator=(Node&&) noexcept = default;
Node::~Node() = default;

bool Node::isScalar() const { return std::holds_alternative<Scalar>(value_); }
bool Node::isSequence() const { return std::holds_alternative<Sequence>(value_); }
bool Node::isMap() const { return std::holds_alternative<Map>(value_); }

bool Node::isNull() const { return isScalar() && !quoted() && text().empty(); }

const std::string& Node::text() const {
  const auto* scalar = std::get_if<Scalar>(&value_);
  return scalar != nullptr ? scalar->text : kNoText;
}

bool Node::quoted() const {
  const auto* scalar = std::get_if<Scalar>(&value_);
  return scalar != nullptr && scalar->quoted;
}

const Node::Sequence& Node::items() const {
  const auto* items = std::get_if<Sequence>(&value_);
  return items != nullptr ? *items : kNoItems;
}

const Node::Map& Node::members() const {
  const auto* members = std::get_if<Map>(&value_);
  return members != nullptr ? *members : kNoMembers;
}

const Node* Node::find(std::string_view key) const {
  for (const Member& member : members())
    if (member.key == key) return &member.value;
  return nullptr;
}

std::string_view Node::kindName() const {
  if (isNull()) return "nothing";
  return isMap() ? "a map" : isSequence() ? "a list" : "a single value";
}

std::string Node::canonical() const { return dumpJson(toCanonicalJson(*this)); }

bool operator==(const Node& a, const Node& b) { return a.canonical() == b.canonical(); }

}  // namespace cctl
