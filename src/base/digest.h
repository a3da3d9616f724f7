// SHA-256 (FIPS 180-4), by libcrypto's low-level calls: EVP would add megabytes to the static shim.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cctl {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::string_view data);
  // 64 lower-case hex digits; the object is then spent.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256Hex(std::string_view data);

// Reads from the descriptor's current offset to its end.
[[nodiscard]] Result<std::string> sha256HexOfFd(int fd);
[[nodiscard]] Result<std::string> sha256HexOfFile(const std::string& path);

bool isSha256Hex(std::string_view text);

// `bytes` bytes from the kernel (getrandom(2)), as lower-case hex.
std::string randomHex(size_t bytes);

// CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of journal and state records.
uint32_t crc32c(std::string_view data, uint32_t seed = 0);

}  // namespace cctl
