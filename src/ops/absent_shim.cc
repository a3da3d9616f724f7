#include "ops/absent_shim.h"

#include <map>
#include <nlohmann/json.hpp>

namespace cctl::ops {
namespace {

using protocol::Frame;
using protocol::FrameKind;

class AbsentShim final : public ssh::Stream {
 public:
  AbsentShim(std::string host, std::string why) : host_(std::move(host)), why_(std::move(why)) {
    protocol::HostStatus status;
    status.host = host_;
    answers_[protocol::opOf<protocol::StatusRequest>()] = protocol::encodeReply(status);
    answers_[protocol::opOf<protocol::ConnectionsRequest>()] =
        protocol::encodeReply(protocol::ConnectionsReply{});
    answers_[protocol::opOf<protocol::NamesRequest>()] =
        protocol::encodeReply(protocol::NamesReply{});
    answers_[protocol::opOf<protocol::SettingsRequest>()] =
        protocol::encodeReply(protocol::SettingsReply{});
    answers_[protocol::opOf<protocol::PruneRequest>()] =
        protocol::encodeReply(protocol::PruneReply{});
    for (const char* op :
         {protocol::opOf<protocol::CoresRequest>(), protocol::opOf<protocol::EventsRequest>(),
          protocol::opOf<protocol::VerifyRequest>()})
      answers_[op] = protocol::encodeReply(protocol::Empty{});
  }

  // Several threads write; what they are told may make them write again.
  Result<void> write(std::string_view bytes, Deadline, const CancelToken*) override {
    const std::lock_guard lock(mutex_);
    decoder_.feed(bytes);
    for (;;) {
      CCTL_TRY(const std::optional<Frame> frame, decoder_.next());
      if (!frame) return {};
      if (frame->kind == FrameKind::kRequest && on_data_)
        on_data_(protocol::encodeFrame(FrameKind::kReply, frame->id, answerTo(frame->payload)));
    }
  }
  Result<size_t> read(char*, size_t, Deadline, const CancelToken*) override { return 0; }
  void setOnData(std::function<void(std::string_view)> on_data) override {
    const std::lock_guard lock(mutex_);
    on_data_ = std::move(on_data);
  }
  void setOnClose(std::function<void(const Error&)>) override {}
  void closeWrite() override {}
  void close() override { setOnData(nullptr); }

 private:
  std::string answerTo(const std::string& payload) const {
    const auto json = parseJson(payload);
    const auto answer = json ? answers_.find(json->value("op", "")) : answers_.end();
    if (answer != answers_.end()) return answer->second;
    return protocol::encodeError(
        {Code::kNotFound, fmt::format("{}: {}, and this is a dry run", host_, why_)});
  }

  const std::string host_;
  const std::string why_;
  std::map<std::string, std::string> answers_;  // op → reply
  std::recursive_mutex mutex_;
  protocol::FrameDecoder decoder_;
  std::function<void(std::string_view)> on_data_;
};

}  // namespace

std::unique_ptr<ShimClient> absentShim(const std::string& host, const std::string& why) {
  return std::make_unique<ShimClient>(std::make_unique<AbsentShim>(host, why), host);
}

}  // namespace cctl::ops
