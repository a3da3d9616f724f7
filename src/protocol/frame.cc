#include "protocol/frame.h"

namespace cctl::protocol {
namespace {

void appendNumber(std::string& bytes, uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<char>((number >> shift) & 255u));
}

uint32_t numberAt(std::string_view bytes, size_t offset) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i)
    number = (number << 8) | static_cast<unsigned char>(bytes[offset + i]);
  return number;
}

constexpr size_t kMaxKept = 256u << 10;

size_t payloadLimit(uint8_t kind) {
  switch (static_cast<FrameKind>(kind)) {
    case FrameKind::kRequest:
    case FrameKind::kReply:
    case FrameKind::kItem:
      return kMaxJsonPayload;
    case FrameKind::kData:
      return kMaxDataPayload;
    case FrameKind::kEnd:
    case FrameKind::kCancel:
      return 0;
  }
  return 0;
}

bool isKind(uint8_t kind) { return kind >= 1 && kind <= 6; }

}  // namespace

std::string encodeFrame(FrameKind kind, uint32_t id, std::string_view payload) {
  std::string bytes;
  bytes.reserve(kFrameHeadSize + payload.size());
  appendNumber(bytes, static_cast<uint32_t>(payload.size()));
  bytes.push_back(static_cast<char>(kind));
  appendNumber(bytes, id);
  bytes.append(payload);
  return bytes;
}

void FrameDecoder::feed(std::string_view bytes) {
  if (consumed_ > 0) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  buffer_.append(bytes);
}

Result<std::optional<Frame>> FrameDecoder::next() {
  const std::string_view rest = std::string_view(buffer_).substr(consumed_);
  if (rest.size() < kFrameHeadSize) return std::nullopt;
  const uint32_t length = numberAt(rest, 0);
  const auto kind = static_cast<uint8_t>(rest[4]);
  if (!isKind(kind)) return fail(Code::kCorrupt, "broken stream: frame of unknown kind {}", kind);
  if (length > payloadLimit(kind))
    return fail(Code::kCorrupt, "broken stream: frame of {} bytes, {} allowed", length,
                payloadLimit(kind));
  if (rest.size() < kFrameHeadSize + length) return std::nullopt;
  Frame frame{static_cast<FrameKind>(kind), numberAt(rest, 5),
              std::string(rest.substr(kFrameHeadSize, length))};
  consumed_ += kFrameHeadSize + length;
  // The room of a large frame is given back, not kept for as long as the connection lives.
  if (consumed_ == buffer_.size() && buffer_.capacity() > kMaxKept) {
    buffer_ = {};
    consumed_ = 0;
  }
  return frame;
}

}  // namespace cctl::protocol
