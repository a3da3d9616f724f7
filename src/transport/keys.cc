#include "transport/keys.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/base64.h"
#include "base/file.h"
#include "base/ssh_wire.h"

namespace cctl::ssh {
namespace {

// Given to libssh instead of a passphrase: notes that one is needed.
int noteAsked(const char*, char*, size_t, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// Of a file as ssh-keygen writes it: type, blob, comment.
std::string blobFromPubFile(const std::string& path) {
  const auto text = readFile(path, 1u << 20);
  if (!text) return {};
  const auto begin = text->find(' ');
  if (begin == std::string::npos) return {};
  const auto end = text->find_first_of(" \r\n", begin + 1);
  return base64Decode(std::string_view(*text).substr(begin + 1, end - begin - 1)).value_or("");
}

std::string publicBlobOfKey(ssh_key key) {
  char* text = nullptr;
  if (ssh_pki_export_pubkey_base64(key, &text) != SSH_OK) return {};
  auto blob = base64Decode(text);
  ssh_string_free_char(text);
  return blob.value_or("");
}

// A certificate holds its type, a nonce, and then the key's own fields (PROTOCOL.certkeys).
bool certifies(std::string_view certificate, std::string_view public_blob) {
  WireReader key(public_blob), signed_key(certificate);
  key.string();
  signed_key.string();
  signed_key.string();
  return !signed_key.failed() && !key.failed() && signed_key.rest().starts_with(key.rest());
}

std::optional<std::string> permissionProblem(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  if (info.st_uid != ::getuid() || (info.st_mode & 077) == 0) return std::nullopt;
  return fmt::format("others may read it (mode {:04o}): chmod 600 {}", info.st_mode & 07777, path);
}

KeyFile unusable(KeyFile file, std::string problem) {
  file.state = KeyFile::State::kUnusable;
  file.problem = std::move(problem);
  return file;
}

}  // namespace

std::string publicBlobOf(const std::string& private_key_text) {
  constexpr std::string_view kBegin = "-----BEGIN OPENSSH PRIVATE KEY-----";
  const auto begin = private_key_text.find(kBegin);
  if (begin == std::string::npos) return {};
  std::string text;
  for (size_t i = begin + kBegin.size(); i < private_key_text.size(); ++i) {
    const char c = private_key_text[i];
    if (c == '-') break;
    if (c != '\n' && c != '\r' && c != ' ') text += c;
  }
  const auto bytes = base64Decode(text);
  constexpr std::string_view kMagic("openssh-key-v1\0", 15);
  if (!bytes || !bytes->starts_with(kMagic)) return {};
  WireReader reader(std::string_view(*bytes).substr(kMagic.size()));
  reader.string();  // cipher
  reader.string();  // key derivation
  reader.string();  // its options
  reader.number();  // keys that follow
  const auto blob = reader.string();
  return reader.failed() ? std::string() : std::string(blob);
}

KeyFile readKeyFile(const std::string& path) {
  KeyFile file;
  file.path = path;
  const auto text = readFile(path, 1u << 20);
  if (!text) {
    if (text.error().code == Code::kNotFound) return file;
    return unusable(std::move(file), text.error().message);
  }
  if (auto problem = permissionProblem(path)) return unusable(std::move(file), *problem);
  bool asked = false;
  ssh_key key = nullptr;
  if (ssh_pki_import_privkey_base64(text->c_str(), nullptr, noteAsked, &asked, &key) == SSH_OK) {
    file.state = KeyFile::State::kPlain;
    file.key.reset(key);
    file.public_blob = publicBlobOfKey(key);
    return file;
  }
  if (!asked) return unusable(std::move(file), "no private key that can be read");
  file.state = KeyFile::State::kEncrypted;
  file.public_blob = publicBlobOf(*text);
  if (file.public_blob.empty()) file.public_blob = blobFromPubFile(path + ".pub");
  return file;
}

std::shared_ptr<const KeyFile> KeyStore::find(const std::string& path) {
  const std::lock_guard lock(mutex_);
  auto& slot = files_[path];
  if (!slot) slot = std::make_shared<const KeyFile>(readKeyFile(path));
  return slot;
}

KeyStore::Unlocked KeyStore::ask(const KeyFile& file) {
  Unlocked unlocked;
  if (!prompt_) {
    unlocked.error = Error{Code::kFailed,
                           "it has a passphrase and there is no terminal to ask on: "
                           "run `ssh-add " +
                               file.path + "` first"};
    return unlocked;
  }
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto passphrase = prompt_(file.path);
    if (!passphrase) {
      unlocked.error = Error{Code::kFailed, "no passphrase was given"};
      return unlocked;
    }
    ssh_key key = nullptr;
    const int rc =
        ssh_pki_import_privkey_file(file.path.c_str(), passphrase->c_str(), nullptr, nullptr, &key);
    for (char& c : *passphrase) ::explicit_bzero(&c, 1);
    if (rc == SSH_OK) {
      unlocked.key.reset(key);
      return unlocked;
    }
  }
  unlocked.error = Error{Code::kFailed, "wrong passphrase"};
  return unlocked;
}

Result<ssh_key> KeyStore::unlock(const KeyFile& file) {
  const std::lock_guard asking(asking_);
  auto found = unlocked_.find(file.path);
  if (found == unlocked_.end()) found = unlocked_.emplace(file.path, ask(file)).first;
  if (found->second.error) return fail(*found->second.error);
  return found->second.key.get();
}

ssh_key KeyStore::withCertificate(ssh_key key, const std::string& certificate_file) {
  const std::lock_guard lock(mutex_);
  const auto [slot, fresh] = certified_.try_emplace({key, certificate_file});
  if (!fresh) return slot->second.get();
  if (!certifies(blobFromPubFile(certificate_file), publicBlobOfKey(key))) return nullptr;
  ssh_key certificate = nullptr;
  if (ssh_pki_import_cert_file(certificate_file.c_str(), &certificate) != SSH_OK) return nullptr;
  const KeyPtr owned(certificate);
  KeyPtr copy(ssh_key_dup(key));
  if (!copy || ssh_pki_copy_cert_to_privkey(certificate, copy.get()) != SSH_OK) return nullptr;
  slot->second = std::move(copy);
  return slot->second.get();
}

}  // namespace cctl::ssh
