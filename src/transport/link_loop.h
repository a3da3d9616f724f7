// The thread that owns one session: the only one that calls libssh for it, and never blocks but in
// poll(2).
#pragma once

#include <poll.h>

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/session.h"
#include "transport/wait.h"

namespace cctl::ssh {

struct ChannelSpec {
  enum class Kind { kExec, kUnix, kTcp };
  Kind kind = Kind::kExec;
  std::string what;  // command, socket path, host
  int port = 0;      // kTcp
};

struct ChannelEnd {
  std::optional<Error> error;  // it was refused, or the link was lost
  std::optional<int> exit_status;
  std::optional<std::string> signal;
};

// What a channel is for. Every method is called on the loop's thread (onEnd also on the thread
// that opens a channel on a dead link), and must not block.
class ChannelUser {
 public:
  virtual ~ChannelUser() = default;
  virtual void onOpen() {}
  // How many bytes onData would take now: the rest waits in the SSH window.
  virtual size_t room() = 0;
  // Returns the number of bytes taken, at most room().
  virtual size_t onData(std::string_view bytes, bool is_stderr) = 0;
  // What to send next; empty when there is nothing now. Valid until sent() or the next turn.
  virtual std::string_view output() = 0;
  virtual void sent(size_t bytes) = 0;
  // Nothing will come after output(): the other side is to see the end of its input.
  virtual bool outputEnded() = 0;
  // Called once per turn in which the user was woken.
  virtual void onWake() {}
  // The last call, exactly once, whatever happened.
  virtual void onEnd(const ChannelEnd& end) = 0;

  // A descriptor that the loop watches for it.
  virtual int pollFd() const { return -1; }
  virtual short pollEvents() const { return 0; }

  // Asks for the channel to be dropped; wake() the user after it. Thread-safe.
  void abort() { aborted_.store(true); }
  bool aborted() const { return aborted_.load(); }

 private:
  std::atomic<bool> aborted_{false};
};

struct LoopOptions {
  std::string name;             // of the host, for errors
  Millis alive_interval{5000};  // silence after which the server is asked for a sign of life
  Millis dead_after{10000};     // silence after that until the link counts as lost
};

// Shared by the link and its streams; runs from start() to stop(). Thread-safe.
class LinkLoop {
 public:
  LinkLoop(Session session, LoopOptions options);
  ~LinkLoop();
  LinkLoop(const LinkLoop&) = delete;
  LinkLoop& operator=(const LinkLoop&) = delete;

  void start();
  // Ends all channels and joins the thread. Not from a callback of this loop.
  void stop();

  void open(ChannelSpec spec, std::shared_ptr<ChannelUser> user);
  // Has the user's channel looked at: there is new output, or it was aborted.
  void wake(const ChannelUser* user);
  bool onLoopThread() const { return std::this_thread::get_id() == thread_id_.load(); }
  std::optional<Error> failure() const;

 private:
  class Channel;
  using Channels = std::list<std::unique_ptr<Channel>>;

  void run();
  bool takeOrders();
  void turn();
  void waitForEvents();
  void dispatch();
  void keepAlive();
  bool lost() const;
  bool sessionJustEnded() const;
  void shutDown();
  Error lossError() const;

  Session session_;
  const LoopOptions options_;
  ssh_event event_ = nullptr;
  ssh_counter_struct socket_counter_{}, packet_counter_{};

  // Of the loop's thread only.
  Channels channels_;
  size_t sessions_ = 0;         // exec channels open or being opened
  size_t session_limit_ = 10;   // sshd's MaxSessions, as far as known
  uint64_t packets_seen_ = 0;   // when the last turn began
  SteadyTime session_ended_{};  // when the last exec channel was closed
  bool retry_ = false;          // a refused channel waits a moment
  bool again_ = false;          // another turn is due without waiting
  bool broken_ = false;
  std::string broken_reason_;
  uint64_t bytes_heard_ = 0;
  SteadyTime last_heard_{}, asked_at_{};
  std::vector<pollfd> fds_;  // of waitForEvents; kept for its memory
  std::vector<Channel*> watched_;
  bool asked_ = false;

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Channel>> new_channels_;
  std::vector<const ChannelUser*> woken_;
  bool stopping_ = false;
  std::optional<Error> failure_;
  Signal signal_;
  std::atomic<std::thread::id> thread_id_{};
  std::thread thread_;
};

}  // namespace cctl::ssh
