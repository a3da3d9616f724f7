// Signatures over files in OpenSSH's format (PROTOCOL.sshsig), as `ssh-keygen -Y sign` writes them
// and `ssh-keygen -Y verify` reads them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "release/ssh_key.h"

namespace cctl::release {

// The namespace of signatures over releases: a signature made for git or mail is none over a
// release.
inline constexpr std::string_view kSignatureNamespace = "clusterctl-release";

constexpr size_t kMaxSignatureFile = 64u << 10;

struct SshSignature {
  SshPublicKey key;
  std::string name_space;
  std::string hash;       // "sha256" or "sha512"
  std::string signature;  // as verifySshSignature() takes it
};

// The text between "-----BEGIN SSH SIGNATURE-----" and its end, line ends of any kind; kBadInput
// for anything else before, between or after them.
[[nodiscard]] Result<SshSignature> parseSshSignature(std::string_view armored);

// kRefused unless it is that of its key over `message` in this namespace. Whose key it is, is
// another question.
[[nodiscard]] Result<void> verifySshSignature(const SshSignature& signature,
                                              std::string_view message,
                                              std::string_view name_space);

// Makes an SSH signature (algorithm and bytes) over data; the private half of a key, wherever it
// is.
using SignFunction = std::function<Result<std::string>(std::string_view data)>;

// The armoured signature of the key `public_blob` over `message`. Checked before it is returned: a
// signer that signs something else is an error.
[[nodiscard]] Result<std::string> signSsh(std::string_view public_blob, const SignFunction& sign,
                                          std::string_view message, std::string_view name_space);

}  // namespace cctl::release
