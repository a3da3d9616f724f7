// The data types of RFC 4251 section 5 that keys, signatures, certificates and the agent protocol
// are made of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cctl {

// Reads from untrusted bytes: past the end everything is empty and failed() is set.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  uint32_t number() {
    if (rest_.size() < 4) return static_cast<uint32_t>(bad().size());
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(4);
    return value;
  }
  uint64_t number64() {
    const uint64_t high = number();
    return high << 32 | number();
  }
  unsigned char byte() {
    if (rest_.empty()) return static_cast<unsigned char>(bad().size());
    const auto value = static_cast<unsigned char>(rest_[0]);
    rest_.remove_prefix(1);
    return value;
  }
  std::string_view string() {
    const uint32_t length = number();
    if (length > rest_.size()) return bad();
    const auto text = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return text;
  }
  std::string_view rest() const { return rest_; }
  bool failed() const { return failed_; }

 private:
  std::string_view bad() {
    failed_ = true;
    return rest_ = {};
  }
  std::string_view rest_;
  bool failed_ = false;
};

inline void putNumber(std::string& out, size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

inline void putString(std::string& out, std::string_view text) {
  putNumber(out, text.size());
  out += text;
}

}  // namespace cctl
