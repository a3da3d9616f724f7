#include "transport/session.h"

#include <fcntl.h>
#include <libssh/callbacks.h>
#include <poll.h>

#include <algorithm>
#include <mutex>

#include "base/base64.h"
#include "base/ssh_wire.h"
#include "transport/tcp_connect.h"
#include "transport/wait.h"

namespace cctl::ssh {
namespace {

// AES-GCM first: it is rekeyed after 64 GiB instead of 1.
constexpr const char* kCiphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,"
    "aes128-ctr,aes192-ctr,aes256-ctr";
constexpr const char* kHostKeys =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    "sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";

constexpr const char* kCertificates =
    "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,"
    "ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com,"
    "rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,";

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  size_t begin = 0;
  while (begin <= list.size()) {
    const auto end = std::min(list.find(',', begin), list.size());
    if (end > begin) items.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

// Signature algorithms for the key types that are known of the host, then the others.
std::string hostKeyOrder(const std::vector<std::string>& known_types, const std::string& allowed) {
  const auto all = split(allowed);
  std::string order;
  auto add = [&](const std::string& algorithm) { order += (order.empty() ? "" : ",") + algorithm; };
  auto known = [&](const std::string& algorithm) {
    const auto type = algorithm.starts_with("rsa-sha2-") ? "ssh-rsa" : algorithm;
    return std::find(known_types.begin(), known_types.end(), type) != known_types.end();
  };
  for (const auto& algorithm : all) {
    if (known(algorithm)) add(algorithm);
  }
  for (const auto& algorithm : all) {
    if (!known(algorithm)) add(algorithm);
  }
  return order;
}

Result<void> set(ssh_session session, ssh_options_e option, const void* value) {
  if (ssh_options_set(session, option, value) == SSH_OK) return {};
  return fail(Code::kBadInput, "{}", ssh_get_error(session));
}

// An algorithm list of ssh_config in which libssh knows nothing is an error that names the list.
Result<void> setList(ssh_session session, ssh_options_e option, const char* key,
                     const std::string& list) {
  if (ssh_options_set(session, option, list.c_str()) == SSH_OK) return {};
  return fail(Code::kBadInput, "ssh_config: {} {}: none of these is supported here", key, list);
}

Result<void> setAlgorithms(ssh_session session, const ResolvedHost& host,
                           const std::vector<std::string>& host_key_types) {
  const auto ciphers = host.ciphers.value_or(kCiphers);
  CCTL_CHECK(setList(session, SSH_OPTIONS_CIPHERS_C_S, "Ciphers", ciphers));
  CCTL_CHECK(setList(session, SSH_OPTIONS_CIPHERS_S_C, "Ciphers", ciphers));
  if (host.kex) CCTL_CHECK(setList(session, SSH_OPTIONS_KEY_EXCHANGE, "KexAlgorithms", *host.kex));
  if (host.macs) {
    CCTL_CHECK(setList(session, SSH_OPTIONS_HMAC_C_S, "MACs", *host.macs));
    CCTL_CHECK(setList(session, SSH_OPTIONS_HMAC_S_C, "MACs", *host.macs));
  }
  // libssh's default leaves certificates of users out.
  const auto mine = std::string(kCertificates) + kHostKeys;
  CCTL_CHECK(set(session, SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, mine.c_str()));
  const auto keys = hostKeyOrder(host_key_types, host.host_key_algorithms.value_or(kHostKeys));
  return setList(session, SSH_OPTIONS_HOSTKEYS, "HostKeyAlgorithms", keys);
}

// Everything that libssh would otherwise read from files by itself is set or switched off: the
// configuration is resolved already, and known_hosts are indexed (libssh takes 150 ms a connection
// for 10,000 hashed names).
Result<void> setOptions(ssh_session session, const ResolvedHost& host) {
  const bool no = false;
  const auto port = static_cast<unsigned>(host.port);
  CCTL_CHECK(set(session, SSH_OPTIONS_PROCESS_CONFIG, &no));
  CCTL_CHECK(set(session, SSH_OPTIONS_SSH_DIR, "/"));
  CCTL_CHECK(set(session, SSH_OPTIONS_HOST, host.host_name.c_str()));
  CCTL_CHECK(set(session, SSH_OPTIONS_PORT, &port));
  CCTL_CHECK(set(session, SSH_OPTIONS_USER, host.user.c_str()));
  CCTL_CHECK(set(session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null"));
  return set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
}

}  // namespace

Result<void> initLibssh() {
  static std::once_flag once;
  static int status = SSH_OK;
  std::call_once(once, [] {
    status = ssh_init();
    ssh_set_log_level(SSH_LOG_NOLOG);
    ssh_set_log_callback([](int, const char*, const char*, void*) {});
  });
  if (status == SSH_OK) return {};
  return fail(Code::kError, "libssh cannot be initialised");
}

Result<Session> Session::handshake(Fd socket, const ResolvedHost& host,
                                   const std::vector<std::string>& host_key_types,
                                   Deadline deadline, const CancelToken* cancel, bool* greeted) {
  *greeted = true;
  Session session((SessionPtr(ssh_new())));
  ssh_session handle = session.get();
  if (handle == nullptr) return fail(Code::kError, "out of memory");
  ssh_set_blocking(handle, 0);
  CCTL_CHECK(setOptions(handle, host));
  CCTL_CHECK(setAlgorithms(handle, host, host_key_types));
  const int fd = socket.get();
  CCTL_CHECK(set(handle, SSH_OPTIONS_FD, &fd));
  *greeted = false;
  const auto step = [&] {
    const int rc = ssh_connect(handle);
    // From here on the socket is libssh's to close.
    socket.release();
    // It also makes the socket blocking once it sees it connected; a write would then not return
    // until a slow peer has taken everything.
    if (rc == SSH_AGAIN) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    return rc;
  };
  auto rc = session.drive(step, SSH_AGAIN, deadline, cancel);
  *greeted = ssh_get_serverbanner(handle) != nullptr;
  if (!rc) return fail(rc.error());
  if (*rc != SSH_OK) return fail(Code::kUnreachable, "{}", session.lastError());
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return session;
}

Result<int> Session::drive(const std::function<int()>& call, int again, Deadline deadline,
                           const CancelToken* cancel) {
  while (true) {
    const int socket = fd();
    if (socket >= 0) armQuickAck(socket);
    const int rc = call();
    if (rc != again) return rc;
    const bool write = (ssh_get_poll_flags(get()) & SSH_WRITE_PENDING) != 0;
    armQuickAck(fd());
    CCTL_CHECK(waitFor(fd(), static_cast<short>(POLLIN | (write ? POLLOUT : 0)), deadline, cancel));
  }
}

Result<HostKey> Session::hostKey() const {
  ssh_key key = nullptr;
  if (ssh_get_server_publickey(get(), &key) != SSH_OK) {
    return fail(Code::kUnreachable, "the server showed no host key");
  }
  char* text = nullptr;
  const int rc = ssh_pki_export_pubkey_base64(key, &text);
  ssh_key_free(key);
  if (rc != SSH_OK) return fail(Code::kUnreachable, "the server's host key makes no sense");
  HostKey host_key;
  host_key.blob = base64Decode(text).value_or("");
  host_key.type = WireReader(host_key.blob).string();
  ssh_string_free_char(text);
  return host_key;
}

}  // namespace cctl::ssh
