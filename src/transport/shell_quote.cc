#include "transport/shell_quote.h"

#include <fmt/format.h>

namespace cctl::ssh {
namespace {

bool isPlain(char c) {
  const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return alnum || std::string_view("@%+=:,./-_").find(c) != std::string_view::npos;
}

// Inside single quotes these read differently somewhere: ' ends them, ! is history in csh, \ and '
// are special in fish, a line break ends the command in csh.
bool needsEscape(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte >= 0x7f || c == '\'' || c == '!' || c == '\\';
}

}  // namespace

std::string shellQuote(std::string_view text) {
  bool plain = !text.empty();
  for (const char c : text) plain = plain && isPlain(c);
  if (plain) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string shellJoin(const std::vector<std::string>& argv) {
  std::string line;
  for (const auto& word : argv) {
    if (!line.empty()) line += ' ';
    line += shellQuote(word);
  }
  return line;
}

std::string shScript(std::string_view script, const std::vector<std::string>& args) {
  std::string text = args.empty() ? "" : "set -- " + shellJoin(args) + "\n";
  text += script;
  std::string encoded;
  for (const char c : text) {
    if (needsEscape(c)) {
      encoded += fmt::format("\\0{:03o}", static_cast<unsigned char>(c));
    } else {
      encoded += c;
    }
  }
  return "sh -c 'eval \"$(printf %b \"$1\")\"' sh '" + encoded + "'";
}

}  // namespace cctl::ssh
