// Mustache templates (mustache(5)) in which an unknown name is an error and nothing is escaped.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "model/problem.h"

namespace cctl {

// What a name in a template may stand for.
class TemplateValue {
 public:
  using Object = std::map<std::string, TemplateValue>;
  using List = std::vector<TemplateValue>;
  // A value that prints as its text, but decides a section by `truth`: vars: {tls: false}.
  struct Flag {
    std::string text;
    bool truth = false;
  };

  TemplateValue() : value_(Object{}) {}
  TemplateValue(std::string text) : value_(std::move(text)) {}
  TemplateValue(const char* text) : value_(std::string(text)) {}
  TemplateValue(bool truth) : value_(truth) {}
  TemplateValue(Flag flag) : value_(std::move(flag)) {}
  TemplateValue(List items) : value_(std::move(items)) {}
  TemplateValue(Object members) : value_(std::move(members)) {}

  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const bool* truth() const { return std::get_if<bool>(&value_); }
  const Flag* flag() const { return std::get_if<Flag>(&value_); }
  const List* list() const { return std::get_if<List>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  Object* object() { return std::get_if<Object>(&value_); }

 private:
  std::variant<std::string, bool, Flag, List, Object> value_;
};

// The names in scope: an object.
using TemplateContext = TemplateValue;

// Renders `text`. Tags: {{name}}, {{{name}}}, {{&name}} (all print as is), {{#name}}…{{/name}},
// {{^name}}…{{/name}}, {{.}}, {{! comment}}; a line with nothing but section tags disappears.
// Names are dotted paths; the first part is looked up from the innermost section outwards.
// Refused: unknown names (with the nearest), printing a list, an object or a truth value, partials,
// other delimiters, unbalanced sections. Every problem's place counts from `where`, the place of
// the text's first character. Nothing is returned when `problems` grew.
std::string renderTemplate(std::string_view text, const Location& where,
                           const TemplateContext& context, Problems& problems);

// The same for one error as a value: kBadInput.
[[nodiscard]] Result<std::string> renderTemplate(std::string_view text, const Location& where,
                                                 const TemplateContext& context);

// Checks tags, balance and every name, also in sections that `context` would not show: lists
// are looked into by their first item.
void checkTemplate(std::string_view text, const Location& where, const TemplateContext& context,
                   Problems& problems);

}  // namespace cctl
