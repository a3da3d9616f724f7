// Private key files as keys of libcrypto, to sign with: OpenSSH's own format (PROTOCOL.key) and
// PEM.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_pkey_st;  // EVP_PKEY

namespace cctl::ssh {

using PrivateKey = std::shared_ptr<evp_pkey_st>;

// `passphrase` is empty for a file that has none. kRefused when it is wrong; kError for a file or a
// cipher that is not known here.
[[nodiscard]] Result<PrivateKey> parsePrivateKey(const std::string& text,
                                                 const std::string& passphrase);

// An SSH signature (algorithm and bytes); RSA with SHA-512. kError for keys that SSH does not have.
[[nodiscard]] Result<std::string> signWith(const PrivateKey& key, std::string_view data);

}  // namespace cctl::ssh
