#include "model/template_tags.h"

#include <algorithm>

#include "model/reader.h"
#include "model/utf8.h"

namespace cctl {
namespace {

constexpr size_t kMaxNesting = 32;

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool isName(std::string_view name) {
  if (name == ".") return true;
  const std::vector<std::string> parts = splitName(name);
  return !parts.empty() && name.size() <= 512 &&
         std::all_of(parts.begin(), parts.end(), [](const auto& part) { return isPartName(part); });
}

class TagScanner {
 public:
  TagScanner(std::string_view text, const Location& where, Problems& problems)
      : text_(text), where_(where), problems_(problems) {}

  std::vector<Tag> scan() {
    for (size_t at = text_.find("{{"); at != std::string_view::npos; at = text_.find("{{", at))
      at = scanTag(at);
    // After a wrong closing tag, what is left open follows from that.
    if (mismatched_) open_.clear();
    for (const size_t open : open_)
      problems_.add(tags_[open].where, fmt::format("section {} is never closed", tags_[open].name),
                    fmt::format("add {{{{/{}}}}}", tags_[open].name));
    return std::move(tags_);
  }

 private:
  // The place of an offset; offsets only rise.
  Location place(size_t offset) {
    if (where_.line != 0) return where_;
    for (; counted_ < offset; ++counted_) {
      const auto byte = static_cast<unsigned char>(text_[counted_]);
      if (byte == '\n') {
        ++line_;
        column_ = 1;
      } else if ((byte & 0xC0u) != 0x80u) {
        ++column_;
      }
    }
    return {where_.file, line_, column_};
  }

  // Returns where to go on.
  size_t scanTag(size_t begin) {
    const bool triple = text_.substr(begin, 3) == "{{{";
    const std::string_view closing = triple ? "}}}" : "}}";
    const size_t inside = begin + closing.size();
    const size_t close = text_.find(closing, inside);
    const Location where = place(begin);
    if (close == std::string_view::npos) {
      problems_.add(where, fmt::format("this tag has no {}", closing), "close it");
      return text_.size();
    }
    Tag tag;
    tag.where = where;
    tag.begin = begin;
    tag.end = close + closing.size();
    classify(trimmed(text_.substr(inside, close - inside)), triple, std::move(tag));
    return close + closing.size();
  }

  void classify(std::string_view content, bool triple, Tag tag) {
    const char sign = content.empty() || triple ? '\0' : content[0];
    if (sign == '!') {
      tag.kind = TagKind::kComment;
      return link(std::move(tag));
    }
    if (sign == '>')
      return problems_.add(tag.where, "partials ({{>…}}) are not taken", "write the text out");
    if (sign == '=')
      return problems_.add(tag.where, "other delimiters ({{=…=}}) are not taken", "use {{ and }}");
    if (sign == '#') tag.kind = TagKind::kSection;
    if (sign == '^') tag.kind = TagKind::kInverted;
    if (sign == '/') tag.kind = TagKind::kClose;
    if (sign == '&' || tag.kind != TagKind::kVariable) content = trimmed(content.substr(1));
    tag.name = std::string(content);
    if (!isName(content))
      return problems_.add(
          tag.where, fmt::format("\"{}\" is not a name", printable(content, 64)),
          "write like {{port.main}}; other text with two braces cannot stand here");
    link(std::move(tag));
  }

  // Pairs opening and closing tags.
  void link(Tag tag) {
    const size_t index = tags_.size();
    tag.partner = index;
    if (tag.kind == TagKind::kClose) {
      if (open_.empty() || tags_[open_.back()].name != tag.name) return reportMismatch(tag);
      tag.partner = open_.back();
      tags_[tag.partner].partner = index;
      open_.pop_back();
    } else if (tag.kind == TagKind::kSection || tag.kind == TagKind::kInverted) {
      if (open_.size() >= kMaxNesting)
        return problems_.add(tag.where, fmt::format("sections nested deeper than {}", kMaxNesting),
                             "make it flatter");
      open_.push_back(index);
    }
    tags_.push_back(std::move(tag));
  }

  void reportMismatch(const Tag& tag) {
    mismatched_ = true;
    if (open_.empty())
      return problems_.add(tag.where, fmt::format("{{{{/{}}}}} closes nothing", tag.name),
                           "remove it");
    const Tag& open = tags_[open_.back()];
    problems_.add(tag.where,
                  fmt::format("{{{{/{}}}}} where {{{{/{}}}}} is due", tag.name, open.name),
                  "close sections from the innermost outwards");
  }

  std::string_view text_;
  const Location& where_;
  Problems& problems_;
  std::vector<Tag> tags_;
  std::vector<size_t> open_;
  bool mismatched_ = false;
  size_t counted_ = 0;
  int line_ = 1;
  int column_ = 1;
};

}  // namespace

std::vector<std::string> splitName(std::string_view name) {
  std::vector<std::string> parts;
  if (name == ".") return parts;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    parts.emplace_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<Tag> scanTags(std::string_view text, const Location& where, Problems& problems) {
  return TagScanner(text, where, problems).scan();
}

}  // namespace cctl
