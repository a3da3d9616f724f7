#include "transport/signer.h"

#include <strings.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/ssh_wire.h"
#include "transport/agent.h"
#include "transport/keys.h"
#include "transport/private_key.h"

namespace cctl::ssh {
namespace {

constexpr Millis kAgentPatience{120'000};
constexpr size_t kMaxKeyFile = 1u << 20;

bool isSecurityKey(std::string_view blob) { return WireReader(blob).string().starts_with("sk-"); }

Signer agentSigner(const AgentIdentity& identity, const SignerOptions& options) {
  return {identity.blob, identity.comment + " (agent)",
          [blob = identity.blob, socket = options.agent,
           cancel = options.cancel](std::string_view data) {
            return signWithAgent(socket, blob, data, Deadline::in(kAgentPatience), cancel);
          }};
}

// "FILE" of "FILE.pub" and "FILE-cert.pub".
std::string privateFileOf(const std::string& file) {
  for (const std::string_view end : {"-cert.pub", ".pub"})
    if (file.ends_with(end)) return file.substr(0, file.size() - end.size());
  return file;
}

// The key or certificate in a public file; empty when it is none.
std::string blobIn(const std::string& text) {
  const size_t begin = text.find(' ');
  if (text.starts_with("-----") || begin == std::string::npos) return {};
  const size_t end = text.find_first_of(" \t\r\n", begin + 1);
  return base64Decode(std::string_view(text).substr(begin + 1, end - begin - 1)).value_or("");
}

// Asks for the passphrase, three times at most.
Result<PrivateKey> unlock(const std::string& file, const std::string& text,
                          const SignerOptions& options) {
  if (!options.prompt)
    return fail(Code::kError,
                "it has a passphrase and there is no terminal to ask on: run `ssh-add {}` first",
                file);
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto passphrase = options.prompt(file);
    if (!passphrase) return fail(Code::kError, "no passphrase was given");
    auto key = parsePrivateKey(text, *passphrase);
    ::explicit_bzero(passphrase->data(), passphrase->size());
    if (key || key.error().code != Code::kRefused) return key;
  }
  return fail(Code::kError, "wrong passphrase");
}

Result<Signer> fileSigner(const std::string& file, const KeyFile& key_file, std::string blob,
                          const SignerOptions& options) {
  if (key_file.state == KeyFile::State::kMissing)
    return fail(Code::kNotFound, "{}: there is no such private key, and the agent does not hold it",
                file);
  CCTL_TRY(const std::string text, readFile(file, kMaxKeyFile));
  if (blob.empty()) blob = key_file.public_blob;
  if (isSecurityKey(publicBlobOf(text)) || isSecurityKey(blob))
    return fail(Code::kError,
                "{}: a hardware key signs through the agent only: `ssh-add {}`, or sign with "
                "ssh-keygen and attach its file with --signature",
                file, file);
  if (key_file.state == KeyFile::State::kUnusable)
    return fail(Code::kError, "{}: {}", file, key_file.problem);
  if (blob.empty())
    return fail(Code::kError, "{}: its public half is not known: ssh-keygen -y -f {} > {}.pub",
                file, file, file);
  auto key = key_file.state == KeyFile::State::kEncrypted ? unlock(file, text, options)
                                                          : parsePrivateKey(text, "");
  if (!key) return fail(key.error().context(file));
  return Signer{std::move(blob), file,
                [key = *key](std::string_view data) { return signWith(key, data); }};
}

}  // namespace

std::vector<Signer> agentSigners(const SignerOptions& options) {
  AgentDirectory agents;
  std::vector<Signer> signers;
  for (const AgentIdentity& identity :
       agents.identities(options.agent, Deadline::in(kAgentPatience), options.cancel))
    signers.push_back(agentSigner(identity, options));
  return signers;
}

Result<Signer> signerOf(const std::string& file, const SignerOptions& options) {
  CCTL_TRY(const std::string text, readFile(file, kMaxKeyFile));
  const std::string named = blobIn(text);
  const std::string private_file = named.empty() ? file : privateFileOf(file);
  const KeyFile key_file = readKeyFile(private_file);
  const std::string& wanted = named.empty() ? key_file.public_blob : named;
  // A key that lies there open needs nobody's help.
  if (named.empty() && key_file.state == KeyFile::State::kPlain)
    return fileSigner(private_file, key_file, named, options);
  for (Signer& signer : agentSigners(options))
    if (!wanted.empty() && signer.public_blob == wanted) return std::move(signer);
  return fileSigner(private_file, key_file, named, options);
}

}  // namespace cctl::ssh
