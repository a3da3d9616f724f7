// libcrypto's low-level calls: one HMAC by EVP costs several times as much, and a file may hold
// tens of thousands of hashed names.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "transport/known_hosts.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>

#include "base/base64.h"
#include "base/digest.h"
#include "base/file.h"

namespace cctl::ssh {
namespace {

constexpr size_t kMaxFile = 256u << 20;

std::string lowerCase(std::string_view text) {
  std::string lower(text);
  for (auto& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string_view nextWord(std::string_view& text) {
  const auto begin = std::min(text.find_first_not_of(" \t\r"), text.size());
  const auto end = std::min(text.find_first_of(" \t\r", begin), text.size());
  const auto word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

std::vector<std::string> splitList(std::string_view list) {
  std::vector<std::string> items;
  while (true) {
    const auto comma = list.find(',');
    if (const auto item = list.substr(0, comma); !item.empty()) items.emplace_back(item);
    if (comma == std::string_view::npos) return items;
    list.remove_prefix(comma + 1);
  }
}

// The type that the blob begins with; empty when it is no key.
std::string typeOfBlob(std::string_view blob) {
  if (blob.size() < 4) return {};
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(blob[i]);
  if (length > blob.size() - 4 || length > 128) return {};
  return std::string(blob.substr(4, length));
}

std::string hmacSha1(std::string_view key, std::string_view text) {
  std::array<unsigned char, SHA_CBLOCK> inner{}, outer{};
  key = key.substr(0, SHA_CBLOCK);
  for (size_t i = 0; i < SHA_CBLOCK; ++i) {
    const auto byte = i < key.size() ? static_cast<unsigned char>(key[i]) : 0u;
    inner[i] = static_cast<unsigned char>(byte ^ 0x36u);
    outer[i] = static_cast<unsigned char>(byte ^ 0x5cu);
  }
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA_CTX context;
  SHA1_Init(&context);
  SHA1_Update(&context, inner.data(), inner.size());
  SHA1_Update(&context, text.data(), text.size());
  SHA1_Final(digest.data(), &context);
  SHA1_Init(&context);
  SHA1_Update(&context, outer.data(), outer.size());
  SHA1_Update(&context, digest.data(), digest.size());
  SHA1_Final(digest.data(), &context);
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

bool matchesPattern(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string hexToBytes(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

bool isSimple(const std::vector<std::string>& patterns) {
  return std::none_of(patterns.begin(), patterns.end(), [](const std::string& pattern) {
    return pattern.find_first_of("*?") != std::string::npos || pattern.starts_with('!');
  });
}

}  // namespace

std::string HostKey::fingerprint() const {
  return "SHA256:" + base64Encode(hexToBytes(sha256Hex(blob)), false);
}

bool matchesPatternList(std::string_view text, const std::vector<std::string>& patterns) {
  bool matched = false;
  for (const std::string_view pattern : patterns) {
    const bool negated = pattern.starts_with('!');
    if (!matchesPattern(text, negated ? pattern.substr(1) : pattern)) continue;
    if (negated) return false;
    matched = true;
  }
  return matched;
}

std::string knownHostsName(std::string_view host, int port) {
  const auto lower = lowerCase(host);
  return port == 22 ? lower : fmt::format("[{}]:{}", lower, port);
}

Result<KnownHosts> KnownHosts::load(const std::vector<std::string>& files) {
  KnownHosts known;
  for (const auto& file : files) {
    auto text = readFile(file, kMaxFile);
    if (text) {
      known.addText(*text, file);
    } else if (text.error().code != Code::kNotFound) {
      return fail(text.error().context("known hosts"));
    }
  }
  return known;
}

void KnownHosts::addText(std::string_view text, const std::string& file) {
  files_.push_back(file);
  size_t number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    addLine(text.substr(0, end), files_.size() - 1, ++number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void KnownHosts::addLine(std::string_view text, size_t file, size_t number) {
  Line line;
  line.file = file;
  line.number = number;
  auto names = nextWord(text);
  if (names == "@revoked") {
    line.marker = Marker::kRevoked;
  } else if (names == "@cert-authority") {
    line.marker = Marker::kAuthority;
  }
  if (line.marker != Marker::kNone) names = nextWord(text);
  if (names.empty() || names.starts_with('#') || names.starts_with('@')) return;
  line.key.type = nextWord(text);
  auto blob = base64Decode(nextWord(text));
  if (!blob || line.key.type.empty() || typeOfBlob(*blob) != line.key.type) return;
  line.key.blob = std::move(*blob);

  const size_t index = lines_.size();
  if (names.starts_with("|1|")) {
    const auto bar = names.find('|', 3);
    if (bar == std::string_view::npos) return;
    auto salt = base64Decode(names.substr(3, bar - 3));
    auto hash = base64Decode(names.substr(bar + 1));
    if (!salt || !hash) return;
    line.salt = std::move(*salt);
    line.hash = std::move(*hash);
    others_.push_back(index);
  } else {
    line.patterns = splitList(lowerCase(names));
    if (isSimple(line.patterns)) {
      for (const auto& name : line.patterns) by_name_.emplace(name, index);
    } else {
      others_.push_back(index);
    }
  }
  by_blob_.emplace(line.key.blob, index);
  lines_.push_back(std::move(line));
}

bool KnownHosts::matches(const Line& line, const std::string& name) {
  if (line.patterns.empty()) return hmacSha1(line.salt, name) == line.hash;
  return matchesPatternList(name, line.patterns);
}

std::vector<size_t> KnownHosts::linesFor(const std::string& name) const {
  std::set<size_t> found;
  const auto [begin, end] = by_name_.equal_range(name);
  for (auto it = begin; it != end; ++it) found.insert(it->second);
  for (const size_t index : others_) {
    if (matches(lines_[index], name)) found.insert(index);
  }
  return {found.begin(), found.end()};
}

HostKeyCheck KnownHosts::describe(Verdict verdict, const Line& line) const {
  HostKeyCheck check;
  check.verdict = verdict;
  check.file = files_[line.file];
  check.line = line.number;
  check.known_fingerprint = line.key.fingerprint();
  check.known_type = line.key.type;
  return check;
}

HostKeyCheck KnownHosts::checkName(const std::string& name, const HostKey& key) const {
  std::optional<size_t> same;
  const auto [begin, end] = by_blob_.equal_range(key.blob);
  for (auto it = begin; it != end; ++it) {
    const Line& line = lines_[it->second];
    if (line.marker == Marker::kAuthority || !matches(line, name)) continue;
    if (line.marker == Marker::kRevoked) return describe(Verdict::kRevoked, line);
    same = std::min(same.value_or(it->second), it->second);
  }
  if (same) return describe(Verdict::kOk, lines_[*same]);

  HostKeyCheck check;
  for (const size_t index : linesFor(name)) {
    const Line& line = lines_[index];
    if (line.marker == Marker::kAuthority) check.has_authority = true;
    if (line.marker != Marker::kNone) continue;
    if (line.key.type == key.type) return describe(Verdict::kChanged, line);
    if (check.verdict == Verdict::kNew) check = describe(Verdict::kOtherType, line);
  }
  return check;
}

HostKeyCheck KnownHosts::check(std::string_view host, int port, const HostKey& key) const {
  auto check = checkName(knownHostsName(host, port), key);
  if (check.verdict != Verdict::kNew || port == 22) return check;
  // As ssh does: a server on another port that shows the key of the host's port 22 is that host.
  auto plain = checkName(knownHostsName(host, 22), key);
  const bool decides = plain.verdict == Verdict::kOk || plain.verdict == Verdict::kRevoked;
  return decides ? plain : check;
}

std::vector<std::string> KnownHosts::typesFor(std::string_view host, int port, bool hashed) const {
  const auto name = knownHostsName(host, port);
  std::vector<size_t> indices;
  if (hashed) {
    indices = linesFor(name);
  } else {
    const auto [begin, end] = by_name_.equal_range(name);
    for (auto it = begin; it != end; ++it) indices.push_back(it->second);
    std::sort(indices.begin(), indices.end());
  }
  std::vector<std::string> types;
  for (const size_t index : indices) {
    const Line& line = lines_[index];
    if (line.marker != Marker::kNone) continue;
    if (std::find(types.begin(), types.end(), line.key.type) == types.end()) {
      types.push_back(line.key.type);
    }
  }
  return types;
}

namespace {

std::string_view keyFileOf(std::string_view type) {
  if (type.starts_with("ecdsa")) return "ecdsa";
  if (type == "ssh-rsa") return "rsa";
  return type == "ssh-dss" ? "dsa" : "ed25519";
}

Error newKeyError(const HostKeyCheck& check, const std::string& name, const std::string& known_as,
                  const HostKey& key, const std::string& file) {
  auto text = fmt::format(
      "{}: the host key of {} is not known yet:\n  {} {}\n  Compare it with what the host itself "
      "says (on its console: ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub); if they are the same, "
      "run again with --accept-new, which adds it to {}",
      name, known_as, key.type, key.fingerprint(), keyFileOf(key.type), file);
  if (check.has_authority) {
    text += "\n  (a @cert-authority line matches this host; host certificates are not supported)";
  }
  return {Code::kUnreachable, text};
}

Error changedKeyError(const HostKeyCheck& check, const std::string& name,
                      const std::string& known_as, const HostKey& key) {
  return {Code::kUnreachable,
          fmt::format("{}: THE HOST KEY OF {} HAS CHANGED: another machine may be answering in its "
                      "place.\n  known: {} {} ({}:{})\n  shown: {} {}\n  If the host was "
                      "reinstalled: ssh-keygen -R '{}' -f '{}', then run again with --accept-new",
                      name, known_as, check.known_type, check.known_fingerprint, check.file,
                      check.line, key.type, key.fingerprint(), known_as, check.file)};
}

}  // namespace

Error hostKeyError(const HostKeyCheck& check, const std::string& name, std::string_view host,
                   int port, const HostKey& key, const std::string& file) {
  const auto known_as = knownHostsName(host, port);
  if (check.verdict == Verdict::kNew) return newKeyError(check, name, known_as, key, file);
  if (check.verdict != Verdict::kRevoked) return changedKeyError(check, name, known_as, key);
  return {Code::kUnreachable,
          fmt::format("{}: the host key that {} shows is revoked ({}:{}):\n  {} {}\n  Never trust "
                      "it again: give the host a new key, and add that one",
                      name, known_as, check.file, check.line, key.type, key.fingerprint())};
}

namespace {

std::string hashName(const std::string& name) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> salt{};
  if (RAND_bytes(salt.data(), static_cast<int>(salt.size())) != 1) return name;
  const std::string_view bytes(reinterpret_cast<const char*>(salt.data()), salt.size());
  return "|1|" + base64Encode(bytes) + "|" + base64Encode(hmacSha1(bytes, name));
}

// Open and locked, and still what stands under that name (ssh-keygen -R replaces the file).
Result<Fd> openLocked(const std::string& file) {
  while (true) {
    CCTL_TRY(Fd fd, openFile(file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
    if (::flock(fd.get(), LOCK_EX) != 0) return failErrno(errno, file);
    struct stat mine {
    }, current{};
    if (::fstat(fd.get(), &mine) != 0) return failErrno(errno, file);
    if (::stat(file.c_str(), &current) == 0 && mine.st_ino == current.st_ino &&
        mine.st_dev == current.st_dev) {
      return fd;
    }
  }
}

}  // namespace

Result<void> appendKnownHost(const std::string& file, std::string_view host, int port,
                             const HostKey& key, bool hashed) {
  if (file.empty() || file == "/dev/null" || file == "none") return {};
  const auto directory = std::filesystem::path(file).parent_path().string();
  if (!directory.empty() && !isDirectory(directory)) CCTL_CHECK(makeDirs(directory, 0700));
  CCTL_TRY(const Fd fd, openLocked(file));
  CCTL_TRY(const std::string text, readAll(fd.get(), kMaxFile));
  // Another run may have added the host since our index was read: theirs holds then.
  KnownHosts now;
  now.addText(text, file);
  const auto check = now.check(host, port, key);
  if (check.verdict == Verdict::kOk) return {};
  const auto name = knownHostsName(host, port);
  if (check.verdict != Verdict::kNew) {
    return fail(hostKeyError(check, std::string(host), host, port, key, file));
  }
  const bool torn = !text.empty() && text.back() != '\n';
  return writeAll(fd.get(),
                  fmt::format("{}{} {} {}\n", torn ? "\n" : "", hashed ? hashName(name) : name,
                              key.type, base64Encode(key.blob)));
}

}  // namespace cctl::ssh
