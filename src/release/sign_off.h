// Is a release signed off as the inventory wants? Decides; reads and contacts nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/release_info.h"
#include "model/sign_off.h"
#include "release/allowed_signers.h"
#include "release/sshsig.h"

namespace cctl::release {

// A signature file of the store.
struct StoredSignature {
  std::string name;  // below the release's directory: "SHA256SUMS.sig", "signatures/….sig"
  std::string text;
};

// What the signature file says, and who made it.
struct SignatureVerdict {
  std::string name;
  std::string text;
  std::string key;       // "ssh-ed25519 SHA256:…"; empty when the file cannot be read
  bool genuine = false;  // the key made it over exactly this content, for this purpose
  std::string person;    // by allowed_signers; empty when that does not let the key sign
  bool counts = false;   // one of those that `by` asks for
  std::string problem;   // why it is not genuine, or does not count
};

struct SignOffVerdict {
  std::vector<SignatureVerdict> signatures;
  std::vector<std::string> signers;  // different people whose signatures count, sorted
  // Nobody said who may sign (no allowed_signers): persons are unknown and nothing counts.
  bool nobody_allowed = false;
};

// `allowed` is nullptr when the inventory names no file.
SignOffVerdict judgeSignatures(const SignOff& policy, const std::vector<AllowedSigner>* allowed,
                               std::string_view sums,
                               const std::vector<StoredSignature>& signatures, WallTime now);

// kRefused when the policy asks for more than is there: what is there, and what to do.
[[nodiscard]] Result<void> checkSignOff(const SignOff& policy, const ReleaseInfo& release,
                                        const SignOffVerdict& verdict);

}  // namespace cctl::release
