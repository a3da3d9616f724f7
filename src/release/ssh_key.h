// Public SSH keys and certificates in their wire form, and signatures made by them: RFC 4253
// section 6.6 and RFC 8332 (RSA), RFC 5656 (ECDSA), RFC 8709 (Ed25519), OpenSSH's PROTOCOL.u2f
// (sk-) and PROTOCOL.certkeys. Pure but for the arithmetic, which is libcrypto's; every byte is
// untrusted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct evp_pkey_st;  // EVP_PKEY

namespace cctl::release {

// RSA keys below this are refused: they can be factored. Above the other, verifying is a burden.
constexpr int kLeastRsaBits = 2048;
constexpr int kMostRsaBits = 16384;

// What an authority vouches for (PROTOCOL.certkeys). Its own signature was checked.
struct SshCertificate {
  bool user = false;                    // of a person; else of a host
  std::string key_id;                   // free text
  std::vector<std::string> principals;  // the names that the holder may use
  uint64_t valid_after = 0;             // seconds since 1970, inclusive
  uint64_t valid_before = 0;            // exclusive; the largest number is "for ever"
  std::vector<std::string> critical;    // names of critical options
  std::string authority;                // the blob of the authority's key
};

struct SshPublicKey {
  std::string type;         // "ssh-ed25519": of the key, also in a certificate
  std::string blob;         // as it was given, certificate and all
  std::string plain_blob;   // the key alone; equal for equal keys
  std::string application;  // sk- keys only
  std::optional<SshCertificate> certificate;
  std::shared_ptr<evp_pkey_st> key;

  std::string fingerprint() const;  // of the key alone: "SHA256:…" as ssh-keygen -l prints it
};

// kBadInput for what is no such key, of a kind that is not accepted (DSA, short RSA), or a
// certificate whose authority did not sign it.
[[nodiscard]] Result<SshPublicKey> parseSshPublicKey(std::string_view blob);

// "ssh-ed25519 AAAA… comment", a line as in a .pub file.
[[nodiscard]] Result<SshPublicKey> parseSshPublicKeyLine(std::string_view line);

// `signature` as SSH encodes it: its algorithm and its bytes. kRefused when it is not that of `key`
// over `data`; algorithms with SHA-1 are refused by name.
[[nodiscard]] Result<void> verifySshSignature(const SshPublicKey& key, std::string_view data,
                                              std::string_view signature);

// SHA-256 or SHA-512, as bytes; empty for another name ("sha256", "sha512").
std::string hashBytes(std::string_view name, std::string_view data);

}  // namespace cctl::release
