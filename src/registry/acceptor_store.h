// An acceptor on a disk: what it promised and accepted is durable before it says so. Many requests
// share one sync (group commit).
//
//   store->submit(request, [](AcceptorReply reply) { … });   // any number
//   if (store->hasWork()) store->flush();                    // at the end of a turn of the loop
// Not thread-safe. A callback may be called from submit() when there is nothing to wait for.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "registry/acceptor.h"
#include "registry/acceptor_files.h"

namespace cctl::registry {

class AcceptorStore {
 public:
  using Answer = std::function<void(AcceptorReply)>;
  // Runs work that changes only files, best beside the loop in a copy of this process; may drop it.
  using Beside = std::function<void(std::function<void()>)>;

  // `clock` must outlive it. Files are in `dir` (acceptor_files.h). The single store of earlier
  // versions (`registers.log`, `uuid`) becomes values to be carried over. kCorrupt: damage that no
  // crash explains; nothing may be served then.
  [[nodiscard]] static Result<std::unique_ptr<AcceptorStore>> open(const std::string& dir,
                                                                   const Clock& clock,
                                                                   LogIo io = LogIo::blocking(),
                                                                   Beside beside = {});

  void submit(const AcceptorRequest& request, Answer answer);
  bool hasWork() const { return !syncing_ && (!buffer_.empty() || !waiting_.empty()); }
  void flush();

  const std::string& uuid() const { return acceptor_->uuid(); }
  const std::optional<Membership>& membership() const { return acceptor_->membership(); }
  size_t tornBytes() const { return files_.tornBytes(); }
  // Why it serves nothing any more; empty: it does.
  const std::string& problem() const { return problem_; }
  // The answer of a host whose store cannot be opened, or no longer be used.
  static AcceptorReply refusal(const AcceptorRequest& request, const std::string& why);

 private:
  struct Waiting {
    AcceptorReply reply;
    Answer answer;
  };
  AcceptorStore(std::string dir, const Clock& clock, LogIo io, Beside beside);

  [[nodiscard]] Result<void> load();
  [[nodiscard]] Result<std::vector<std::string>> beginDisk();
  void onSynced(int error);
  void release(std::vector<Waiting> waiting);
  void failAll(const std::string& why);
  void onAppendFailed(const Error& error);
  void rotateIfLarge();

  std::string dir_;
  const Clock& clock_;
  LogIo io_;
  Beside beside_;
  std::unique_ptr<Acceptor> acceptor_;
  AcceptorFiles files_;
  std::string buffer_;      // records not yet written
  bool must_sync_ = false;  // something in it must be durable before an answer leaves
  bool syncing_ = false;
  std::vector<Waiting> waiting_;    // for the next sync
  std::vector<Waiting> in_flight_;  // for the one that runs
  std::string problem_;
};

}  // namespace cctl::registry
