// The framing of everything said between clusterctl and a shim (PROTOCOL.md, "Frames").
//
// A frame is a nine-byte head and a payload:
//   length of the payload, 4 bytes, big-endian | kind, 1 byte | request id, 4 bytes, big-endian
// Requests are numbered by the client, from 1, and may be pipelined; every frame that belongs to a
// request carries its id. A frame that breaks a rule ends the connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cctl::protocol {

enum class FrameKind : uint8_t {
  kRequest = 1,  // client → shim, JSON
  kReply = 2,    // shim → client, JSON: the last frame of a request
  kItem = 3,     // shim → client, JSON: one of many, before the reply
  kData = 4,     // either way, raw bytes
  kEnd = 5,      // client → shim: no more data; empty
  kCancel = 6,   // client → shim: this request is no longer wanted; empty, never answered
};

struct Frame {
  FrameKind kind = FrameKind::kRequest;
  uint32_t id = 0;
  std::string payload;
};

constexpr size_t kFrameHeadSize = 9;
constexpr size_t kMaxJsonPayload = 4u << 20;
constexpr size_t kMaxDataPayload = 256u << 10;

std::string encodeFrame(FrameKind kind, uint32_t id, std::string_view payload);

// Bytes in, frames out. Holds at most one frame's worth of bytes beyond what it was fed.
// Not thread-safe.
class FrameDecoder {
 public:
  void feed(std::string_view bytes);
  // The next whole frame, nothing when more bytes are needed, or why the stream is broken (then
  // every later call says the same).
  [[nodiscard]] Result<std::optional<Frame>> next();

 private:
  std::string buffer_;
  size_t consumed_ = 0;
};

}  // namespace cctl::protocol
