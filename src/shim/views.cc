#include "shim/views.h"

#include <fcntl.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "model/host_paths.h"
#include "model/names.h"
#include "shim/haproxy.h"
#include "shim/program.h"
#include "shim/sealed_file.h"

namespace cctl::shim {
namespace {

using protocol::View;
using protocol::ViewKind;

constexpr char kKind[] = "views";
constexpr size_t kMaxViews = 64;
constexpr size_t kMaxBatch = 8u << 10;  // bytes of commands in a line; HAProxy takes 16 KiB
constexpr int kShareOfTime = 10;        // writing a file takes at most a tenth
constexpr size_t kMaxFile = 64u << 20;

bool hasControl(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// Names that stand in commands and files without quotes.
bool isPlain(const std::string& text) {
  return !text.empty() && text.size() <= 200 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool isOfOneService(const View& view) {
  return view.kind == ViewKind::kNginx || view.kind == ViewKind::kHaproxy;
}

// The inventory was checked already; this is for what speaks to the socket by itself.
std::string mistakeIn(const View& view) {
  const std::string path = "/" + view.path + "/";
  if (view.path.empty() || view.path.size() > 1000 || hasControl(view.path) ||
      path.find("/../") != std::string::npos || view.path.ends_with('/'))
    return "its path";
  if (isOfOneService(view) && (view.services.size() != 1 || !isPlain(view.name)))
    return "it wants one service and a name";
  for (const std::string& service : view.services)
    if (!parseServiceName(service)) return "a service's name";
  if (view.kind == ViewKind::kHaproxy &&
      (view.path[0] != '/' || view.path.size() >= sizeof(sockaddr_un::sun_path) ||
       view.servers.empty() || !std::all_of(view.servers.begin(), view.servers.end(), isPlain)))
    return "its socket or its servers";
  if (!view.reload.empty() && !view.reload.front().starts_with('/'))
    return "the program for its reload is not an absolute path";
  for (const std::string& word : view.reload)
    if (word.find('\0') != std::string::npos) return "a word of its reload";
  return {};
}

}  // namespace

Result<void> checkViews(const std::vector<View>& views) {
  if (views.size() > kMaxViews) return fail(Code::kBadInput, "more than {} views", kMaxViews);
  for (const View& view : views)
    if (const std::string mistake = mistakeIn(view); !mistake.empty())
      return fail(Code::kBadInput, "a view that makes no sense: {}", mistake);
  return {};
}

// ---- one of them -------------------------------------------------------------------------------

class OneView {
 public:
  OneView(Views& views, View view) : views_(views), view_(std::move(view)) {}
  virtual ~OneView() = default;

  const View& view() const { return view_; }
  bool shows(const std::string& service) const {
    return view_.services.empty() ||
           std::find(view_.services.begin(), view_.services.end(), service) != view_.services.end();
  }
  // Something that it shows has changed.
  virtual void update() = 0;

 protected:
  EventLoop& loop() const { return views_.loop_; }
  const ViewLimits& limits() const { return views_.limits_; }
  const std::string& cluster() const { return views_.identity_.cluster; }
  DiskSync& disk() const { return views_.disk_; }

  // nullopt: this host has heard of none of them, and knows nothing to write.
  std::optional<std::vector<ShownService>> shown() const {
    std::vector<ShownService> services;
    bool any = view_.services.empty();
    for (const std::string& name : any ? views_.names_.services() : view_.services) {
      const std::string* endpoints = views_.names_.shown(name);
      if (endpoints == nullptr) continue;
      any = true;
      services.push_back({name, parsed(*endpoints)});
    }
    if (!any) return std::nullopt;
    return services;
  }

  std::string path() const {
    return view_.path[0] == '/' ? view_.path
                                : paths::join(paths::viewsDir(views_.root_), view_.path);
  }

  // Once for each reason in a row; `details` tell what a program said, which may have times in it.
  void failed(const std::string& why, const std::string& details = {}) {
    if (why == told_) return;
    told_ = why;
    views_.record(fmt::format("view {}: {}{}", view_.path, why, details));
  }
  void succeeded() {
    if (std::exchange(told_, {}).empty()) return;
    views_.record(fmt::format("view {}: written again", view_.path));
  }

 private:
  static std::vector<Endpoint> parsed(const std::string& text) {
    std::vector<Endpoint> endpoints;
    const auto json = parseJson(text);
    if (!json || !json->is_array()) return endpoints;
    for (const Json& one : *json)
      if (auto endpoint = parseEndpoint(one)) endpoints.push_back(std::move(*endpoint));
    return endpoints;
  }

  Views& views_;
  const View view_;
  std::string told_;
};

namespace {

// Rendered, written where it differs, then told of by the reload: one step after the other, and
// what changes meanwhile comes in the next round.
class FileView : public OneView {
 public:
  FileView(Views& views, View view) : OneView(views, std::move(view)) {
    // What happened between the last write and the last reload is not known.
    reload_due_ = !this->view().reload.empty();
    update();
  }

  void update() override {
    retries_ = 0;
    dirty_ = true;
    if (!busy_) schedule();
  }

 private:
  void schedule() {
    const SteadyTime now = loop().now();
    const Millis wait = next_ > now ? std::chrono::ceil<Millis>(next_ - now) : Millis(0);
    timer_ = loop().after(wait, [this] { begin(); });
  }

  void begin() {
    dirty_ = false;
    busy_ = true;
    begun_ = loop().now();
    if (!written_) readWritten();
    const auto services = shown();
    // Where nothing is known, what is there stays; but others want a file to include.
    if (!services && !written_->empty()) return reloadIfDue();
    const std::string text =
        viewText(view(), cluster(), services.value_or(std::vector<ShownService>()));
    const std::string digest = sha256Hex(text);
    if (digest == *written_) return reloadIfDue();
    write(text, digest);
  }

  void readWritten() {
    const auto text = readFile(path(), kMaxFile);
    written_ = text ? sha256Hex(*text) : std::string();
  }

  // A name that no `*.conf` or `*.json` of others takes for one of theirs. The disk is waited for
  // beside the loop.
  void write(const std::string& text, const std::string& digest) {
    auto file = openFile(newPath(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    auto put = file ? writeAll(file->get(), text) : Result<void>(fail(file.error()));
    if (!put) return retry(put.error().message);
    disk().begin(std::move(*file), [this, digest, alive = std::weak_ptr<bool>(alive_)](bool well) {
      if (!alive.expired()) putInPlace(well, digest);
    });
  }

  std::string newPath() const { return path() + ".new"; }

  void putInPlace(bool well, const std::string& digest) {
    next_ = loop().now() + (loop().now() - begun_) * (kShareOfTime - 1);
    if (!well) return retry("it could not be written to the disk");
    if (::rename(newPath().c_str(), path().c_str()) != 0)
      return retry(fmt::format("{}: {}", path(), std::strerror(errno)));
    written_ = digest;
    reload_due_ = !view().reload.empty();
    reloadIfDue();
  }

  void reloadIfDue() {
    if (!reload_due_) return finish();
    program_ = std::make_unique<Program>(loop(), limits().reload_time,
                                         [this](Program& ended) { onReloaded(ended); });
    const auto begun = program_->begin(view().reload, "");
    if (!begun) retry("reload: " + begun.error().message);
  }

  void onReloaded(const Program& ended) {
    if (!ended.succeeded()) {
      std::string said;
      for (const std::string& line : ended.report().last_lines) said += "\n" + line;
      return retry(fmt::format("reload {}: {}", view().reload.front(), ended.describe()), said);
    }
    reload_due_ = false;
    finish();
  }

  void finish() {
    succeeded();
    busy_ = false;
    if (dirty_) schedule();
  }

  void retry(const std::string& why, const std::string& details = {}) {
    failed(why, details);
    busy_ = false;
    if (dirty_) return schedule();
    if (retries_ >= limits().retries) return;  // until something changes
    timer_ = loop().after(limits().first_retry * (1 << retries_++), [this] { begin(); });
  }

  bool busy_ = false;
  bool dirty_ = false;
  bool reload_due_ = false;
  int retries_ = 0;
  std::optional<std::string> written_;  // its digest; empty: there is no file
  SteadyTime begun_{};
  SteadyTime next_{};
  Timer timer_;
  std::unique_ptr<Program> program_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Asks which servers there are, sets those that should be others, and asks again.
class HaproxyView : public OneView {
 public:
  HaproxyView(Views& views, View view) : OneView(views, std::move(view)) { update(); }

  void update() override {
    again_ = true;
    if (!exchange_) schedule(Millis(0));
  }

 private:
  void schedule(Millis wait) {
    timer_ = loop().after(wait, [this] {
      again_ = false;
      set_ = false;
      ask();
    });
  }

  template <typename OnAnswer>
  void exchange(std::string line, OnAnswer on_answer) {
    exchange_ = std::make_unique<HaproxyExchange>(loop(), view().path, std::move(line),
                                                  limits().haproxy_time,
                                                  [this, on_answer](Result<std::string> answer) {
                                                    if (answer) return on_answer(*answer);
                                                    failed(answer.error().message);
                                                    rest();
                                                  });
  }

  void ask() {
    exchange("show servers state " + view().name, [this](const std::string& answer) {
      const auto servers = parseServers(answer, view().name);
      if (servers) return compare(*servers);
      failed(servers.error().message);
      rest();
    });
  }

  void compare(const std::vector<HaproxyServer>& servers) {
    const auto services = shown();
    if (!services) return rest();
    HaproxyPlan plan = planServers(view(), servers, services->front());
    if (plan.commands.empty() || set_) {
      // After it was set, nothing may be left to do.
      if (!plan.commands.empty() && !again_)
        failed(fmt::format("HAProxy did not take `{}`: {}", plan.commands.front(), said_));
      else if (!plan.problem.empty())
        failed(plan.problem);
      else
        succeeded();
      return rest();
    }
    commands_ = std::move(plan.commands);
    said_.clear();
    set();
  }

  void set() {
    if (commands_.empty()) {
      set_ = true;
      return ask();
    }
    std::string line;
    size_t taken = 0;
    while (taken < commands_.size() && line.size() + commands_[taken].size() < kMaxBatch)
      line += (taken == 0 ? "" : "; ") + commands_[taken], ++taken;
    commands_.erase(commands_.begin(), commands_.begin() + static_cast<std::ptrdiff_t>(taken));
    exchange(line, [this](const std::string& answer) {
      for (const char c : answer)
        if (said_.size() < 300) said_ += c == '\n' ? ' ' : c;
      set();
    });
  }

  void rest() {
    exchange_.reset();
    schedule(again_ ? Millis(0) : limits().haproxy_check);
  }

  bool again_ = false;  // something changed meanwhile
  bool set_ = false;    // the commands of this round were sent
  std::vector<std::string> commands_;
  std::string said_;
  std::unique_ptr<HaproxyExchange> exchange_;
  Timer timer_;
};

}  // namespace

// ---- all of them -------------------------------------------------------------------------------

Views::Views(std::string root, Identity identity, EventLoop& loop, Journal& journal, Names& names,
             ViewLimits limits)
    : root_(std::move(root)),
      identity_(std::move(identity)),
      loop_(loop),
      journal_(journal),
      names_(names),
      limits_(limits),
      disk_(loop) {
  names_.onChange([this](const std::string& service) { onChange(service); });
  load();
}

Views::~Views() = default;

void Views::load() {
  const auto json = readSealed(paths::viewsFile(root_), kKind);
  if (!json && json.error().code == Code::kNotFound) return;
  auto stored = json ? protocol::decode<protocol::ViewsRequest>(*json)
                     : Result<protocol::ViewsRequest>(fail(json.error()));
  if (stored)
    if (auto checked = checkViews(stored->views); !checked) stored = fail(checked.error());
  if (stored) return open(std::move(stored->views));
  problem_ = stored.error().message +
             "; no views are written until the next command that changes "
             "something";
  tell_ = loop_.after(Millis(0), [this] { record(problem_); });  // the journal is opened after this
}

// Those that were there already go on as they are.
void Views::open(std::vector<View> views) {
  std::vector<std::unique_ptr<OneView>> before = std::exchange(all_, {});
  for (View& view : views) {
    const auto same = std::find_if(before.begin(), before.end(), [&](const auto& one) {
      return one != nullptr && one->view() == view;
    });
    if (same != before.end())
      all_.push_back(std::move(*same));
    else if (view.kind == ViewKind::kHaproxy)
      all_.push_back(std::make_unique<HaproxyView>(*this, std::move(view)));
    else
      all_.push_back(std::make_unique<FileView>(*this, std::move(view)));
  }
}

Result<void> Views::replace(std::vector<View> wanted) {
  if (wanted == views() && problem_.empty()) return {};
  CCTL_CHECK(checkViews(wanted));
  CCTL_CHECK(writeSealed(paths::viewsFile(root_), kKind,
                         protocol::encode(protocol::ViewsRequest{wanted}), Sync::kYes));
  problem_.clear();
  open(std::move(wanted));
  protocol::Event event;
  event.kind = protocol::EventKind::kOrder;
  event.text = "views changed: " + counted(all_.size(), "view");
  journal_.append(std::move(event));
  return {};
}

std::vector<View> Views::views() const {
  std::vector<View> views;
  for (const auto& one : all_) views.push_back(one->view());
  return views;
}

void Views::onChange(const std::string& service) {
  for (const auto& one : all_)
    if (one->shows(service)) one->update();
}

void Views::record(std::string text) {
  protocol::Event event;
  event.kind = protocol::EventKind::kView;
  event.text = std::move(text);
  journal_.append(std::move(event));
}

}  // namespace cctl::shim
