#include "transport/bootstrap.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/digest.h"
#include "base/json.h"
#include "transport/shell_quote.h"

namespace cctl::ssh {
namespace {

// Start-up files of shells print what they like: only what stands between marks of ours counts.
struct Marks {
  std::string begin, end;
};

Marks makeMarks() {
  const auto id = randomHex(8);
  return {"clusterctl-begin-" + id, "clusterctl-end-" + id};
}

// The text after the begin mark's line, up to the end mark's or the end; nullopt without a mark.
std::optional<std::string> between(const std::string& text, const Marks& marks) {
  const auto begin = text.find(marks.begin + "\n");
  if (begin == std::string::npos) return std::nullopt;
  const auto from = begin + marks.begin.size() + 1;
  return text.substr(from, text.find(marks.end, from) - from);
}

// $1 root, $2 and $3 the marks. One fact a line: name, blank, value.
constexpr std::string_view kProbeScript = R"sh(
root=$1
case $root in "~") root=$HOME ;; "~/"*) root=$HOME/${root#"~/"} ;; esac
printf '\n%s\n' "$2"
printf 'machine %s\n' "$(uname -m)"
printf 'kernel %s\n' "$(uname -sr)"
printf 'root %s\n' "$root"
printf 'user %s\n' "$(id -un)"
printf 'uid %s\n' "$(id -u)"
printf 'home %s\n' "$HOME"
printf 'connection %s\n' "${SSH_CONNECTION:-}"
[ -d /run/systemd/system ] && printf 'systemd yes\n'
shim=$root/shim/bin/clusterctl-shim
if [ -x "$shim" ]; then printf 'info %s\n' "$("$shim" info --root "$root" 2>/dev/null | head -n 1)"; fi
printf '%s\n' "$3"
)sh";

// $1 root, $2 digest, $3 size, $4 begin mark, then the arguments of `install`. The shim's bytes are
// on standard input. Exit statuses 71 to 75 say which step failed; the reason is on stderr.
constexpr std::string_view kPlaceScript = R"sh(
umask 022
root=$1 digest=$2 size=$3 mark=$4
shift 4
dir=$root/shim/bin
mkdir -p "$dir" || exit 71
new=$dir/.new-$$-$mark
trap 'rm -f "$new"' EXIT
trap 'exit 72' HUP INT TERM PIPE
cat > "$new" || exit 72
have=$(wc -c < "$new") || exit 72
if [ "$have" -ne "$size" ]; then echo "$have of $size bytes arrived" >&2; exit 72; fi
if command -v sha256sum > /dev/null 2>&1; then
  sum=$(sha256sum < "$new") || exit 73
  sum=${sum%% *}
  if [ "$sum" != "$digest" ]; then echo "the SHA-256 of what arrived is $sum" >&2; exit 73; fi
fi
chmod 0755 "$new" || exit 72
"$new" self-check > /dev/null || exit 74
name=$dir/clusterctl-shim-$digest
mv -f "$new" "$name" || exit 75
trap - EXIT
printf '\n%s\n' "$mark"
exec "$name" install "$@"
)sh";

std::string lastLines(const std::string& text, size_t limit = 600) {
  auto end = text.find_last_not_of(" \r\n");
  if (end == std::string::npos) return {};
  const auto trimmed = text.substr(0, end + 1);
  return trimmed.size() <= limit ? trimmed : "…" + trimmed.substr(trimmed.size() - limit);
}

bool says(const ExecResult& result, std::string_view text) {
  return result.err.find(text) != std::string::npos;
}

std::string hostName(const HostLink& link) {
  return fmt::format("{}@{}", link.info().user, link.info().address);
}

Error noAnswer(const HostLink& link, const ExecResult& result) {
  const auto said = lastLines(result.err.empty() ? result.out : result.err);
  return {Code::kFailed,
          fmt::format("{}: the login shell did not run a script by `sh -c` (exit status {}{}{}); "
                      "clusterctl needs a login with a usable shell and a POSIX sh on the host",
                      hostName(link), result.exit_status, said.empty() ? "" : ": ", said)};
}

std::map<std::string, std::string> parseFacts(const std::string& text) {
  std::map<std::string, std::string> facts;
  size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    const auto blank = line.find(' ');
    if (blank != std::string::npos) facts[line.substr(0, blank)] = line.substr(blank + 1);
    at = end + 1;
  }
  return facts;
}

// SSH_CONNECTION: client address, client port, server address, server port (ssh(1)).
std::string serverAddress(const std::string& connection) {
  size_t at = 0;
  for (int word = 0; word < 2; ++word) {
    at = connection.find(' ', at);
    if (at == std::string::npos) return {};
    ++at;
  }
  return connection.substr(at, connection.find(' ', at) - at);
}

Result<HostProbe> parseProbe(const HostLink& link, const std::string& text) {
  auto facts = parseFacts(text);
  HostProbe probe;
  probe.machine = facts["machine"];
  probe.kernel = facts["kernel"];
  probe.root = facts["root"];
  probe.user = facts["user"];
  probe.home = facts["home"];
  probe.uid = std::strtoul(facts["uid"].c_str(), nullptr, 10);
  probe.server_address = serverAddress(facts["connection"]);
  probe.systemd = facts.contains("systemd");
  if (!facts["info"].empty()) probe.shim_info = facts["info"];
  if (probe.machine.empty() || facts["uid"].empty() || !probe.root.starts_with('/')) {
    return fail(Code::kFailed, "{}: `uname`, `id` or $HOME give nothing there: {}", hostName(link),
                lastLines(text));
  }
  return probe;
}

// What the shim on the host says of itself.
struct Installed {
  std::string version, digest;
  bool running = false;
  std::string link_problem;           // why it could not be started again
  std::set<unsigned long> operators;  // uids that it lets in beside root
};

Installed parseInstalled(const std::optional<std::string>& info) {
  Installed installed;
  if (!info) return installed;
  const auto json = parseJson(*info);
  if (!json || !json->is_object()) return installed;  // damaged: placed anew
  const auto text = [&](const char* key) {
    const auto it = json->find(key);
    return it != json->end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  installed.version = text("version");
  installed.digest = text("digest");
  installed.link_problem = text("link_problem");
  const auto running = json->find("running");
  if (const auto uids = json->find("operators"); uids != json->end() && uids->is_array())
    for (const auto& uid : *uids)
      if (uid.is_number_unsigned()) installed.operators.insert(uid.get<unsigned long>());
  installed.running = running != json->end() && running->is_boolean() && running->get<bool>();
  return installed;
}

std::vector<unsigned long> versionNumbers(const std::string& version) {
  std::vector<unsigned long> numbers;
  const char* at = version.c_str();
  while (true) {
    char* end = nullptr;
    numbers.push_back(std::strtoul(at, &end, 10));
    if (end == at || *end != '.') return numbers;
    at = end + 1;
  }
}

bool isUpToDate(const Installed& installed, const HostProbe& probe,
                const BootstrapRequest& request) {
  if (!installed.running || installed.version.empty()) return false;
  // Another login that may become root is let in by the installer.
  if (probe.uid != 0 && !installed.operators.contains(probe.uid)) return false;
  if (!installed.link_problem.empty()) return false;
  if (installed.digest == request.shim_sha256) return true;
  return versionNumbers(installed.version) > versionNumbers(request.shim_version);
}

Error sudoError(const HostLink& link, const ExecResult& result) {
  const auto& user = link.info().user;
  if (says(result, "not found") || result.exit_status == 127) {
    return {Code::kFailed,
            fmt::format("{}: there is no sudo on this host. Install it, or log in as root with "
                        "`become: none`",
                        hostName(link))};
  }
  return {Code::kFailed,
          fmt::format("{}: sudo wants a password ({}). Put this line into "
                      "/etc/sudoers.d/clusterctl there: `{} ALL=(root) NOPASSWD: ALL`; or set "
                      "`become: none` under `ssh:` in the inventory",
                      hostName(link), lastLines(result.err, 200), user)};
}

std::string stepName(int status) {
  switch (status) {
    case 71:
      return "cannot make the directory";
    case 72:
      return "cannot write the shim";
    case 73:
      return "the shim arrived damaged";
    case 74:
      return "the shim does not run";
    case 75:
      return "cannot move the shim into place";
    default:
      return "installing the shim failed";
  }
}

std::string wayOut(const ExecResult& result, const std::string& root) {
  if (says(result, "Read-only file system")) {
    return fmt::format(". {} is on a read-only file system: choose another `root`", root);
  }
  if (says(result, "No space left") || says(result, "quota exceeded")) {
    return ". The disk is full: make room, then run this again";
  }
  const bool denied = says(result, "Permission denied") || says(result, "Operation not permitted");
  if (result.exit_status == 74 && denied) {
    return fmt::format(". {} seems to be mounted noexec: choose another `root`", root);
  }
  if (result.exit_status == 74) return ". Is the kernel older than 4.18, or of another machine?";
  if (denied) {
    return ". This login may not write there: set `become: sudo`, or a `root` of its own such as "
           "~/.clusterctl";
  }
  return "";
}

Error placeError(const HostLink& link, const ExecResult& result, const BootstrapRequest& request,
                 const std::string& root) {
  const bool by_sudo = request.become == Become::kSudo;
  const bool own_step = result.exit_status >= 71 && result.exit_status <= 75;
  if (by_sudo && !own_step &&
      (says(result, "sudo:") || says(result, "sudo: not found") || says(result, "sudoers"))) {
    return sudoError(link, result);
  }
  const auto said = lastLines(result.err.empty() ? result.out : result.err);
  const bool full = says(result, "No space left") || says(result, "quota exceeded");
  return {full ? Code::kNoSpace : Code::kFailed,
          fmt::format("{}: {} in {}/shim (exit status {}){}{}{}", hostName(link),
                      stepName(result.exit_status), root, result.exit_status,
                      said.empty() ? "" : ": ", said, wayOut(result, root))};
}

std::vector<std::string> installArguments(const HostProbe& probe, const BootstrapRequest& request) {
  std::vector<std::string> arguments{"--root",        probe.root, "--cluster",
                                     request.cluster, "--host",   request.host};
  const auto advertise = request.advertise.value_or(probe.server_address);
  if (!advertise.empty()) arguments.insert(arguments.end(), {"--advertise", advertise});
  arguments.insert(arguments.end(), {"--operator", std::to_string(probe.uid)});
  return arguments;
}

std::string placeCommand(const HostProbe& probe, const BootstrapRequest& request,
                         const Marks& marks) {
  std::vector<std::string> arguments{probe.root, request.shim_sha256,
                                     std::to_string(request.shim.size()), marks.begin};
  const auto install = installArguments(probe, request);
  arguments.insert(arguments.end(), install.begin(), install.end());
  if (request.become == Become::kNone) return shScript(kPlaceScript, arguments);
  // All of it as root: ROOT belongs to root then. Standard input passes through sudo.
  std::vector<std::string> words{"exec", "sudo", "-n", "sh", "-c", std::string(kPlaceScript), "sh"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return shScript(shellJoin(words));
}

Result<std::string> place(HostLink& link, const HostProbe& probe, const BootstrapRequest& request,
                          Deadline deadline, const CancelToken* cancel) {
  const auto marks = makeMarks();
  ExecRequest exec;
  exec.command = placeCommand(probe, request, marks);
  exec.output_limit = 1u << 20;
  auto rest = request.shim;
  exec.next_input = [rest]() mutable -> Result<std::string_view> {
    return std::exchange(rest, std::string_view());
  };
  CCTL_TRY(const ExecResult result, link.exec(exec, deadline, cancel));
  const auto answer = between(result.out, marks);
  if (result.exit_status != 0 || !answer) {
    return fail(placeError(link, result, request, probe.root));
  }
  return answer->substr(0, answer->find('\n'));
}

}  // namespace

Result<HostProbe> probeHost(HostLink& link, const std::string& root, Deadline deadline,
                            const CancelToken* cancel) {
  if (root.empty() || root.find('\n') != std::string::npos) {
    return fail(Code::kBadInput, "\"{}\" cannot be a `root`", root);
  }
  const auto marks = makeMarks();
  ExecRequest request;
  request.command = shScript(kProbeScript, {root, marks.begin, marks.end});
  request.output_limit = 1u << 20;
  CCTL_TRY(const ExecResult result, link.exec(request, deadline, cancel));
  const auto text = between(result.out, marks);
  if (!text) return fail(noAnswer(link, result));
  return parseProbe(link, *text);
}

Result<BootstrapResult> bootstrap(HostLink& link, const BootstrapRequest& request,
                                  Deadline deadline, const CancelToken* cancel) {
  BootstrapResult result;
  CCTL_TRY(result.probe, probeHost(link, request.root, deadline, cancel));
  if (!request.force && isUpToDate(parseInstalled(result.probe.shim_info), result.probe, request))
    return result;
  if (result.probe.machine != request.shim_machine) {
    return fail(Code::kFailed,
                "{}: this host is {}, and this clusterctl carries a shim for {} only",
                hostName(link), result.probe.machine, request.shim_machine);
  }
  CCTL_TRY(result.outcome, place(link, result.probe, request, deadline, cancel));
  result.placed = true;
  return result;
}

std::string controlSocketPath(const std::string& root) { return root + "/run/control.sock"; }

std::string relayCommand(const std::string& root) {
  return shellJoin({root + "/shim/bin/clusterctl-shim", "relay", controlSocketPath(root)});
}

}  // namespace cctl::ssh
