#include "shim/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "model/host_paths.h"
#include "protocol/frame.h"
#include "shim/daemon.h"

namespace cctl::shim {

using protocol::FrameKind;

Result<Fd> connectUnix(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::kBadInput, "{}: too long for a socket", path);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return failErrno(errno, path);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return fail(Code::kUnreachable, "{}: {}; no shim runs there", path, std::strerror(errno));
  return fd;
}

// One that runs and cannot be reached says why in the file of its lock.
Result<Fd> connectShim(const std::string& root) {
  auto fd = connectUnix(paths::controlSocket(root));
  if (fd || fd.error().code != Code::kUnreachable) return fd;
  const RunningShim shim = runningShimFacts(root);
  if (shim.deaf.empty()) return fd;
  return fail(Code::kUnreachable,
              "the shim of {} runs (pid {}), but nobody can talk to it: {}; it tries again each "
              "second",
              root, shim.pid, shim.deaf);
}

Result<std::string> askShim(const std::string& root, const std::string& request,
                            Deadline deadline) {
  CCTL_TRY(const Fd fd, connectShim(root));
  CCTL_CHECK(writeAll(fd.get(), protocol::encodeFrame(FrameKind::kRequest, 1, request)));
  protocol::FrameDecoder decoder;
  std::array<char, 64u << 10> buffer;
  for (;;) {
    CCTL_TRY(auto frame, decoder.next());
    if (frame && frame->kind == FrameKind::kReply) return std::move(frame->payload);
    if (frame) continue;
    pollfd waiting{fd.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, deadline.pollTimeout());
    if (ready == 0) return fail(Code::kTimeout, "the shim of {} does not answer", root);
    const ssize_t got = ready < 0 ? -1 : ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail(Code::kUnreachable, "the shim of {} hung up", root);
    decoder.feed({buffer.data(), static_cast<size_t>(got)});
  }
}

}  // namespace cctl::shim
