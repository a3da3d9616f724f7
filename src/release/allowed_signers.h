// OpenSSH's allowed_signers (ssh-keygen(1), ALLOWED SIGNERS): which key may sign as whom.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/problem.h"
#include "release/ssh_key.h"

namespace cctl::release {

// One line: PRINCIPALS [OPTIONS] KEY.
struct AllowedSigner {
  std::string principals;              // a list of patterns
  bool authority = false;              // cert-authority: the key signs certificates
  std::optional<std::string> purpose;  // namespaces="…": a list of patterns
  std::optional<WallTime> valid_after;
  std::optional<WallTime> valid_before;
  SshPublicKey key;
  Location where;
};

// What is wrong is added to `problems`, each with its line and column; those lines are left out.
// Times without a Z are of this machine's time zone, as OpenSSH takes them.
std::vector<AllowedSigner> parseAllowedSigners(std::string_view text, const std::string& file,
                                               Problems& problems);

// The same as one value: kBadInput with every problem.
[[nodiscard]] Result<std::vector<AllowedSigner>> loadAllowedSigners(const std::string& file);

// Who signed, by one line.
struct Signer {
  std::string person;  // the first principal of the line, or of the certificate
  // Of a key: the line's principals, as written. Of a certificate: those of its names that the line
  // admits, commas between.
  std::string principals;
  bool certified = false;

  // Whether this is one of those whom a pattern of `sign_off.by` means.
  bool is(std::string_view pattern) const;
};

// By every line that lets the key sign for this purpose at this time, in the order of the file;
// kRefused when there is none, saying why not and what to do.
[[nodiscard]] Result<std::vector<Signer>> findSigners(const std::vector<AllowedSigner>& allowed,
                                                      const std::string& file,
                                                      const SshPublicKey& key,
                                                      std::string_view name_space, WallTime now);

}  // namespace cctl::release
