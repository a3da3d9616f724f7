// release sign, release verify
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "ops/release_source.h"
#include "transport/signer.h"

namespace cctl::cli {
namespace {

using release::AllowedSigner;
using release::ReleaseStore;
using release::SignatureVerdict;
using release::SignOffVerdict;

struct SignOptions {
  std::string service, version, key, signature;
};

struct Named {
  ReleaseStore store;
  ReleaseInfo info;
};

// The release, and why it is not what was added; its records damaged is one of the reasons.
Result<Named> loadNamed(Context& context, const SignOptions& options) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.service)));
  CCTL_TRY(const Version version, asUsage(parseVersion(options.version)));
  ReleaseStore store(inventory->releases);
  auto info = store.load(service, version);
  if (!info && info.error().code == Code::kCorrupt) info.error().code = Code::kRefused;
  if (!info) return fail(info.error());
  return Named{std::move(store), std::move(*info)};
}

Result<void> checkUnchanged(const Named& release) {
  CCTL_TRY(const std::vector<std::string> problems, release.store.check(release.info));
  if (problems.empty()) return {};
  return fail(Code::kRefused, "{} {} in {} is not what was added, and must not be signed: {}",
              release.info.service, release.info.version, release.store.directory(),
              problems.front());
}

std::string nameOf(const ReleaseInfo& info) {
  return fmt::format("{} {}", info.service, info.version);
}

// ---- sign --------------------------------------------------------------------------------------

// Of several keys in the agent, the one that `allowed_signers` lets sign.
Result<ssh::Signer> chooseFromAgent(const Inventory& inventory, std::vector<ssh::Signer> signers) {
  if (signers.empty())
    return fail(Code::kUsage,
                "there is no agent with a key (SSH_AUTH_SOCK): name a key with --key FILE");
  const std::string& file = inventory.sign_off.allowed_signers;
  if (!file.empty()) {
    CCTL_TRY(const std::vector<AllowedSigner> allowed, release::loadAllowedSigners(file));
    std::erase_if(signers, [&](const ssh::Signer& signer) {
      const auto key = release::parseSshPublicKey(signer.public_blob);
      return !key || !release::findSigners(allowed, file, *key, release::kSignatureNamespace,
                                           SystemClock().wall());
    });
    if (signers.empty())
      return fail(Code::kRefused, "no key of the agent may sign by {}: name a key with --key FILE",
                  file);
  }
  if (signers.size() == 1) return std::move(signers.front());
  std::string names;
  for (const ssh::Signer& signer : signers) names += (names.empty() ? "" : ", ") + signer.name;
  return fail(Code::kUsage,
              "the agent holds several keys that could sign ({}): name one with "
              "--key FILE.pub",
              printable(names));
}

Result<ssh::Signer> signerFor(Context& context, const SignOptions& options) {
  const char* agent = std::getenv("SSH_AUTH_SOCK");
  const ssh::SignerOptions how{agent == nullptr ? "" : agent, context.passphrasePrompt(),
                               &context.cancel()};
  if (!options.key.empty()) return ssh::signerOf(options.key, how);
  CCTL_TRY(const Inventory* inventory, context.inventory());
  return chooseFromAgent(*inventory, ssh::agentSigners(how));
}

Result<std::string> makeSignature(Context& context, const SignOptions& options,
                                  const std::string& sums) {
  CCTL_TRY(const ssh::Signer signer, signerFor(context, options));
  context.progress().phase("signing with " + signer.name);
  auto text = release::signSsh(signer.public_blob, signer.sign, sums, release::kSignatureNamespace);
  if (!text) return fail(text.error().context(signer.name));
  return text;
}

Result<std::string> readSignature(const std::string& file, const std::string& sums) {
  CCTL_TRY(std::string text, readFile(file, release::kMaxSignatureFile));
  auto signature = release::parseSshSignature(text);
  if (!signature) return fail(signature.error().context(file));
  const auto good = release::verifySshSignature(*signature, sums, release::kSignatureNamespace);
  if (!good) return fail(good.error().context(file));
  return text;
}

Json signatureJson(const SignatureVerdict& one) {
  return {{"file", one.name},     {"key", one.key},       {"genuine", one.genuine},
          {"person", one.person}, {"counts", one.counts}, {"problem", one.problem}};
}

Json signOffJson(const SignOff& policy, const ReleaseInfo& info, const SignOffVerdict& verdict) {
  Json list = Json::array();
  for (const SignatureVerdict& one : verdict.signatures) list.push_back(signatureJson(one));
  return {
      {"format", 1},
      {"service", info.service.str()},
      {"version", info.version.str()},
      {"digest", info.digest},
      {"signatures", list},
      {"signers", verdict.signers},
      {"required", policy.required},
      {"needed", policy.count},
      {"signed_off",
       policy.required ? Json(release::checkSignOff(policy, info, verdict).has_value()) : Json()}};
}

// "signed off: 2 signatures, 2 needed"
std::string standing(const SignOff& policy, const SignOffVerdict& verdict) {
  if (!policy.required) return "sign-off is not required here";
  const bool enough = static_cast<int>(verdict.signers.size()) >= policy.count;
  return fmt::format("{}: {}, {} needed", enough ? "signed off" : "not signed off yet",
                     counted(verdict.signers.size(), "signature"), policy.count);
}

std::string personOf(const SignatureVerdict& one) {
  return one.person.empty() ? std::string("an unknown person") : one.person;
}

Result<void> reportSigned(Context& context, const Named& release, const std::string& name) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const SignOffVerdict verdict,
           ops::judgeSignOff(*inventory, release.store, release.info, SystemClock().wall()));
  const SignOff& policy = inventory->sign_off;
  SignatureVerdict made;
  for (const SignatureVerdict& one : verdict.signatures)
    if (one.name == name) made = one;
  if (!made.counts)
    context.progress().warning(
        nameOf(release.info),
        verdict.nobody_allowed
            ? "kept, but nothing says whose it is: sign_off.allowed_signers is not set"
            : "kept, but it does not count: " + made.problem);
  if (context.json()) {
    Json json = signOffJson(policy, release.info, verdict);
    json["signature"] = signatureJson(made);
    context.printJson(json);
    return {};
  }
  context.print(fmt::format("{}: signed by {} with {}\n{}: {}\n", nameOf(release.info),
                            personOf(made), made.key, nameOf(release.info),
                            standing(policy, verdict)));
  return {};
}

Result<int> runSign(Context& context, const SignOptions& options) {
  if (!options.key.empty() && !options.signature.empty())
    return fail(Code::kUsage, "--key makes a signature, --signature brings one: give one of them");
  CCTL_TRY(const Named release, loadNamed(context, options));
  CCTL_CHECK(checkUnchanged(release));
  const std::string sums = ReleaseStore::sums(release.info);
  if (context.globals().dry_run && options.signature.empty()) {
    CCTL_TRY(const ssh::Signer signer, signerFor(context, options));
    context.printDryRun(fmt::format("sign {} with {}", nameOf(release.info), signer.name));
    return kExitOk;
  }
  CCTL_TRY(const std::string text, options.signature.empty()
                                       ? makeSignature(context, options, sums)
                                       : readSignature(options.signature, sums));
  if (context.globals().dry_run) {
    context.printDryRun(fmt::format("keep {} with {}", options.signature, nameOf(release.info)));
    return kExitOk;
  }
  CCTL_TRY(const std::string name, release.store.addSignature(release.info, text));
  CCTL_CHECK(reportSigned(context, release, name));
  return kExitOk;
}

Run defineSign(CLI::App& app) {
  auto options = std::make_shared<SignOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("VERSION", options->version, "Version")->required();
  app.add_option("--key", options->key,
                 "Private key, or the .pub file of a key that the agent holds (default: the "
                 "agent's key)");
  app.add_option("--signature", options->signature,
                 "Keep this signature, made by ssh-keygen -Y sign -n clusterctl-release");
  return [options](Context& context) { return runSign(context, *options); };
}

// ---- verify ------------------------------------------------------------------------------------

std::string signatureLine(const SignatureVerdict& one, bool nobody_allowed) {
  if (!one.genuine) return fmt::format("BAD: {}: {}\n", one.name, one.problem);
  if (nobody_allowed) return fmt::format("signed with {}: {}\n", one.key, one.name);
  if (one.counts) return fmt::format("signed by {} with {}: {}\n", one.person, one.key, one.name);
  return fmt::format("not counted: {}{} with {}: {}\n", one.person.empty() ? "" : one.person + ", ",
                     one.name, one.key, one.problem);
}

Result<int> runVerifyRelease(Context& context, const SignOptions& options) {
  CCTL_TRY(const Named release, loadNamed(context, options));
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<std::string> problems, release.store.check(release.info));
  CCTL_TRY(const SignOffVerdict verdict,
           ops::judgeSignOff(*inventory, release.store, release.info, SystemClock().wall()));
  const SignOff& policy = inventory->sign_off;
  const auto allowed = release::checkSignOff(policy, release.info, verdict);
  const bool forged = std::any_of(verdict.signatures.begin(), verdict.signatures.end(),
                                  [](const SignatureVerdict& one) { return !one.genuine; });
  const bool good = problems.empty() && allowed && !forged;
  if (context.json()) {
    Json json = signOffJson(policy, release.info, verdict);
    json["problems"] = problems;
    json["exact"] = problems.empty();
    context.printJson(json);
    return good ? kExitOk : kExitRefused;
  }
  for (const std::string& problem : problems) context.print(printable(problem) + "\n");
  if (problems.empty())
    context.print(fmt::format("{}: {}, exactly as added\n", nameOf(release.info),
                              counted(release.info.files.size(), "file")));
  for (const SignatureVerdict& one : verdict.signatures)
    context.print(signatureLine(one, verdict.nobody_allowed));
  if (!problems.empty())
    return fail(Code::kRefused, "{} in {} is not what was added", nameOf(release.info),
                release.store.directory());
  if (!allowed) return fail(allowed.error());
  if (forged)
    return fail(Code::kRefused,
                "{}: a signature is not over what is there; remove its file once you know why",
                nameOf(release.info));
  context.print(fmt::format("{}: {}\n", nameOf(release.info), standing(policy, verdict)));
  return kExitOk;
}

Run defineVerifyRelease(CLI::App& app) {
  auto options = std::make_shared<SignOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("VERSION", options->version, "Version")->required();
  return [options](Context& context) { return runVerifyRelease(context, *options); };
}

}  // namespace

std::vector<Command> signOffCommands() {
  return {{"sign", "Sign a release off, as QA does", "", defineSign, {}},
          {"verify",
           "Rehash a release of the local store and check its signatures",
           "",
           defineVerifyRelease,
           {}}};
}

}  // namespace cctl::cli
