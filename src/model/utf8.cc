#include "model/utf8.h"

#include <algorithm>

namespace cctl {
namespace {

unsigned byteAt(std::string_view text, size_t i) {
  return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
}

bool isContinuation(unsigned byte) { return (byte & 0xC0u) == 0x80u; }

// The range of the second byte, which excludes overlong forms, surrogates and what is past
// U+10FFFF.
bool isSecond(unsigned first, unsigned second) {
  if (first == 0xE0) return second >= 0xA0 && second <= 0xBF;
  if (first == 0xED) return second >= 0x80 && second <= 0x9F;
  if (first == 0xF0) return second >= 0x90 && second <= 0xBF;
  if (first == 0xF4) return second >= 0x80 && second <= 0x8F;
  return isContinuation(second);
}

// Bytes of the character at `i`; 0 when it is not one.
size_t characterLength(std::string_view text, size_t i) {
  const unsigned first = byteAt(text, i);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : first >= 0xE0 && first <= 0xEF ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0 || !isSecond(first, byteAt(text, i + 1))) return 0;
  for (size_t k = 2; k < length; ++k)
    if (!isContinuation(byteAt(text, i + k))) return 0;
  return length;
}

bool isControl(unsigned byte) {
  return (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F;
}

}  // namespace

std::optional<BadByte> findBadByte(std::string_view text) {
  BadByte at;
  for (size_t i = 0; i < text.size();) {
    at.byte = byteAt(text, i);
    at.control = isControl(at.byte);
    const size_t length = characterLength(text, i);
    if (at.control || length == 0) return at;
    i += length;
    at.column = at.byte == '\n' ? 1 : at.column + 1;
    if (at.byte == '\n') ++at.line;
  }
  return std::nullopt;
}

bool hasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return isControl(static_cast<unsigned char>(c)); });
}

std::string printable(std::string_view text, size_t longest) {
  std::string shown;
  for (size_t i = 0; i < text.size();) {
    const size_t length = characterLength(text, i);
    if (shown.size() + std::max<size_t>(length, 1) > longest) return shown + "…";
    // U+0080 to U+009F: some terminals obey them.
    const bool c1 = byteAt(text, i) == 0xC2 && byteAt(text, i + 1) < 0xA0;
    if (length == 0 || byteAt(text, i) < 0x20 || byteAt(text, i) == 0x7F || c1)
      shown += '?';
    else
      shown += text.substr(i, length);
    i += std::max<size_t>(length, 1);
  }
  return shown;
}

}  // namespace cctl
