// A two-way byte stream to something on a host, over one SSH channel. An interface, so that
// protocol code can be tested against a stream in memory.
#pragma once

#include <functional>
#include <string_view>

#include "base/cancel.h"
#include "base/result.h"

namespace cctl::ssh {

// Every method is thread-safe. Data is taken either by setOnData or by read, not by both.
class Stream {
 public:
  virtual ~Stream() = default;

  // Queues all of `bytes` in order (writes of several threads are not interleaved) and returns;
  // blocks only while more than 4 MiB are queued already. An error means that the stream is gone
  // or the deadline passed, and that some or all of these bytes were not sent.
  // Never call it from a callback with bytes that may block: the callback runs on the thread that
  // would drain the queue. Within a callback it therefore never blocks but queues without limit.
  [[nodiscard]] virtual Result<void> write(std::string_view bytes,
                                           Deadline deadline = Deadline::never(),
                                           const CancelToken* cancel = nullptr) = 0;

  // Blocks for at least one byte; 0 is the end of the stream in order. When the link was lost:
  // the bytes that arrived before, then its error (kUnreachable).
  [[nodiscard]] virtual Result<size_t> read(char* buffer, size_t size, Deadline deadline,
                                            const CancelToken* cancel = nullptr) = 0;

  // `on_data` is called on the link's thread with each chunk, in order, from now on (what arrived
  // earlier comes first). It must not block: all channels of the host wait meanwhile.
  // After setOnData(nullptr) has returned, the callback is not running and never will again
  // (except when called from within it).
  virtual void setOnData(std::function<void(std::string_view)> on_data) = 0;

  // Called once, on the link's thread, after the last on_data, when the other side closed the
  // stream or the link was lost; at once when that had happened already (then on the calling
  // thread). Not called after close(). The error says why: kUnreachable for a lost link,
  // kNotFound/kFailed with the exit status and the last lines of stderr for an exec'd stream.
  virtual void setOnClose(std::function<void(const Error&)> on_close) = 0;

  // No more bytes will be written; the other side sees the end of its input after those queued.
  virtual void closeWrite() = 0;

  // Drops the stream at once. No callback is running or will run after it returned (except when
  // called from within one). The destructor does the same.
  virtual void close() = 0;
};

}  // namespace cctl::ssh
