// Private key files and the agent's identities: read once for all hosts.
#pragma once

#include <libssh/libssh.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/context.h"

namespace cctl::ssh {

struct KeyDeleter {
  void operator()(ssh_key key) const { ssh_key_free(key); }
};
using KeyPtr = std::unique_ptr<ssh_key_struct, KeyDeleter>;

// A key file as found on disk. The fields do not change; `unlocked` belongs to KeyStore.
struct KeyFile {
  enum class State { kMissing, kUnusable, kPlain, kEncrypted };
  std::string path;
  State state = State::kMissing;
  std::string problem;      // kUnusable: why, and what to do
  std::string public_blob;  // empty when not known without the passphrase
  KeyPtr key;               // kPlain
};

// Private keys, shared by all sessions: libssh only reads them while it signs.
class KeyStore {
 public:
  explicit KeyStore(PassphrasePrompt prompt) : prompt_(std::move(prompt)) {}

  // Reads the file on first use. Thread-safe.
  std::shared_ptr<const KeyFile> find(const std::string& path);

  // The private key of an encrypted file: asks the person, once for the whole run (three tries).
  // kFailed when there is nobody to ask, or they declined. Blocks while another host's thread asks.
  [[nodiscard]] Result<ssh_key> unlock(const KeyFile& file);

  // The same private key carrying the certificate of `certificate_file`; nullptr when that is
  // missing or belongs to another key.
  ssh_key withCertificate(ssh_key key, const std::string& certificate_file);

 private:
  struct Unlocked {
    std::optional<Error> error;
    KeyPtr key;
  };
  Unlocked ask(const KeyFile& file);

  const PassphrasePrompt prompt_;
  std::mutex mutex_;   // of the maps
  std::mutex asking_;  // one question at a time
  std::map<std::string, std::shared_ptr<const KeyFile>> files_;
  std::map<std::string, Unlocked> unlocked_;
  std::map<std::pair<ssh_key, std::string>, KeyPtr> certified_;
};

// Reads a key file without asking anybody anything. Refuses files that others may read, as ssh
// does.
KeyFile readKeyFile(const std::string& path);

// The public key's blob out of an OpenSSH private key file (PROTOCOL.key), which carries it
// unencrypted; empty when it is no such file.
std::string publicBlobOf(const std::string& private_key_text);

}  // namespace cctl::ssh
