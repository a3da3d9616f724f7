// Private keys that sign other things than logins: out of a file or by the agent.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/context.h"

namespace cctl::ssh {

struct Signer {
  std::string public_blob;  // key or certificate, in its wire form
  std::string name;         // for people: the file, or the agent's comment
  // The signature in its wire form (algorithm and bytes); RSA with SHA-512. Blocks while the agent
  // waits for a touch or a confirmation, at most two minutes.
  std::function<Result<std::string>(std::string_view data)> sign;
};

struct SignerOptions {
  std::string agent;        // the socket; empty: there is none
  PassphrasePrompt prompt;  // empty: there is no terminal
  const CancelToken* cancel = nullptr;
};

// `file` is a private key, or the .pub or -cert.pub file of one. The agent signs when it holds the
// key and the file is public or has a passphrase; else the private file does, asking for its
// passphrase. kError, saying what to do, when neither can.
[[nodiscard]] Result<Signer> signerOf(const std::string& file, const SignerOptions& options);

// What the agent holds, in its order; empty without one.
std::vector<Signer> agentSigners(const SignerOptions& options);

}  // namespace cctl::ssh
