// Small ELF files made to order, of any class and byte order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cctl::test {

struct ElfRecipe {
  int bits = 64;
  bool big_endian = false;
  uint16_t type = 3;  // ET_DYN
  uint16_t machine = 62;
  std::string interpreter;
  std::vector<std::string> needed;
  std::string run_path;
  std::string rpath;
  std::string soname;
  std::vector<std::string> versions;  // of the first library
};

class ElfBuilder {
 public:
  explicit ElfBuilder(ElfRecipe recipe) : recipe_(std::move(recipe)) {}

  std::string build() {
    const size_t segments = recipe_.interpreter.empty() ? 2 : 3;
    const size_t head = wide() ? 64 : 52, segment = wide() ? 56 : 32;
    const size_t start = head + segments * segment;
    const std::string interpreter = recipe_.interpreter.empty() ? "" : recipe_.interpreter + '\0';
    collectStrings();
    const size_t strings_at = start + interpreter.size();
    const size_t versions_at = strings_at + strings_.size();
    const std::string versions = versionRecords();
    const size_t dynamic_at = versions_at + versions.size();
    const std::string dynamic = dynamicTable(strings_at, versions_at);
    const size_t total = dynamic_at + dynamic.size();

    header(head, segment, segments);
    programHeader(1, 0, total);
    programHeader(2, dynamic_at, dynamic.size());
    if (!interpreter.empty()) programHeader(3, start, interpreter.size());
    return out_ + interpreter + strings_ + versions + dynamic;
  }

 private:
  static constexpr uint64_t kBase = 0x10000;

  bool wide() const { return recipe_.bits == 64; }

  std::string number(uint64_t value, size_t size) const {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) {
      const size_t at = recipe_.big_endian ? size - 1 - i : i;
      bytes[at] = static_cast<char>(value >> (8 * i) & 0xff);
    }
    return bytes;
  }
  std::string half(uint64_t value) const { return number(value, 2); }
  std::string full(uint64_t value) const { return number(value, 4); }
  std::string word(uint64_t value) const { return number(value, wide() ? 8 : 4); }

  size_t string(std::string_view text) {
    const size_t at = strings_.size();
    strings_ += text;
    strings_ += '\0';
    return at;
  }

  void collectStrings() {
    strings_ = std::string(1, '\0');
    for (const std::string& name : recipe_.needed) needed_at_.push_back(string(name));
    for (const std::string& name : recipe_.versions) versions_at_.push_back(string(name));
    run_path_at_ = string(recipe_.run_path);
    rpath_at_ = string(recipe_.rpath);
    soname_at_ = string(recipe_.soname);
  }

  std::string versionRecords() const {
    if (versions_at_.empty()) return "";
    std::string text = half(1) + half(versions_at_.size()) + full(1) + full(16) + full(0);
    for (size_t i = 0; i < versions_at_.size(); ++i) {
      const bool last = i + 1 == versions_at_.size();
      text += full(0) + half(0) + half(2) + full(versions_at_[i]) + full(last ? 0 : 16);
    }
    return text;
  }

  std::string entry(uint64_t tag, uint64_t value) const { return word(tag) + word(value); }

  std::string dynamicTable(size_t strings_at, size_t versions_at) const {
    std::string table;
    for (const size_t at : needed_at_) table += entry(1, at);
    table += entry(5, kBase + strings_at) + entry(10, strings_.size());
    if (!recipe_.soname.empty()) table += entry(14, soname_at_);
    if (!recipe_.rpath.empty()) table += entry(15, rpath_at_);
    if (!recipe_.run_path.empty()) table += entry(29, run_path_at_);
    if (!versions_at_.empty())
      table += entry(0x6ffffffe, kBase + versions_at) + entry(0x6fffffff, 1);
    return table + entry(0, 0);
  }

  void header(size_t head, size_t segment, size_t segments) {
    out_ =
        "\x7f"
        "ELF";
    out_ += static_cast<char>(wide() ? 2 : 1);
    out_ += static_cast<char>(recipe_.big_endian ? 2 : 1);
    out_ += '\1';
    out_ += std::string(9, '\0');
    out_ += half(recipe_.type) + half(recipe_.machine) + full(1);
    out_ += word(0) + word(head) + word(0) + full(0) + half(head);
    out_ += half(segment) + half(segments) + half(0) + half(0) + half(0);
  }

  void programHeader(uint32_t type, uint64_t offset, uint64_t size) {
    out_ += full(type);
    if (wide()) out_ += full(5);
    out_ += word(offset) + word(kBase + offset) + word(kBase + offset) + word(size) + word(size);
    if (!wide()) out_ += full(5);
    out_ += word(0x1000);
  }

  ElfRecipe recipe_;
  std::string out_;
  std::string strings_;
  std::vector<size_t> needed_at_;
  std::vector<size_t> versions_at_;
  size_t run_path_at_ = 0;
  size_t rpath_at_ = 0;
  size_t soname_at_ = 0;
};

inline std::string makeElf(const ElfRecipe& recipe) { return ElfBuilder(recipe).build(); }

// A dynamic program as a compiler makes it on most Linux machines.
inline ElfRecipe dynamicProgram() {
  ElfRecipe recipe;
  recipe.interpreter = "/lib64/ld-linux-x86-64.so.2";
  recipe.needed = {"libfoo.so.1", "libc.so.6"};
  recipe.versions = {"GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.4", "GLIBC_PRIVATE"};
  return recipe;
}

}  // namespace cctl::test
