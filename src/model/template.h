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

  // Out of line: inlined, they draw false warnings from g++ 12 (-Wmaybe-uninitialized).
  TemplateValue(const TemplateValue&);
  TemplateValue(TemplateValue&&) noexcept;
  TemplateValue& operator=(const TemplateValue&);
  TemplateValue& operator=(TemplateValue&&) noexcept;
  ~TemplateValue();

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
// Names are dotted paths; the first part is looked up from the innermost section outwards. A
// section shows once for true, for a text that is not empty and for an object, and for each item
// of a list. Refused: unknown names (with the nearest), printing a list, an object or a truth
// value, partials, other delimiters, unbalanced sections, more than kMaxRendered bytes.
// A problem's place is counted inside the text when `where` is a whole file (line 0), else it is
// `where`. What is returned is of use only when `problems` did not grow.
std::string renderTemplate(std::string_view text, const Location& where,
                           const TemplateContext& context, Problems& problems);

inline constexpr size_t kMaxRendered = 64u << 20;

// Checks tags, balance and every name, also in sections that `context` would not show. Lists are
// looked into by their first item; nothing can be said about names in a section over an empty one.
void checkTemplate(std::string_view text, const Location& where, const TemplateContext& context,
                   Problems& problems);

}  // namespace cctl
