// Core files: found where the kernel puts them, kept beside the instance, listed and read.
// core_pattern is the machine's own: read, never changed (core(5)).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shim/control_server.h"
#include "shim/host.h"

namespace cctl::shim {

// How the kernel of this host names core files.
struct CorePattern {
  std::string text;       // /proc/sys/kernel/core_pattern, without the newline
  bool uses_pid = false;  // /proc/sys/kernel/core_uses_pid: ".PID" where the pattern has no %p

  // Given to a program or a socket, and not ours to find.
  bool piped() const { return text.starts_with('|') || text.starts_with('@'); }
  // False when no core is kept anywhere.
  bool writes() const { return (!text.empty() || uses_pid) && text != "/dev/null"; }
};
CorePattern readCorePattern(const std::string& proc = "/proc");

// A process that ended with WCOREDUMP.
struct CrashedProcess {
  protocol::InstanceRef ref;
  std::string version;
  int pid = 0;
  int signal = 0;
  WallTime started{};
  WallTime ended{};
};

// Whether `name` is what `pattern` (its part after the last '/') makes of this process. What cannot
// be known from here (the name of a thread, ids in another namespace) stands for anything.
bool matchesCorePattern(std::string_view pattern, bool uses_pid, const CrashedProcess& process,
                        std::string_view name);

// "core.VERSION.PID.TIME", and back; nothing for another name.
struct CoreName {
  std::string version;
  int pid = 0;
  WallTime at{};
};
std::string coreFileName(const CoreName& name);
std::optional<CoreName> parseCoreFileName(std::string_view name);

constexpr size_t kMaxCores = 5;  // of one instance; the oldest goes

// Moves the core that the process left (in the instance's data directory, or where an absolute
// pattern says) to ROOT/services/S/instances/I/core/, and returns its path there. Where it lies on
// another file system it stays, and that path is returned. Empty: none was found. A rename and a
// few reads, whatever the size of the core.
std::string collectCore(const std::string& root, const CorePattern& pattern,
                        const CrashedProcess& process);

// A regular file of the instance's core directory. kBadInput for a name that leaves it; kNotFound.
[[nodiscard]] Result<Fd> openCore(const std::string& root,
                                  const protocol::CoreReadRequest& request);

// The requests `cores` and `core-read` (streams.h).
std::shared_ptr<Request> beginCores(Host& host, const protocol::CoresRequest& request,
                                    const Responder& responder);
std::shared_ptr<Request> beginFileRead(Host& host, Fd file, const Responder& responder);

}  // namespace cctl::shim
