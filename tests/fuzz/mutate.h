// Seeded mutations of valid inputs: the same seed gives the same inputs on every machine.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace cctl::fuzz {

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  bool oneIn(size_t n) { return below(n) == 0; }

  const std::string& pick(const std::vector<std::string>& from) { return from[below(from.size())]; }

  // One of the corpus, changed in a few places; now and then not at all, or random bytes.
  std::string input(const std::vector<std::string>& corpus) {
    if (oneIn(50)) return bytes(below(300));
    std::string text = pick(corpus);
    if (oneIn(50)) return text;
    for (size_t i = below(4) + 1; i > 0; --i) change(text, corpus);
    if (text.size() > kMost) text.resize(kMost);
    return text;
  }

  std::string bytes(size_t count) {
    std::string text(count, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }

 private:
  static constexpr size_t kMost = 64u << 10;

  void change(std::string& text, const std::vector<std::string>& corpus) {
    const size_t at = below(text.size() + 1);
    const size_t length = below(std::min<size_t>(text.size() - at, 40) + 1);
    switch (below(9)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        return;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        return;
      case 2:
        text.erase(at, length);
        return;
      case 3:
        text.insert(at, bytes(below(8)));
        return;
      case 4: {
        const std::string again = text.substr(at, length);
        for (size_t i = below(oneIn(20) ? 2000 : 4); i > 0; --i) text.insert(at, again);
        return;
      }
      case 5:
        text.resize(at);
        return;
      case 6: {
        const std::string& other = pick(corpus);
        text.replace(at, length, other, below(other.size() + 1), below(200));
        return;
      }
      case 7:
        return changeNumber(text, at);
      default:
        text.insert(at, word());
        return;
    }
  }

  void changeNumber(std::string& text, size_t from) {
    static constexpr std::string_view kDigits = "0123456789";
    static const std::vector<std::string> kNumbers = {"0",
                                                      "-1",
                                                      "1",
                                                      "65536",
                                                      "2147483647",
                                                      "2147483648",
                                                      "-2147483648",
                                                      "4294967295",
                                                      "9223372036854775807",
                                                      "-9223372036854775808",
                                                      "18446744073709551615",
                                                      "18446744073709551616",
                                                      "1e400",
                                                      "1.5",
                                                      "000",
                                                      "99999999999999999999999999"};
    const size_t at = text.find_first_of(kDigits, from);
    if (at == std::string::npos) return;
    const size_t end = std::min(text.find_first_not_of(kDigits, at), text.size());
    text.replace(at, end - at, pick(kNumbers));
  }

  std::string word() {
    static const std::vector<std::string> kWords = {
        "null", "true", "{}", "[]", "\"\"",    "{",       "[",  "]",    "}",
        "\"",   ",",    ":",  "\\", "\\u0000", "\\ud800", "\n", "\r\n", "\xff\xfe",
        "../",  "/",    "%",  "=",  ")",       " ",       "-",  "e",    "\t"};
    if (oneIn(10)) return std::string(1, '\0');
    if (oneIn(30)) return std::string(below(300), '[');
    return pick(kWords);
  }

  std::mt19937_64 random_;
};

}  // namespace cctl::fuzz
