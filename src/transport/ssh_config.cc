#include "transport/ssh_config.h"

#include <glob.h>
#include <libssh/libssh.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "base/file.h"
#include "base/subprocess.h"
#include "transport/known_hosts.h"

namespace cctl::ssh {
namespace {

struct Account {
  std::string name, home;
};

Account account() {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) != 0 || !found) {
    return {};
  }
  return {entry.pw_name, entry.pw_dir};
}

std::string lowerCase(std::string text) {
  for (auto& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// The words of a line of ssh_config(5): separated by blanks or one `=`, with double quotes.
std::vector<std::string> splitWords(std::string_view line) {
  std::vector<std::string> words;
  size_t i = 0;
  while (i < line.size()) {
    const char c = line[i];
    if (c == ' ' || c == '\t' || c == '\r' || (c == '=' && words.size() == 1)) {
      ++i;
      continue;
    }
    const bool quoted = c == '"';
    const size_t begin = i + (quoted ? 1 : 0);
    const auto stop = line.find_first_of(quoted ? "\"" : words.empty() ? " \t\r=" : " \t\r", begin);
    const size_t end = std::min(stop, line.size());
    words.emplace_back(line.substr(begin, end - begin));
    i = end + (quoted ? 1 : 0);
  }
  return words;
}

template <typename Visit>
void forEachLine(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Settings that change nothing for us: files with only these need no `ssh -G`.
bool matters(const std::string& key) {
  static const std::set<std::string> kKeys = {"hostname",
                                              "user",
                                              "port",
                                              "identityfile",
                                              "identitiesonly",
                                              "certificatefile",
                                              "proxyjump",
                                              "proxycommand",
                                              "userknownhostsfile",
                                              "globalknownhostsfile",
                                              "stricthostkeychecking",
                                              "hostkeyalias",
                                              "hostkeyalgorithms",
                                              "kexalgorithms",
                                              "ciphers",
                                              "macs",
                                              "addressfamily",
                                              "serveraliveinterval",
                                              "serveralivecountmax",
                                              "identityagent",
                                              "match",
                                              "canonicalizehostname",
                                              "tag"};
  return kKeys.contains(key);
}

const std::vector<std::string>& algorithmKeys() {
  static const std::vector<std::string> kKeys = {"hostkeyalgorithms", "kexalgorithms", "ciphers",
                                                 "macs"};
  return kKeys;
}

bool isHostName(const std::string& text) {
  if (text.empty() || text.front() == '-' || text.size() > 255) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("._:%-[]").find(c) != std::string_view::npos || (c & 0x80) != 0;
  });
}

}  // namespace

std::string homeDirectory() {
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return home;
  return account().home;
}

std::string expandTilde(const std::string& path, const std::string& home) {
  if (path == "~") return home;
  return path.starts_with("~/") ? home + path.substr(1) : path;
}

SshSettings parseSshSettings(const std::string& output) {
  SshSettings settings;
  forEachLine(output, [&](std::string_view line) {
    const auto blank = line.find(' ');
    if (blank == std::string_view::npos) return;
    settings[lowerCase(std::string(line.substr(0, blank)))].emplace_back(line.substr(blank + 1));
  });
  return settings;
}

// The files' text as far as it tells which hosts get the same answer.
struct SshConfig::Sources {
  std::string config_file;  // -F; empty: the usual two
  bool relocated = false;   // $HOME is not the account's home: ssh would look in the wrong place
  bool relevant = false;    // there is a setting that matters
  bool per_host = false;    // Match or % tokens: no two hosts need be alike
  std::vector<std::vector<std::string>> host_patterns;  // of each Host line
  std::set<std::string> host_names;                     // values of HostName
  std::set<std::string> keys;                           // settings present
  // HashKnownHosts, which Debian sets: read here, so that it does not cost an `ssh -G`.
  std::vector<std::pair<std::vector<std::string>, bool>> hash_settings;

  void addText(const std::string& text, const std::string& directory, const std::string& home,
               int depth);
  // `directory` is what relative names in Include lines are relative to.
  void addFile(const std::string& file, const std::string& directory, const std::string& home,
               int depth);
  void addLine(const std::vector<std::string>& words, const std::string& directory,
               const std::string& home, int depth);
  std::string selector(const SshTarget& target) const;
  bool hashesNames(const std::string& address) const;
};

void SshConfig::Sources::addFile(const std::string& file, const std::string& directory,
                                 const std::string& home, int depth) {
  const auto text = readFile(file);
  // ssh itself reports what cannot be read, where that is an error.
  if (text) addText(*text, directory, home, depth);
}

void SshConfig::Sources::addText(const std::string& text, const std::string& directory,
                                 const std::string& home, int depth) {
  forEachLine(text, [&](std::string_view line) {
    auto words = splitWords(line);
    if (words.empty() || words[0].starts_with('#')) return;
    words[0] = lowerCase(words[0]);
    addLine(words, directory, home, depth);
  });
}

void SshConfig::Sources::addLine(const std::vector<std::string>& words,
                                 const std::string& directory, const std::string& home, int depth) {
  const std::string& key = words[0];
  if (key == "include" && depth < 16) {
    for (size_t i = 1; i < words.size(); ++i) {
      auto pattern = expandTilde(words[i], home);
      if (!pattern.starts_with('/')) pattern = directory + "/" + pattern;
      glob_t found{};
      if (::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found) == 0) {
        for (size_t j = 0; j < found.gl_pathc; ++j)
          addFile(found.gl_pathv[j], directory, home, depth + 1);
      }
      ::globfree(&found);
    }
    return;
  }
  keys.insert(key);
  if (key == "host") {
    std::vector<std::string> patterns;
    for (size_t i = 1; i < words.size(); ++i) patterns.push_back(lowerCase(words[i]));
    host_patterns.push_back(std::move(patterns));
    return;
  }
  if (key == "hashknownhosts" && words.size() > 1) {
    const auto scope = host_patterns.empty() ? std::vector<std::string>{"*"} : host_patterns.back();
    hash_settings.emplace_back(scope, lowerCase(words[1]) == "yes");
  }
  if (!matters(key)) return;
  relevant = true;
  if (key == "match" || key == "canonicalizehostname") per_host = true;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i].find_first_of("%$") != std::string::npos) per_host = true;
    if (key == "hostname") host_names.insert(lowerCase(words[i]));
  }
}

std::string SshConfig::Sources::selector(const SshTarget& target) const {
  const auto address = lowerCase(target.address);
  std::string text =
      fmt::format("{}\n{}\n{}\n", config_file, target.user.value_or(""), target.port.value_or(0));
  if (per_host || host_names.contains(address)) return text + address;
  for (const auto& patterns : host_patterns) {
    text += matchesPatternList(address, patterns) ? '1' : '0';
  }
  return text;
}

bool SshConfig::Sources::hashesNames(const std::string& address) const {
  for (const auto& [patterns, yes] : hash_settings) {
    if (matchesPatternList(lowerCase(address), patterns)) return yes;
  }
  return false;
}

// One answer of `ssh -G`, once it is there.
struct SshConfig::Entry {
  std::mutex mutex;
  std::optional<Result<SshSettings>> settings;
};

SshConfig::SshConfig(std::string home) : home_(std::move(home)) {}

Result<std::shared_ptr<const SshConfig::Sources>> SshConfig::sourcesFor(const SshTarget& target) {
  const auto file = expandTilde(target.config_file.value_or(""), home_);
  if (!file.empty() && file != "none" && !exists(file)) {
    return fail(Code::kBadInput, "{}: the ssh configuration {} does not exist", target.name, file);
  }
  const std::lock_guard lock(mutex_);
  auto& slot = sources_[file];
  if (slot) return slot;
  auto sources = std::make_shared<Sources>();
  sources->config_file = file;
  if (file.empty()) {
    sources->relocated = home_ != account().home;
    sources->addFile(home_ + "/.ssh/config", home_ + "/.ssh", home_, 0);
    sources->addFile("/etc/ssh/ssh_config", "/etc/ssh", home_, 0);
  } else if (file != "none") {
    sources->addFile(file, home_ + "/.ssh", home_, 0);
  }
  slot = std::move(sources);
  return slot;
}

Result<SshSettings> SshConfig::runSsh(const SshTarget& target, const Sources& sources,
                                      Deadline deadline, const CancelToken* cancel) const {
  SubprocessRequest request;
  request.argv = {"ssh", "-G"};
  auto add = [&](const std::string& word) { request.argv.push_back(word); };
  if (!sources.config_file.empty()) {
    add("-F");
    add(sources.config_file);
  } else if (sources.relocated) {
    add("-F");
    add("/dev/stdin");
    request.input = fmt::format("Include \"{}/.ssh/config\"\nInclude /etc/ssh/ssh_config\n", home_);
  }
  if (target.user) add("-oUser=" + *target.user);
  if (target.port) add(fmt::format("-oPort={}", *target.port));
  add("--");
  add(target.address);
  CCTL_TRY(const SubprocessResult result, runSubprocess(request, deadline, cancel));
  if (result.exit_status != 0) {
    return fail(Code::kBadInput, "{}: ssh -G {}: {}", target.name, target.address,
                result.err.empty() ? fmt::format("exit {}", result.exit_status) : result.err);
  }
  return parseSshSettings(result.out);
}

namespace {

// Where no OpenSSH client is installed: what libssh itself understands of ssh_config.
Result<SshSettings> readByLibssh(const SshTarget& target, const std::string& config_file,
                                 const std::string& home) {
  const std::unique_ptr<ssh_session_struct, decltype(&ssh_free)> session(ssh_new(), &ssh_free);
  if (!session) return fail(Code::kError, "out of memory");
  const auto directory = home + "/.ssh";
  ssh_options_set(session.get(), SSH_OPTIONS_SSH_DIR, directory.c_str());
  ssh_options_set(session.get(), SSH_OPTIONS_HOST, target.address.c_str());
  const char* file = config_file.empty() ? nullptr : config_file.c_str();
  if (ssh_options_parse_config(session.get(), file) != SSH_OK) {
    return fail(Code::kBadInput, "{}: ssh configuration: {}", target.name,
                ssh_get_error(session.get()));
  }
  SshSettings settings;
  const std::pair<ssh_options_e, const char*> wanted[] = {
      {SSH_OPTIONS_HOST, "hostname"},
      {SSH_OPTIONS_USER, "user"},
      {SSH_OPTIONS_PROXYCOMMAND, "proxycommand"},
      {SSH_OPTIONS_IDENTITY, "identityfile"}};
  for (const auto& [option, key] : wanted) {
    char* value = nullptr;
    if (ssh_options_get(session.get(), option, &value) != SSH_OK) continue;
    settings[key].emplace_back(value);
    ssh_string_free_char(value);
  }
  unsigned port = 0;
  if (ssh_options_get_port(session.get(), &port) == SSH_OK) {
    settings["port"].push_back(std::to_string(port));
  }
  return settings;
}

}  // namespace

const SshSettings& SshConfig::defaults(Deadline deadline, const CancelToken* cancel) {
  std::call_once(defaults_once_, [&] {
    SubprocessRequest request;
    request.argv = {"ssh", "-F", "none", "-G", "--", "localhost"};
    if (const auto result = runSubprocess(request, deadline, cancel)) {
      defaults_ = parseSshSettings(result->out);
    }
  });
  return defaults_;
}

Result<SshSettings> SshConfig::settingsFor(const SshTarget& target, const Sources& sources,
                                           Deadline deadline, const CancelToken* cancel) {
  if (!sources.relevant) return SshSettings{};
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard lock(mutex_);
    auto& slot = entries_[sources.selector(target)];
    if (!slot) slot = std::make_shared<Entry>();
    entry = slot;
  }
  const std::lock_guard lock(entry->mutex);
  if (entry->settings) return *entry->settings;
  auto settings = runSsh(target, sources, deadline, cancel);
  if (!settings && settings.error().code == Code::kNotFound) {
    settings = readByLibssh(target, sources.config_file, home_);
  }
  // A passing failure (a deadline) must not stick to the other hosts.
  if (settings || settings.error().code == Code::kBadInput) {
    // HostName unset: ssh names the host it was asked for, but the answer is shared by others.
    if (settings && !settings->empty()) {
      auto& names = (*settings)["hostname"];
      if (!names.empty() && lowerCase(names[0]) == lowerCase(target.address)) names.clear();
    }
    entry->settings = settings;
  }
  return settings;
}

namespace {

// Reads one value after the other out of an `ssh -G` answer.
class Reader {
 public:
  Reader(const SshSettings& settings, const SshSettings& defaults)
      : settings_(settings), defaults_(defaults) {}

  std::string text(const std::string& key, const std::string& fallback = "") const {
    const auto it = settings_.find(key);
    return it == settings_.end() || it->second.empty() ? fallback : it->second[0];
  }
  bool yes(const std::string& key) const {
    const auto value = text(key);
    return value == "yes" || value == "true";
  }
  int number(const std::string& key, int fallback) const {
    const auto value = text(key);
    return value.empty() ? fallback : std::atoi(value.c_str());
  }
  std::vector<std::string> list(const std::string& key) const {
    const auto it = settings_.find(key);
    return it == settings_.end() ? std::vector<std::string>{} : it->second;
  }
  std::string textUnlessNone(const std::string& key) const {
    const auto value = text(key);
    return value == "none" ? "" : value;
  }
  bool isDefault(const std::string& key) const {
    const auto mine = settings_.find(key);
    const auto usual = defaults_.find(key);
    return mine == settings_.end() || (usual != defaults_.end() && usual->second == mine->second);
  }
  std::optional<std::string> unlessDefault(const std::string& key) const {
    return isDefault(key) ? std::nullopt : std::optional(text(key));
  }

 private:
  const SshSettings& settings_;
  const SshSettings& defaults_;
};

StrictChecking strictOf(const std::string& value) {
  if (value == "accept-new") return StrictChecking::kAcceptNew;
  return value == "off" || value == "no" || value == "false" ? StrictChecking::kOff
                                                             : StrictChecking::kRefuseNew;
}

// The tokens of ssh_config(5) that file names use.
std::string expandTokens(const std::string& text, const ResolvedHost& host, const SshTarget& target,
                         const std::string& home) {
  std::string expanded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      expanded += text[i];
      continue;
    }
    switch (text[++i]) {
      case '%':
        expanded += '%';
        break;
      case 'd':
        expanded += home;
        break;
      case 'h':
        expanded += host.host_name;
        break;
      case 'n':
        expanded += target.address;
        break;
      case 'p':
        expanded += std::to_string(host.port);
        break;
      case 'r':
        expanded += host.user;
        break;
      case 'u':
        expanded += account().name;
        break;
      case 'i':
        expanded += std::to_string(::getuid());
        break;
      default:
        expanded += '%';
        expanded += text[i];
    }
  }
  return expandTilde(expanded, home);
}

void readIdentities(const Reader& reader, const SshTarget& target, ResolvedHost& host) {
  host.identities_only = reader.yes("identitiesonly");
  host.certificate_files = reader.list("certificatefile");
  host.identity_agent = reader.text("identityagent");
  if (target.identity_file) {
    host.identity_files = {*target.identity_file};
    host.identities_explicit = true;
    return;
  }
  host.identities_explicit = !reader.isDefault("identityfile");
  host.identity_files =
      host.identities_explicit
          ? reader.list("identityfile")
          : std::vector<std::string>{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"};
}

std::vector<std::string> fileList(const Reader& reader, const std::string& key,
                                  const std::string& fallback) {
  auto files = splitWords(reader.text(key, fallback));
  std::erase(files, "none");
  return files;
}

void readHostKeys(const Reader& reader, const SshTarget& target, ResolvedHost& host) {
  host.user_known_hosts =
      fileList(reader, "userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2");
  if (target.known_hosts) host.user_known_hosts = {*target.known_hosts};
  host.global_known_hosts = fileList(reader, "globalknownhostsfile",
                                     "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2");
  host.strict = strictOf(reader.text("stricthostkeychecking"));
  host.host_key_alias = reader.textUnlessNone("hostkeyalias");
  host.host_key_algorithms = reader.unlessDefault("hostkeyalgorithms");
}

void readConnection(const Reader& reader, const SshTarget& target, ResolvedHost& host) {
  host.host_name = reader.text("hostname", target.address);
  host.user = target.user.value_or(reader.text("user", account().name));
  host.port = target.port.value_or(reader.number("port", 22));
  const auto jump = target.proxy_jump.value_or(reader.text("proxyjump"));
  host.proxy_jump = jump == "none" ? "" : jump;
  if (!target.proxy_jump) host.proxy_command = reader.textUnlessNone("proxycommand");
  host.kex = reader.unlessDefault("kexalgorithms");
  host.ciphers = reader.unlessDefault("ciphers");
  host.macs = reader.unlessDefault("macs");
  const auto family = reader.text("addressfamily");
  host.address_family = family == "inet" ? AF_INET : family == "inet6" ? AF_INET6 : AF_UNSPEC;
  host.alive_interval = reader.number("serveraliveinterval", 0);
  host.alive_count = std::max(reader.number("serveralivecountmax", 3), 1);
}

// ssh expands ~ by the account's home; people and tests that set $HOME mean that one.
std::string underHome(const std::string& path, const std::string& home) {
  const auto usual = account().home + "/";
  if (usual == home + "/" || !path.starts_with(usual)) return path;
  return home + path.substr(usual.size() - 1);
}

void expandFiles(const SshTarget& target, const std::string& home, ResolvedHost& host) {
  for (auto* files : {&host.identity_files, &host.certificate_files, &host.user_known_hosts,
                      &host.global_known_hosts}) {
    for (auto& file : *files) file = expandTokens(file, host, target, home);
  }
  if (!target.known_hosts) {
    for (auto& file : host.user_known_hosts) file = underHome(file, home);
  }
  host.identity_agent = expandTokens(host.identity_agent, host, target, home);
}

}  // namespace

Result<ResolvedHost> SshConfig::resolve(const SshTarget& target, Deadline deadline,
                                        const CancelToken* cancel) {
  if (!isHostName(target.address)) {
    return fail(Code::kBadInput, "{}: \"{}\" is no host name or IP address", target.name,
                target.address);
  }
  CCTL_TRY(const auto sources, sourcesFor(target));
  CCTL_TRY(const SshSettings settings, settingsFor(target, *sources, deadline, cancel));
  bool needs_defaults = sources->keys.contains("identityfile");
  for (const auto& key : algorithmKeys()) needs_defaults |= sources->keys.contains(key);
  // Without a word about them in any file, what ssh -G prints are the defaults.
  const SshSettings& usual = needs_defaults ? defaults(deadline, cancel) : settings;
  const Reader reader(settings, usual);
  ResolvedHost host;
  readConnection(reader, target, host);
  readIdentities(reader, target, host);
  readHostKeys(reader, target, host);
  expandFiles(target, home_, host);
  host.hash_known_hosts = sources->hashesNames(target.address);
  if (!isHostName(host.host_name)) {
    return fail(Code::kBadInput, "{}: HostName \"{}\" is no host name or IP address", target.name,
                host.host_name);
  }
  return host;
}

}  // namespace cctl::ssh
