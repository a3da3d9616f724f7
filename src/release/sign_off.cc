#include "release/sign_off.h"

#include <algorithm>
#include <set>

#include "base/text.h"
#include "model/utf8.h"

namespace cctl::release {
namespace {

bool isAskedFor(const SignOff& policy, const Signer& signer) {
  return policy.by.empty() || std::any_of(policy.by.begin(), policy.by.end(),
                                          [&](const auto& pattern) { return signer.is(pattern); });
}

void identify(const SignOff& policy, const std::vector<AllowedSigner>& allowed,
              const SshSignature& signature, WallTime now, SignatureVerdict& verdict) {
  const auto signers =
      findSigners(allowed, policy.allowed_signers, signature.key, kSignatureNamespace, now);
  if (!signers) {
    verdict.problem = signers.error().message;
    return;
  }
  const auto asked = std::find_if(signers->begin(), signers->end(),
                                  [&](const Signer& signer) { return isAskedFor(policy, signer); });
  verdict.counts = asked != signers->end();
  verdict.person = printable((verdict.counts ? *asked : signers->front()).person);
  if (!verdict.counts)
    verdict.problem = fmt::format("sign_off.by asks for {}", fmt::join(policy.by, " or "));
}

// Fills in all but the people; the key, where the file is a signature.
std::optional<SshSignature> check(const StoredSignature& stored, std::string_view sums,
                                  SignatureVerdict& verdict) {
  verdict.name = stored.name;
  verdict.text = stored.text;
  auto signature = parseSshSignature(stored.text);
  if (!signature) {
    verdict.problem = printable(signature.error().message);
    return std::nullopt;
  }
  verdict.key = signature->key.type + " " + signature->key.fingerprint();
  const auto good = verifySshSignature(*signature, sums, kSignatureNamespace);
  verdict.genuine = good.has_value();
  if (!good) verdict.problem = printable(good.error().message);
  return std::move(*signature);
}

std::string listed(const SignOffVerdict& verdict) {
  std::string text;
  for (const SignatureVerdict& one : verdict.signatures) {
    text += fmt::format("\n  {}: ", one.name);
    if (!one.person.empty()) text += one.person + ", ";
    text += one.counts ? "good" : one.problem;
  }
  return text;
}

}  // namespace

SignOffVerdict judgeSignatures(const SignOff& policy, const std::vector<AllowedSigner>* allowed,
                               std::string_view sums,
                               const std::vector<StoredSignature>& signatures, WallTime now) {
  SignOffVerdict verdict;
  verdict.nobody_allowed = allowed == nullptr;
  std::set<std::string> people, keys;
  for (const StoredSignature& stored : signatures) {
    SignatureVerdict& one = verdict.signatures.emplace_back();
    const auto signature = check(stored, sums, one);
    if (!one.genuine || allowed == nullptr) continue;
    identify(policy, *allowed, *signature, now, one);
    // One key under two names is one person, as are two keys under one name.
    if (one.counts && keys.insert(signature->key.plain_blob).second) people.insert(one.person);
  }
  verdict.signers.assign(people.begin(), people.end());
  return verdict;
}

Result<void> checkSignOff(const SignOff& policy, const ReleaseInfo& release,
                          const SignOffVerdict& verdict) {
  const auto needed = static_cast<size_t>(policy.count);
  if (!policy.required || verdict.signers.size() >= needed) return {};
  const std::string who = policy.by.empty() ? fmt::format("anyone in {}", policy.allowed_signers)
                                            : fmt::format("{}", fmt::join(policy.by, " or "));
  return fail(Code::kRefused,
              "{} {} is not signed off: {} of {} by {}{}{}\nsign it with `clusterctl release sign "
              "{} {}`, or attach a signature with --signature FILE",
              release.service, release.version, verdict.signers.size(),
              counted(needed, "signature"), who,
              verdict.signatures.empty() ? "; nobody has signed it" : ":", listed(verdict),
              release.service, release.version);
}

}  // namespace cctl::release
