// The views of this host: names of services, written for other software at each change, and kept
// over restarts of the shim (PROTOCOL.md, "Views").
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "shim/disk_sync.h"
#include "shim/host.h"
#include "shim/names.h"
#include "shim/view_text.h"

namespace cctl::shim {

struct ViewLimits {
  Millis reload_time{30'000};   // then KILL, to the process group
  Millis first_retry{1'000};    // after a failure; then doubled
  int retries = 5;              // until the next change
  Millis haproxy_time{2'000};   // for one answer
  Millis haproxy_check{2'000};  // whether it was restarted
};

// kBadInput for views that make no sense, or whose words could be taken for more than words.
[[nodiscard]] Result<void> checkViews(const std::vector<protocol::View>& views);

// Watches the names. What fails is journalled as kView, once for each reason.
class Views {
 public:
  // All must outlive it. Takes up what replace() has stored before.
  Views(std::string root, Identity identity, EventLoop& loop, Journal& journal, Names& names,
        ViewLimits limits = {});
  ~Views();
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  // On disk when it returns. kBadInput for views that make no sense; then nothing has changed.
  // A view that is no longer wanted leaves its file as it was.
  [[nodiscard]] Result<void> replace(std::vector<protocol::View> views);
  std::vector<protocol::View> views() const;

 private:
  friend class OneView;
  void load();
  void open(std::vector<protocol::View> views);
  void onChange(const std::string& service);
  void record(std::string text);

  const std::string root_;
  const Identity identity_;
  EventLoop& loop_;
  Journal& journal_;
  Names& names_;
  const ViewLimits limits_;
  DiskSync disk_;
  std::vector<std::unique_ptr<class OneView>> all_;
  std::string problem_;  // with the file of views; empty once told
  Timer tell_;
};

}  // namespace cctl::shim
