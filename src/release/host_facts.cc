#include "release/host_facts.h"

#include <algorithm>

#include "model/utf8.h"

namespace cctl::release {

namespace {

// ldconfig's cache lists other architectures too, told apart by a tag, which x86_64 and the other
// 64-bit machines have and i386 and 32-bit ARM have not. musl has no cache: there, as everywhere,
// the usual directories are looked through.
constexpr char kScript[] = R"sh(
LC_ALL=C
export LC_ALL
machine=$(uname -m)
libc=unknown
version=$(getconf GNU_LIBC_VERSION 2>/dev/null)
case $version in
  glibc*) libc=$version ;;
  *)
    said=$(ldd --version 2>&1 </dev/null)
    case $said in
      *musl*) libc="musl ${said#*Version }" ;;
      *GLIBC*|*GNU\ libc*|*GNU\ C\ Library*)
        said=${said%%
*}
        libc="glibc ${said##* }" ;;
      *) for loader in /lib/ld-musl-*.so.1; do
           [ -e "$loader" ] || continue
           said=$("$loader" 2>&1 </dev/null)
           libc="musl ${said#*Version }"
         done ;;
    esac ;;
esac
libc=${libc%%
*}
want=$machine
for name; do
  case $name in machine:*) want=${name#machine:} ;; esac
done
tag_of() {
  case $1 in
    x86_64) echo 'x86-64' ;;
    aarch64) echo 'AArch64' ;;
    ppc64|ppc64le|s390x|sparc64|mips64) echo '64bit' ;;
  esac
}
tag=$(tag_of "$want")
other=
[ -n "$tag" ] || other=$(tag_of "$machine")
case $want in
  i?86) triplet=i386-linux- ;;
  arm*) triplet=arm-linux- ;;
  ppc*) triplet=powerpc*-linux- ;;
  *) triplet=$want-linux- ;;
esac
cache=
for tool in /sbin/ldconfig /usr/sbin/ldconfig; do
  [ -x "$tool" ] && cache=$("$tool" -p 2>/dev/null) && break
done
known=' '
while read -r name kind rest; do
  case $rest in *=\>*) kind="$kind $rest" ;; esac
  case $kind in
    *"${other:-nothing}"*) ;;
    *"$tag"*) known="$known$name " ;;
  esac
done <<EOF
$cache
EOF
found() {
  case $known in *" $1 "*) return 0 ;; esac
  for dir in /lib /usr/lib /lib64 /usr/lib64 /usr/local/lib /usr/local/lib64 \
    /lib/$triplet* /usr/lib/$triplet*; do
    [ -e "$dir/$1" ] && return 0
  done
  return 1
}
echo 'clusterctl-facts 1'
echo "machine=$machine"
echo "kernel=$(uname -r)"
echo "libc=$libc"
for name; do
  case $name in
    machine:*) ;;
    /*) [ -x "$name" ] && echo "exists=$name" ;;
    *) found "$name" && echo "library=$name" ;;
  esac
done
echo 'clusterctl-facts end'
exit 0
)sh";

constexpr std::string_view kBegin = "clusterctl-facts 1";
constexpr std::string_view kEnd = "clusterctl-facts end";

std::string_view takeLine(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  while (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void noteLibc(std::string_view value, ProbedHost& host) {
  const size_t blank = std::min(value.find(' '), value.size());
  host.libc = printable(value.substr(0, blank));
  std::string_view version = value.substr(std::min(blank + 1, value.size()));
  const size_t length = std::min(version.find_first_not_of("0123456789."), version.size());
  host.libc_version = version.substr(0, length);
  if (host.libc == "glibc" && !host.libc_version.empty()) host.facts.glibc = host.libc_version;
}

void noteFact(std::string_view line, ProbedHost& host) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos) return;
  const std::string_view key = line.substr(0, equals);
  const std::string value = printable(line.substr(equals + 1), 4096);
  if (key == "machine") host.facts.machine = value;
  if (key == "kernel") host.kernel = value;
  if (key == "libc") noteLibc(value, host);
  if (key == "library") host.facts.libraries->insert(value);
  if (key == "exists") host.facts.interpreters->insert(value);
}

tl::unexpected<Error> failParse(std::string_view output) {
  return fail(Code::kCorrupt,
              "the host did not say what it is: is its login shell or /bin/sh in order? It printed "
              "\"{}\"",
              printable(output));
}

bool isSafe(const std::string& name) {
  constexpr std::string_view kOthers = "._+/:@,=~-";
  // "-" in front would be an option, "~" a home directory.
  return !name.empty() && name[0] != '-' && name[0] != '~' && name[0] != '=' &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  kOthers.find(c) != std::string_view::npos;
         });
}

}  // namespace

const char* hostFactsScript() { return kScript; }

std::vector<std::string> safeFactNames(const std::vector<std::string>& names) {
  std::vector<std::string> safe;
  std::copy_if(names.begin(), names.end(), std::back_inserter(safe), isSafe);
  return safe;
}

Result<ProbedHost> parseProbedHost(std::string_view output) {
  ProbedHost host;
  host.facts.libraries.emplace();
  host.facts.interpreters.emplace();
  std::string_view rest = output;
  while (!rest.empty() && takeLine(rest) != kBegin) continue;
  while (!rest.empty()) {
    const std::string_view line = takeLine(rest);
    if (line == kEnd && !host.facts.machine.empty()) return host;
    noteFact(line, host);
  }
  return failParse(output);
}

Result<HostFacts> parseHostFacts(std::string_view output) {
  CCTL_TRY(ProbedHost host, parseProbedHost(output));
  return std::move(host.facts);
}

}  // namespace cctl::release
