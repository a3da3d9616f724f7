#include "release/inspect.h"

#include <algorithm>

#include "model/utf8.h"

namespace cctl::release {
namespace {

// linux/include/uapi/linux/binfmts.h: BINPRM_BUF_SIZE. What is beyond, the kernel does not see.
constexpr size_t kScriptHead = 256;

std::string_view trimBlanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

ElfNeeds needsOf(const std::string& path, const ElfFile& file) {
  ElfNeeds needs;
  needs.path = path;
  needs.machine = file.machine;
  needs.interpreter = file.interpreter;
  needs.needed = file.needed;
  needs.glibc = file.glibc;
  needs.run_path = file.run_path;
  return needs;
}

Result<void> inspectElf(const std::string& path, bool executable, const ByteSource& source,
                        Inspection& found) {
  auto file = parseElf(source);
  if (!file && file.error().code == Code::kCorrupt) {
    if (executable)
      return fail(Code::kBadInput, "{} cannot run anywhere: it is {}; build or copy it again", path,
                  file.error().message);
    found.warnings.push_back(fmt::format("{} is {}", path, file.error().message));
    return {};
  }
  if (!file) return fail(file.error().context(path));
  if (*file && (*file)->runnable) found.elf = needsOf(path, **file);
  return {};
}

}  // namespace

ScriptNeeds parseScriptLine(const std::string& path, std::string_view line,
                            std::vector<std::string>& warnings) {
  const size_t end = line.find('\n');
  if (end == std::string_view::npos && line.size() >= kScriptHead)
    warnings.push_back(
        fmt::format("{}: the kernel reads only {} bytes of its first line", path, kScriptHead));
  std::string_view text = trimBlanks(line.substr(0, end).substr(2));
  if (text.ends_with('\r')) {
    warnings.push_back(fmt::format(
        "{} has Windows line ends: a host looks for an interpreter whose name ends in a carriage "
        "return, and finds none; convert it (dos2unix)",
        path));
    text.remove_suffix(1);
  }
  const size_t blank = text.find_first_of(" \t");
  ScriptNeeds needs;
  needs.path = path;
  needs.interpreter = printable(text.substr(0, blank), kScriptHead);
  if (blank != std::string_view::npos)
    needs.argument = printable(trimBlanks(text.substr(blank)), kScriptHead);
  if (!needs.interpreter.starts_with('/'))
    warnings.push_back(fmt::format("{}: \"#!{}\" names no absolute path", path, needs.interpreter));
  return needs;
}

Result<Inspection> inspectFile(const std::string& path, bool executable, const ByteSource& source) {
  Inspection found;
  CCTL_CHECK(inspectElf(path, executable, source, found));
  if (found.elf || !executable) return found;
  std::string head(std::min<uint64_t>(source.size(), kScriptHead), '\0');
  CCTL_CHECK(source.read(0, head));
  if (head.starts_with("#!")) {
    found.script = parseScriptLine(path, head, found.warnings);
  } else if (head.empty()) {
    found.warnings.push_back(fmt::format("{} is executable and empty", path));
  }
  return found;
}

}  // namespace cctl::release
