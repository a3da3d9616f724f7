#include "naming/json_cursor.h"

#include <charconv>
#include <system_error>

namespace clusterctl::internal {
namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }

void appendUtf8(std::string* out, unsigned code) {
  const auto byte = [out](unsigned value) { out->push_back(static_cast<char>(value)); };
  if (code < 0x80) return byte(code);
  if (code < 0x800) {
    byte(0xC0 | (code >> 6));
  } else if (code < 0x10000) {
    byte(0xE0 | (code >> 12));
    byte(0x80 | ((code >> 6) & 0x3F));
  } else {
    byte(0xF0 | (code >> 18));
    byte(0x80 | ((code >> 12) & 0x3F));
    byte(0x80 | ((code >> 6) & 0x3F));
  }
  byte(0x80 | (code & 0x3F));
}

}  // namespace

bool JsonCursor::fail(const char* what) {
  if (error_.empty()) error_ = std::string("not JSON: ") + what + " at byte " + std::to_string(at_);
  return false;
}

void JsonCursor::blanks() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
    ++at_;
}

bool JsonCursor::take(char c) {
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

JsonCursor::Kind JsonCursor::peek() {
  blanks();
  if (failed() || at_ >= text_.size()) return Kind::kNone;
  switch (text_[at_]) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
      return Kind::kTrue;
    case 'f':
      return Kind::kFalse;
    case 'n':
      return Kind::kNull;
    default:
      return text_[at_] == '-' || isDigit(text_[at_]) ? Kind::kNumber : Kind::kNone;
  }
}

bool JsonCursor::enterObject() {
  if (peek() != Kind::kObject) return fail("no object");
  ++at_;
  return first_ = true;
}

bool JsonCursor::enterArray() {
  if (peek() != Kind::kArray) return fail("no list");
  ++at_;
  return first_ = true;
}

// True when another member follows; false at the closing bracket, which is taken, or a mistake.
bool JsonCursor::next(char close) {
  if (failed()) return false;
  blanks();
  const bool first = first_;
  first_ = false;
  if (take(close)) return false;
  if (!first && !take(',')) return fail("no comma");
  blanks();
  return at_ < text_.size() ? true : fail("the end");
}

bool JsonCursor::nextKey(std::string* key) {
  if (!next('}')) return false;
  if (!readString(key)) return false;
  blanks();
  return take(':') ? true : fail("no colon");
}

bool JsonCursor::nextItem() { return next(']'); }

bool JsonCursor::readHex(unsigned* value) {
  if (text_.size() - at_ < 4) return fail("half an escape");
  const char* begin = text_.data() + at_;
  const auto result = std::from_chars(begin, begin + 4, *value, 16);
  if (result.ec != std::errc() || result.ptr != begin + 4) return fail("a wrong escape");
  at_ += 4;
  return true;
}

bool JsonCursor::readEscape(std::string* value) {
  if (at_ >= text_.size()) return fail("half an escape");
  static constexpr std::string_view kNames = "\"\\/bfnrt";
  static constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
  const char name = text_[at_++];
  if (const std::size_t found = kNames.find(name); found != std::string_view::npos) {
    value->push_back(kMeant[found]);
    return true;
  }
  unsigned code = 0;
  if (name != 'u') return fail("an unknown escape");
  if (!readHex(&code)) return false;
  if (code >= 0xDC00 && code < 0xE000) return fail("half a character");
  if (code >= 0xD800 && code < 0xDC00) {
    unsigned low = 0;
    if (!take('\\') || !take('u') || !readHex(&low)) return fail("half a character");
    if (low < 0xDC00 || low > 0xDFFF) return fail("half a character");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  appendUtf8(value, code);
  return true;
}

bool JsonCursor::readString(std::string* value) {
  value->clear();
  if (peek() != Kind::kString) return fail("no text");
  ++at_;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (static_cast<unsigned char>(c) < 0x20) return fail("a control character");
    ++at_;
    if (c == '"') return true;
    if (c != '\\')
      value->push_back(c);
    else if (!readEscape(value))
      return false;
  }
  return fail("text without an end");
}

bool JsonCursor::readUnsigned(std::uint64_t* value) {
  if (peek() != Kind::kNumber) return fail("no number");
  const std::size_t begin = at_;
  if (!skipNumber()) return false;
  const char* end = text_.data() + at_;
  const auto result = std::from_chars(text_.data() + begin, end, *value);
  if (result.ec == std::errc() && result.ptr == end) return true;
  return fail("no whole number that fits");
}

bool JsonCursor::readBool(bool* value) {
  const Kind kind = peek();
  if (kind != Kind::kTrue && kind != Kind::kFalse) return fail("neither true nor false");
  *value = kind == Kind::kTrue;
  return skipWord(*value ? "true" : "false");
}

bool JsonCursor::skipWord(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) return fail("an unknown word");
  at_ += word.size();
  return true;
}

// -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?
bool JsonCursor::skipNumber() {
  const auto digits = [this] {
    const std::size_t begin = at_;
    while (at_ < text_.size() && isDigit(text_[at_])) ++at_;
    return at_ > begin;
  };
  take('-');
  if (!take('0') && !digits()) return fail("a wrong number");
  if (take('.') && !digits()) return fail("a wrong number");
  if (take('e') || take('E')) {
    if (!take('+')) take('-');
    if (!digits()) return fail("a wrong number");
  }
  return true;
}

// Without recursion: `open` holds the closing brackets that are waited for.
bool JsonCursor::skip() {
  std::string open;
  std::string text;
  do {
    bool entered = false;
    switch (peek()) {
      case Kind::kObject:
      case Kind::kArray:
        if (open.size() >= static_cast<std::size_t>(kMaxDepth)) return fail("nested too deep");
        open.push_back(text_[at_++] == '{' ? '}' : ']');
        entered = first_ = true;
        break;
      case Kind::kString:
        if (!readString(&text)) return false;
        break;
      case Kind::kNumber:
        if (!skipNumber()) return false;
        break;
      case Kind::kTrue:
      case Kind::kFalse:
        if (!skipWord(text_[at_] == 't' ? "true" : "false")) return false;
        break;
      case Kind::kNull:
        if (!skipWord("null")) return false;
        break;
      case Kind::kNone:
        return fail("no value");
    }
    if (!entered) first_ = false;
    while (!open.empty() && !(open.back() == '}' ? nextKey(&text) : nextItem())) {
      if (failed()) return false;
      open.pop_back();
    }
  } while (!open.empty());
  return true;
}

bool JsonCursor::atEnd() {
  blanks();
  if (failed()) return false;
  return at_ == text_.size() ? true : fail("more than one value");
}

}  // namespace clusterctl::internal
