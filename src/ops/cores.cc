#include "ops/cores.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/file.h"

namespace cctl::ops {
namespace {

// A file that gets its name when it is whole; until then, and after any error, there is none.
class PartFile {
 public:
  explicit PartFile(std::string path) : path_(std::move(path)), part_(path_ + ".part-XXXXXX") {}
  ~PartFile() {
    if (fd_) ::unlink(part_.c_str());
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  Result<void> open() {
    fd_.reset(::mkostemp(part_.data(), O_CLOEXEC));
    if (!fd_) return failErrno(errno, path_);
    return {};
  }
  int fd() const { return fd_.get(); }
  Result<void> publish(mode_t mode) {
    if (::fchmod(fd_.get(), mode) != 0 || ::fsync(fd_.get()) != 0 ||
        ::rename(part_.c_str(), path_.c_str()) != 0)
      return failErrno(errno, path_);
    fd_.reset();
    return {};
  }

 private:
  const std::string path_;
  std::string part_;
  Fd fd_;
};

// What a host says of its own files is not taken for a path here.
Result<void> checkName(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(),
                                 [](unsigned char c) { return c > ' ' && c < 0x7f && c != '/'; });
  if (plain && !name.empty() && name.front() != '.' && name.front() != '-') return {};
  return fail(Code::kRefused, "the host calls a core \"{}\": not a name for a file here", name);
}

Result<std::string> download(HostConnection& host, const protocol::Core& core,
                             const std::string& directory, const CancelToken* cancel) {
  CCTL_CHECK(checkName(core.name));
  const std::string path = directory + "/" + core.name;
  PartFile file(path);
  CCTL_CHECK(file.open());
  const auto on_data = [&](const protocol::Frame& frame, ShimClient::Upload&) {
    return writeAll(file.fd(), frame.payload);
  };
  const protocol::CoreReadRequest request{{core.service, core.index}, core.name};
  CCTL_TRY([[maybe_unused]] const auto reply,
           host.shim->call<protocol::Empty>(request, Deadline::never(), cancel, on_data));
  CCTL_CHECK(file.publish(0600));  // it holds what the service had in memory
  return path;
}

Result<void> copyChecked(int from, const FileEntry& entry, const std::string& path) {
  PartFile file(path);
  CCTL_CHECK(file.open());
  Sha256 sha;
  std::string buffer(1u << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got < 0) return failErrno(errno, entry.path);
    if (got == 0) break;
    const std::string_view bytes(buffer.data(), static_cast<size_t>(got));
    sha.update(bytes);
    CCTL_CHECK(writeAll(file.fd(), bytes));
  }
  if (sha.hex() != entry.sha256)
    return fail(Code::kCorrupt, "{}: the store's copy is not what was added", entry.path);
  return file.publish(entry.isExecutable() ? 0755 : 0644);
}

Result<void> bringEntry(const release::ReleaseStore& store, const ReleaseInfo& release,
                        const FileEntry& entry, const std::string& directory) {
  const std::string path = directory + "/" + entry.path;
  CCTL_CHECK(makeDirs(path.substr(0, path.rfind('/'))));
  if (!entry.isLink()) {
    CCTL_TRY(const Fd file, store.openFile(release, entry));
    return copyChecked(file.get(), entry, path);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failErrno(errno, path);
  if (::symlink(entry.link_target.c_str(), path.c_str()) != 0) return failErrno(errno, path);
  return {};
}

// The release that ran, as far as the local store still has it.
Result<ReleaseInfo> releaseOf(const release::ReleaseStore& store, const protocol::Core& core) {
  if (core.version.empty() || core.executable.empty())
    return fail(Code::kNotFound, "the host no longer knows which release made this core");
  CCTL_TRY(const ServiceName service, parseServiceName(core.service));
  CCTL_TRY(const Version version, parseVersion(core.version));
  CCTL_TRY(ReleaseInfo release, store.load(service, version));
  if (release.digest != core.release_digest)
    return fail(Code::kRefused,
                "{} {} of the local store is another release than the one that ran: take the store "
                "that it was deployed from",
                core.service, core.version);
  return release;
}

Result<void> bringProgram(const release::ReleaseStore& store, const protocol::Core& core,
                          const std::string& directory, FetchedCore& fetched) {
  if (core.executable.starts_with('/')) {
    fetched.program = core.executable;
    return fail(Code::kNotFound, "{} is the host's own program, not of the release",
                core.executable);
  }
  CCTL_TRY(const ReleaseInfo release, releaseOf(store, core));
  const std::string below = fmt::format("{}/{}-{}", directory, core.service, core.version);
  bool found = false;
  for (const FileEntry& entry : release.files) {
    const bool library = entry.path.starts_with("lib/");
    const bool program = entry.path == core.executable;
    // What a linked program links to is one of those beside it.
    const bool beside = entry.path.starts_with("bin/") && !entry.isLink();
    if (!library && !program && !beside) continue;
    CCTL_CHECK(bringEntry(store, release, entry, below));
    if (library) fetched.lib_dir = below + "/lib";
    found |= program;
  }
  if (!found)
    return fail(Code::kNotFound, "{} {} has no file {}", core.service, core.version,
                core.executable);
  fetched.program = below + "/" + core.executable;
  return {};
}

// Of a script its first line without the mark; empty: it is none.
std::string interpreterOf(const std::string& program) {
  const auto fd = openFile(program, O_RDONLY);
  if (!fd) return {};
  char line[256];  // as much as the kernel looks at
  const ssize_t got = ::read(fd->get(), line, sizeof line);
  const std::string_view text(line, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (!text.starts_with("#!")) return {};
  const size_t begin = text.find_first_not_of(" \t", 2);
  if (begin == std::string_view::npos) return "#!";
  return std::string(text.substr(begin, text.find('\n', begin) - begin));
}

// The core is of the interpreter then, or of what the script executed in its own place: which one,
// the core itself tells gdb.
void noteScript(FetchedCore& fetched) {
  const std::string interpreter = interpreterOf(fetched.program);
  if (interpreter.empty()) return;
  fetched.trouble = fmt::format(
      "{} is a script: the core is of its interpreter ({}) or of a program that it executed, as "
      "gdb says of the core; that program is the host's own",
      fetched.program, interpreter);
  fetched.program.clear();
}

}  // namespace

Result<std::vector<protocol::Core>> listCores(HostConnection& host, const std::string& service,
                                              const CancelToken* cancel) {
  std::vector<protocol::Core> cores;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(auto core, protocol::decodeReply<protocol::Core>(frame.payload));
    cores.push_back(std::move(core));
    return {};
  };
  CCTL_TRY([[maybe_unused]] const auto reply,
           host.shim->call<protocol::Empty>(protocol::CoresRequest{service},
                                            Deadline::in(kRequestTimeout), cancel, on_item));
  return cores;
}

Result<FetchedCore> fetchCore(HostConnection& host, const protocol::Core& core,
                              const release::ReleaseStore& store, const std::string& directory,
                              const CancelToken* cancel) {
  CCTL_CHECK(makeDirs(directory));
  FetchedCore fetched;
  CCTL_TRY(fetched.core, download(host, core, directory, cancel));
  if (auto brought = bringProgram(store, core, directory, fetched); !brought)
    fetched.trouble = brought.error().message;
  else
    noteScript(fetched);
  return fetched;
}

}  // namespace cctl::ops
