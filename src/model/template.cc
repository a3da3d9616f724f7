// Rendering is kainjow's mustache. It tells its context neither where a tag stands nor of which
// kind it is, so each tag is given a name of its own ("t7") before it sees the text, and the
// context finds the tag again by it.
#include "model/template.h"

#include <kainjow/mustache.hpp>

#include <charconv>
#include <deque>
#include <map>
#include <memory>

#include "model/template_tags.h"
#include "model/utf8.h"

namespace cctl {
namespace {

namespace mustache = kainjow::mustache;

using ValueStack = std::vector<const TemplateValue*>;

// ---- what a name means ----

struct Lookup {
  const TemplateValue* value = nullptr;
  bool open_ended = false;  // inside a section over an empty list: anything may be there
  size_t part = 0;          // of an unknown name: which part, and what stood there instead
  std::vector<std::string> known;
};

const TemplateValue* memberOf(const TemplateValue& value, const std::string& name) {
  const auto* object = value.object();
  if (object == nullptr) return nullptr;
  const auto found = object->find(name);
  return found == object->end() ? nullptr : &found->second;
}

void addMembers(const TemplateValue& value, std::vector<std::string>& names) {
  if (const auto* object = value.object())
    for (const auto& [name, member] : *object) names.push_back(name);
}

// The first part from the innermost section outwards; nullptr on the stack is an unknown item.
const TemplateValue* lookUpFirst(const std::string& name, const ValueStack& stack, Lookup& result) {
  for (auto level = stack.rbegin(); level != stack.rend(); ++level) {
    if (*level == nullptr) {
      result.open_ended = true;
      continue;
    }
    if (const TemplateValue* found = memberOf(**level, name)) return found;
    addMembers(**level, result.known);
  }
  return nullptr;
}

Lookup lookUp(const std::string& name, const ValueStack& stack) {
  Lookup result;
  const std::vector<std::string> parts = splitName(name);
  if (parts.empty()) {
    result.value = stack.back();
    result.open_ended = result.value == nullptr;
    return result;
  }
  const TemplateValue* value = lookUpFirst(parts[0], stack, result);
  while (value != nullptr && ++result.part < parts.size()) {
    const TemplateValue* next = memberOf(*value, parts[result.part]);
    result.known.clear();
    if (next == nullptr) addMembers(*value, result.known);
    value = next;
  }
  result.value = value;
  return result;
}

void reportUnknown(const Tag& tag, const Lookup& lookup, Problems& problems) {
  const std::vector<std::string> parts = splitName(tag.name);
  std::string before;
  for (size_t i = 0; i < lookup.part; ++i) before += parts[i] + ".";
  const std::string nearest = nearestSpelling(parts[lookup.part], lookup.known);
  std::string hint = "define it, or remove the tag";
  if (!nearest.empty())
    hint = fmt::format("did you mean \"{}{}\"?", before, nearest);
  else if (before == "services.")
    hint = "name that service in depends_on";
  else if (before == "port.")
    hint = "name that port in ports";
  else if (!lookup.known.empty() && lookup.known.size() <= 20)
    hint = fmt::format("known here: {}{}", before, fmt::join(lookup.known, ", " + before));
  problems.add(tag.where, fmt::format("unknown name \"{}\"", tag.name), hint);
}

// True when the value has text to print; otherwise reported.
bool checkPrintable(const Tag& tag, const TemplateValue& value, Problems& problems) {
  if (value.text() != nullptr || value.flag() != nullptr) return true;
  const std::string_view kind = value.list() != nullptr     ? "a list"
                                : value.object() != nullptr ? "an object"
                                                            : "true or false";
  problems.add(tag.where, fmt::format("\"{}\" is {}, which has no text", tag.name, kind),
               fmt::format("use it as a section: {{{{#{0}}}}}…{{{{/{0}}}}}", tag.name));
  return false;
}

// ---- rendering ----

// Thrown through the library to leave it; reported before.
struct TooLong {};

constexpr size_t kCostOfTag = 64;  // of the budget, so that time is bounded with the size
constexpr size_t kMaxReports = 100;

// Looks names up in TemplateValues; the library holds data that only mirror them.
class Context final : public mustache::basic_context<std::string> {
 public:
  Context(const std::vector<Tag>& tags, const TemplateContext& scope, Problems& problems)
      : tags_(tags), problems_(problems) {
    stack_.push_back(&scope);
  }

  // The library pushes what get() returned for a section, or the items of that list.
  void push(const mustache::data* data) override {
    const auto mirrored = mirror_.find(data);
    stack_.push_back(mirrored == mirror_.end() ? stack_.back() : mirrored->second);
  }
  void pop() override { stack_.pop_back(); }

  const mustache::data* get(const std::string& name) const override {
    size_t index = 0;
    std::from_chars(name.data() + 1, name.data() + name.size(), index);
    const Tag& tag = tags_.at(index);
    const Lookup lookup = lookUp(tag.name, stack_);
    if (lookup.value == nullptr) {
      reportUnknown(tag, lookup, problems_);
      if (++reports_ >= kMaxReports) throw TooLong{};
      return &false_;
    }
    return tag.kind == TagKind::kVariable ? variable(tag, *lookup.value)
                                          : section(tag, *lookup.value);
  }
  const mustache::data* get_partial(const std::string&) const override { return nullptr; }

 private:
  void charge(const Tag& tag, size_t bytes) const {
    charged_ += bytes + kCostOfTag;
    if (charged_ <= kMaxRendered) return;
    problems_.add(tag.where, fmt::format("renders to more than {} MiB", kMaxRendered >> 20),
                  "make the lists or the template smaller");
    throw TooLong{};
  }

  const mustache::data* variable(const Tag& tag, const TemplateValue& value) const {
    if (!checkPrintable(tag, value, problems_)) return &false_;
    const std::string& text = value.text() != nullptr ? *value.text() : value.flag()->text;
    charge(tag, text.size() + 1);
    printed_ = std::make_unique<mustache::data>(text);
    return printed_.get();
  }

  const mustache::data* section(const Tag& tag, const TemplateValue& value) const {
    const size_t inside = tags_[tag.partner].begin - tag.end + 1;
    if (const auto* list = value.list()) {
      charge(tag, inside * std::max<size_t>(list->size(), 1));
      return mirrorList(*list);
    }
    charge(tag, inside);
    const bool shown = value.truth() != nullptr  ? *value.truth()
                       : value.flag() != nullptr ? value.flag()->truth
                       : value.text() != nullptr ? !value.text()->empty()
                                                 : true;
    if (!shown || value.truth() != nullptr) return shown ? &true_ : &false_;
    return mirrorOne(value);
  }

  const mustache::data* mirrorOne(const TemplateValue& value) const {
    const mustache::data*& data = single_[&value];
    if (data == nullptr) data = &owned_.emplace_back(true);
    mirror_[data] = &value;
    return data;
  }

  const mustache::data* mirrorList(const TemplateValue::List& list) const {
    const mustache::data*& data = lists_[&list];
    if (data != nullptr) return data;
    mustache::data copy{mustache::data::type::list};
    for (size_t i = 0; i < list.size(); ++i) copy.push_back(mustache::data{true});
    data = &owned_.emplace_back(std::move(copy));
    for (size_t i = 0; i < list.size(); ++i) mirror_[&data->list_value()[i]] = &list[i];
    return data;
  }

  const mustache::data true_{true};
  const mustache::data false_{false};
  const std::vector<Tag>& tags_;
  Problems& problems_;
  ValueStack stack_;
  mutable size_t charged_ = 0;
  mutable size_t reports_ = 0;
  mutable std::unique_ptr<mustache::data> printed_;
  mutable std::deque<mustache::data> owned_;
  mutable std::map<const TemplateValue*, const mustache::data*> single_;
  mutable std::map<const TemplateValue::List*, const mustache::data*> lists_;
  mutable std::map<const mustache::data*, const TemplateValue*> mirror_;
};

char signOf(TagKind kind) {
  switch (kind) {
    case TagKind::kSection:
      return '#';
    case TagKind::kInverted:
      return '^';
    case TagKind::kClose:
      return '/';
    case TagKind::kComment:
      return '!';
    case TagKind::kVariable:
      return '&';
  }
  return '&';
}

bool isBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// A comment alone on its line takes the line with it, which the library does not do.
void widenToLine(std::string_view text, size_t least, size_t& begin, size_t& end) {
  size_t first = begin, last = end;
  while (first > least && isBlank(text[first - 1])) --first;
  while (last < text.size() && isBlank(text[last])) ++last;
  const bool at_start = first == 0 || text[first - 1] == '\n';
  const bool at_end = last == text.size() || text[last] == '\n';
  if (!at_start || !at_end) return;
  begin = first;
  end = std::min(last + 1, text.size());
}

// The text with each tag named by its number, a closing tag by that of its section, and without
// comments.
std::string withNumbers(std::string_view text, const std::vector<Tag>& tags) {
  std::string numbered;
  size_t done = 0;
  for (size_t i = 0; i < tags.size(); ++i) {
    size_t begin = tags[i].begin, end = tags[i].end;
    const bool comment = tags[i].kind == TagKind::kComment;
    if (comment) widenToLine(text, done, begin, end);
    const size_t number = tags[i].kind == TagKind::kClose ? tags[i].partner : i;
    numbered += text.substr(done, begin - done);
    if (!comment) numbered += fmt::format("{{{{{}t{}}}}}", signOf(tags[i].kind), number);
    done = end;
  }
  numbered += text.substr(done);
  return numbered;
}

std::string renderTags(std::string_view text, const Location& where, const std::vector<Tag>& tags,
                       const TemplateContext& scope, Problems& problems) {
  try {
    mustache::mustache engine(withNumbers(text, tags));
    engine.set_custom_escape([](const std::string& plain) { return plain; });
    Context context(tags, scope, problems);
    std::string rendered = engine.render(context);
    if (!engine.is_valid()) problems.add(where, printable(engine.error_message()));
    return rendered;
  } catch (const TooLong&) {
    return {};
  } catch (const std::exception& error) {
    problems.add(where, fmt::format("not a template ({})", printable(error.what())));
    return {};
  }
}

// ---- checking ----

const TemplateValue* insideOf(const TemplateValue* value, const ValueStack& stack) {
  if (value == nullptr) return nullptr;
  if (const auto* list = value->list()) return list->empty() ? nullptr : &list->front();
  return value->truth() != nullptr ? stack.back() : value;
}

}  // namespace

TemplateValue::TemplateValue(const TemplateValue&) = default;
TemplateValue::TemplateValue(TemplateValue&&) noexcept = default;
TemplateValue& TemplateValue::operator=(const TemplateValue&) = default;
TemplateValue& TemplateValue::operator=(TemplateValue&&) noexcept = default;
TemplateValue::~TemplateValue() = default;

std::string renderTemplate(std::string_view text, const Location& where,
                           const TemplateContext& context, Problems& problems) {
  Problems syntax;
  const std::vector<Tag> tags = scanTags(text, where, syntax);
  if (syntax.empty()) return renderTags(text, where, tags, context, problems);
  for (Problem& problem : syntax.sorted())
    problems.add(std::move(problem.where), std::move(problem.message), std::move(problem.hint));
  return {};
}

void checkTemplate(std::string_view text, const Location& where, const TemplateContext& context,
                   Problems& problems) {
  const size_t before = problems.size();
  const std::vector<Tag> tags = scanTags(text, where, problems);
  if (problems.size() != before) return;
  ValueStack stack{&context};
  std::vector<bool> pushed;
  for (const Tag& tag : tags) {
    if (tag.kind == TagKind::kComment) continue;
    if (tag.kind == TagKind::kClose) {
      if (pushed.back()) stack.pop_back();
      pushed.pop_back();
      continue;
    }
    const Lookup lookup = lookUp(tag.name, stack);
    if (lookup.value == nullptr && !lookup.open_ended) reportUnknown(tag, lookup, problems);
    if (tag.kind == TagKind::kVariable) {
      if (lookup.value != nullptr) checkPrintable(tag, *lookup.value, problems);
      continue;
    }
    pushed.push_back(tag.kind == TagKind::kSection);
    if (pushed.back()) stack.push_back(insideOf(lookup.value, stack));
  }
}

}  // namespace cctl
