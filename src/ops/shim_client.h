// Requests to one shim, pipelined on one stream (PROTOCOL.md).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/cancel.h"
#include "base/result.h"
#include "protocol/frame.h"
#include "protocol/messages.h"
#include "transport/stream.h"

namespace cctl::ops {

// Thread-safe: any number of requests of any number of threads may be under way at once.
class ShimClient {
 public:
  // `host` is for messages.
  ShimClient(std::unique_ptr<ssh::Stream> stream, std::string host);
  ~ShimClient();
  ShimClient(const ShimClient&) = delete;
  ShimClient& operator=(const ShimClient&) = delete;

  // What happens to the item and data frames of one request. Called on the calling thread; an error
  // ends the request.
  using OnFrame = std::function<Result<void>(const protocol::Frame&)>;
  // Sends what belongs to a request after its first item, e.g. file contents.
  class Upload {
   public:
    [[nodiscard]] Result<void> data(std::string_view bytes);
    [[nodiscard]] Result<void> end();

   private:
    friend class ShimClient;
    Upload(ShimClient& client, uint32_t id, Deadline deadline, const CancelToken* cancel)
        : client_(client), id_(id), deadline_(deadline), cancel_(cancel) {}
    ShimClient& client_;
    uint32_t id_;
    Deadline deadline_;
    const CancelToken* cancel_;
  };
  using OnItem = std::function<Result<void>(const protocol::Frame&, Upload&)>;

  // One request, one reply. Errors are the shim's own, or kUnreachable (the link was lost, or
  // nothing came before the deadline: whether it was done is unknown), kCancelled; each names the
  // host.
  template <typename Reply, typename Request>
  [[nodiscard]] Result<Reply> call(const Request& request, Deadline deadline,
                                   const CancelToken* cancel = nullptr, OnItem on_item = {}) {
    auto payload = exchange(protocol::encodeRequest(request), deadline, cancel, on_item);
    if (!payload) return fail(payload.error());
    auto reply = protocol::decodeReply<Reply>(*payload);
    if (!reply) return fail(reply.error().context(host_));
    return reply;
  }

  // Sends a request that has no items and returns at once. `on_reply` is called exactly once: on
  // the link's thread, where it must not block, or before this returns.
  template <typename Reply, typename Request>
  void send(const Request& request, std::function<void(Result<Reply>)> on_reply) {
    begin(protocol::encodeRequest(request),
          [host = host_, on_reply = std::move(on_reply)](const Result<std::string>& payload) {
            if (!payload) return on_reply(fail(payload.error()));
            auto reply = protocol::decodeReply<Reply>(*payload);
            if (!reply) return on_reply(fail(reply.error().context(host)));
            on_reply(std::move(reply));
          });
  }

  const std::string& host() const { return host_; }
  // Why nothing can be asked any more; none: it can.
  std::optional<Error> failure() const;

 private:
  struct Waiter;
  [[nodiscard]] Result<std::string> exchange(const std::string& payload, Deadline deadline,
                                             const CancelToken* cancel, const OnItem& on_item);
  using OnPayload = std::function<void(const Result<std::string>&)>;
  void begin(const std::string& payload, const OnPayload& on_payload);
  void tell(uint32_t id, const Result<std::string>& payload);
  [[nodiscard]] Result<void> send(const std::string& frame, Deadline deadline,
                                  const CancelToken* cancel);
  void onData(std::string_view bytes);
  void onClose(const Error& error);
  std::shared_ptr<Waiter> add(uint32_t& id);
  void remove(uint32_t id);

  std::unique_ptr<ssh::Stream> stream_;
  const std::string host_;
  protocol::FrameDecoder decoder_;  // touched by the link's thread only

  mutable std::mutex mutex_;  // guards what follows
  std::map<uint32_t, std::shared_ptr<Waiter>> waiters_;
  std::map<uint32_t, OnPayload> sent_;
  uint32_t next_id_ = 1;
  std::optional<Error> broken_;
};

}  // namespace cctl::ops
