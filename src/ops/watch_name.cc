#include "ops/watch_name.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "model/host_paths.h"
#include "ops/operation.h"
#include "transport/shell_quote.h"
#include "transport/stream.h"

namespace cctl::ops {
namespace {

constexpr size_t kMaxLine = 4u << 20;
constexpr Millis kFirstRetry{100};
constexpr Millis kMostRetry{2'000};

class NameWatch {
 public:
  NameWatch(const ServiceName& service, const OnName& on_name, const CancelToken* cancel)
      : service_(service), on_name_(on_name), cancel_(cancel) {}

  // Until the link to this host is lost; then its error.
  Result<void> follow(HostConnection& host) {
    Millis wait = kFirstRetry;
    for (;;) {
      const uint64_t told = told_;
      if (auto done = readStream(host); !done && isFinal(done.error())) return done;
      if (auto failure = host.link->failure()) return fail(*failure);
      // The shim restarts, perhaps; one that has not spoken since is asked less and less often.
      wait = told == told_ ? std::min(wait * 2, kMostRetry) : kFirstRetry;
      CCTL_CHECK(pauseFor(wait, cancel_));
    }
  }

 private:
  bool isFinal(const Error& error) const { return error.code == Code::kCancelled || stopped_; }

  Result<void> readStream(HostConnection& host) {
    const std::string socket = paths::namingSocket(host.root);
    const std::string relay = ssh::shellJoin({paths::shimCommand(host.root), "relay", socket});
    CCTL_TRY(const auto stream,
             host.link->openControl(socket, relay, Deadline::in(kRequestTimeout), cancel_));
    CCTL_CHECK(stream->write("{\"watch\":\"" + service_.str() + "\"}\n",
                             Deadline::in(kRequestTimeout), cancel_));
    std::string text;
    std::vector<char> buffer(64u << 10);
    for (;;) {
      CCTL_TRY(const size_t got,
               stream->read(buffer.data(), buffer.size(), Deadline::never(), cancel_));
      if (got == 0) return {};
      text.append(buffer.data(), got);
      for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
        CCTL_CHECK(takeLine(host.name, text.substr(0, end)));
      if (text.size() > kMaxLine) return stop({Code::kCorrupt, "a line without an end"}, host.name);
    }
  }

  Result<void> takeLine(const HostName& host, const std::string& line) {
    const auto json = parseJson(line);
    if (!json) return stop(json.error(), host);
    if (json->is_object() && json->contains("error"))
      return stop({Code::kError, "its shim says: " + dumpJson((*json)["error"])}, host);
    const bool sound = json->is_object() && json->value("format", Json()) == 1 &&
                       json->value("service", Json()) == service_.str() &&
                       json->value("revision", Json()).is_number_unsigned();
    if (!sound) return stop({Code::kCorrupt, "no object of that name"}, host);
    const auto revision = (*json)["revision"].get<uint64_t>();
    if (revision < revision_ || *json == last_) return {};
    revision_ = revision;
    last_ = *json;
    ++told_;
    auto taken = on_name_(host, *json);
    stopped_ = !taken;
    return taken;
  }

  // What another try would not mend.
  Result<void> stop(Error error, const HostName& host) {
    stopped_ = true;
    return fail(error.context(fmt::format("{}: its naming socket", host)));
  }

  const ServiceName& service_;
  const OnName& on_name_;
  const CancelToken* cancel_;
  uint64_t revision_ = 0;
  uint64_t told_ = 0;
  Json last_;
  bool stopped_ = false;

 public:
  bool stopped() const { return stopped_; }
};

}  // namespace

Result<void> watchName(Fleet& fleet, const std::vector<HostName>& hosts, const ServiceName& service,
                       const OnName& on_name, const CancelToken* cancel) {
  NameWatch watch(service, on_name, cancel);
  bool any = false;  // was ever reached
  const auto follow = [&](HostConnection& host) -> Result<void> {
    any = true;
    auto ended = watch.follow(host);
    if (ended || ended.error().code == Code::kCancelled || watch.stopped()) return ended;
    fleet.events().warning(host.name.str(), ended.error().message + "; asking the next host");
    return {};
  };
  HostErrors errors;
  for (std::vector<HostName> left = hosts; !left.empty();) {
    const HostName name = fleet.awaitFirst(left);
    std::erase(left, name);
    auto host = fleet.await(name);
    if (host) {
      CCTL_CHECK(follow(**host));
    } else {
      if (host.error().code == Code::kCancelled) return fail(host.error());
      errors.emplace(name, host.error());
    }
  }
  if (!any) return fail(describeHostErrors(errors));
  for (;;) {
    for (const HostName& name : hosts)
      if (auto host = fleet.connectAgain(name, cancel)) CCTL_CHECK(follow(**host));
    CCTL_CHECK(pauseFor(kMostRetry, cancel));
  }
}

}  // namespace cctl::ops
