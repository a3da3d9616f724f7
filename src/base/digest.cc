// The low-level SHA-256 calls are deprecated in OpenSSL 3 in favour of EVP; see digest.h for why
// they are used all the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/fd.h"
#include "base/file.h"

namespace cctl {
namespace {

std::string toHex(const unsigned char* bytes, size_t count) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(count * 2);
  for (size_t i = 0; i < count; ++i) {
    text.push_back(kDigits[bytes[i] >> 4]);
    text.push_back(kDigits[bytes[i] & 15]);
  }
  return text;
}

std::array<uint32_t, 256> makeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82F63B78u : 0u);
    table[i] = value;
  }
  return table;
}

uint32_t crcByTable(std::string_view data, uint32_t value) {
  static const std::array<uint32_t, 256> kTable = makeCrcTable();
  for (const char c : data)
    value = kTable[(value ^ static_cast<unsigned char>(c)) & 255] ^ (value >> 8);
  return value;
}

#if defined(__x86_64__)
// The processor has an instruction for this polynomial: eight bytes at a time.
__attribute__((target("sse4.2"))) uint32_t crcByInstruction(std::string_view data, uint32_t value) {
  uint64_t wide = value;
  while (data.size() >= sizeof wide) {
    uint64_t word = 0;
    std::memcpy(&word, data.data(), sizeof word);
    wide = __builtin_ia32_crc32di(wide, word);
    data.remove_prefix(sizeof word);
  }
  value = static_cast<uint32_t>(wide);
  for (const char c : data) value = __builtin_ia32_crc32qi(value, static_cast<unsigned char>(c));
  return value;
}
#endif

}  // namespace

struct Sha256::State {
  SHA256_CTX context;
};

Sha256::Sha256() : state_(std::make_unique<State>()) { SHA256_Init(&state_->context); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::string_view data) {
  SHA256_Update(&state_->context, data.data(), data.size());
}

std::string Sha256::hex() {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256_Final(digest, &state_->context);
  return toHex(digest, sizeof digest);
}

std::string sha256Hex(std::string_view data) {
  Sha256 sha;
  sha.update(data);
  return sha.hex();
}

Result<std::string> sha256HexOfFd(int fd) {
  Sha256 sha;
  std::vector<char> buffer(256 * 1024);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, "read");
    if (got == 0) return sha.hex();
    sha.update({buffer.data(), static_cast<size_t>(got)});
  }
}

Result<std::string> sha256HexOfFile(const std::string& path) {
  CCTL_TRY(Fd fd, openFile(path, O_RDONLY));
  auto digest = sha256HexOfFd(fd.get());
  if (!digest) return fail(digest.error().context(path));
  return digest;
}

bool isSha256Hex(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string randomHex(size_t bytes) {
  std::vector<unsigned char> data(bytes);
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::getrandom(data.data() + done, bytes - done, 0);
    if (got < 0 && errno != EINTR) std::abort();  // no randomness: nothing safe can be done
    if (got > 0) done += static_cast<size_t>(got);
  }
  return toHex(data.data(), data.size());
}

uint32_t crc32c(std::string_view data, uint32_t seed) {
#if defined(__x86_64__)
  static const bool fast = __builtin_cpu_supports("sse4.2");
  if (fast) return ~crcByInstruction(data, ~seed);
#endif
  return ~crcByTable(data, ~seed);
}

}  // namespace cctl
