// known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), read once and then only looked up.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"

namespace cctl::ssh {

// A server's public key: its blob as on the wire (RFC 4253 section 6.6) and the type in it.
struct HostKey {
  std::string type;  // "ssh-ed25519"
  std::string blob;

  // "SHA256:…", as ssh-keygen -l prints it.
  std::string fingerprint() const;
};

enum class Verdict {
  kOk,
  kNew,        // nothing is known of this host
  kOtherType,  // keys of other types are known for it, none of this type
  kChanged,    // another key of this type is known for it
  kRevoked,    // the key stands in a @revoked line
};

struct HostKeyCheck {
  Verdict verdict = Verdict::kNew;
  std::string file;  // where the line stands that decided it; empty for kNew
  size_t line = 0;
  std::string known_fingerprint;  // kChanged, kOtherType: of that line
  std::string known_type;         // kOtherType: its type
  bool has_authority = false;     // an unsupported @cert-authority line matches the host
};

// What the lines of known_hosts files say. Immutable after load: read it from any thread.
class KnownHosts {
 public:
  // Missing files are fine; unreadable ones are an error; lines that cannot be read are skipped as
  // ssh does. Blocks on the disk.
  [[nodiscard]] static Result<KnownHosts> load(const std::vector<std::string>& files);
  // For tests and for appending: adds the lines of `text`, reported as FILE:LINE.
  void addText(std::string_view text, const std::string& file);

  // `host` as connected to (or HostKeyAlias), lower-cased by the callee; port 22 is plain.
  HostKeyCheck check(std::string_view host, int port, const HostKey& key) const;
  // Types known for the host, in the files' order: what to ask the server for first. Without
  // `hashed`, hashed lines are not looked at, which is cheap.
  std::vector<std::string> typesFor(std::string_view host, int port, bool hashed) const;

 private:
  enum class Marker { kNone, kRevoked, kAuthority };
  struct Line {
    Marker marker = Marker::kNone;
    HostKey key;
    size_t file = 0;  // index into files_
    size_t number = 0;
    std::vector<std::string> patterns;  // lower case; empty when hashed
    std::string salt, hash;             // of |1|salt|hash
  };
  void addLine(std::string_view text, size_t file, size_t number);
  HostKeyCheck checkName(const std::string& name, const HostKey& key) const;
  HostKeyCheck describe(Verdict verdict, const Line& line) const;
  std::vector<size_t> linesFor(const std::string& name) const;
  static bool matches(const Line& line, const std::string& name);

  std::vector<std::string> files_;
  std::vector<Line> lines_;
  // A host's plain lines and a key's lines are found at once; only a host that stands in none of
  // them costs a look at every hashed line (10,000 of them: 5 ms).
  std::unordered_multimap<std::string, size_t> by_name_;
  std::unordered_multimap<std::string, size_t> by_blob_;
  std::vector<size_t> others_;  // lines with wildcards, negation or a hash
};

// "host", or "[host]:port" when the port is not 22: how known_hosts names a server.
std::string knownHostsName(std::string_view host, int port);

// OpenSSH's match_pattern_list (ssh_config(5), PATTERNS): * and ?, a leading ! excludes.
bool matchesPatternList(std::string_view text, const std::vector<std::string>& patterns);

// The refusal, with the way forward; kUnreachable. `name` is the inventory's name of the host,
// `file` the known_hosts file that a new key would go to.
Error hostKeyError(const HostKeyCheck& check, const std::string& name, std::string_view host,
                   int port, const HostKey& key, const std::string& file);

// Appends a line for the host under flock(2) (O_APPEND, the file made 0600 and its directory 0700),
// unless the same line stands there already. `hashed` writes |1|salt|hash. Blocks on the disk;
// any number of processes may do it at once.
[[nodiscard]] Result<void> appendKnownHost(const std::string& file, std::string_view host, int port,
                                           const HostKey& key, bool hashed);

}  // namespace cctl::ssh
