#include "shim/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"

namespace cctl::shim {
namespace {

constexpr Millis kSyncDelay{200};
constexpr size_t kCrcDigits = 8;
constexpr std::string_view kSuffix = ".log";

std::optional<uint64_t> firstSeqOf(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  uint64_t seq = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), seq);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return seq;
}

// Without decoding the line: a quote inside a string has a backslash before it, so that this can
// only be the key.
std::optional<uint64_t> seqOf(std::string_view line) {
  static constexpr std::string_view kKey = "\"seq\":";
  const size_t at = line.find(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  uint64_t seq = 0;
  const auto [end, error] =
      std::from_chars(line.data() + at + kKey.size(), line.data() + line.size(), seq);
  if (error != std::errc() || seq == UINT64_MAX) return std::nullopt;  // no number follows that
  return seq;
}

// Calls visit(line, offset of its end) for each whole line, until it returns false; returns the
// number of bytes in whole lines visited.
template <typename Visit>
void eachLine(std::string_view text, Visit visit) {
  size_t at = 0;
  for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', at)) {
    if (!visit(text.substr(at, end - at), end + 1)) return;
    at = end + 1;
  }
}

}  // namespace

std::string encodeJournalLine(const protocol::Event& event) {
  const std::string json = protocol::encodeReply(event);
  return fmt::format("{:08x} {}", crc32c(json), json);
}

static std::optional<std::string_view> checkedText(std::string_view line) {
  if (line.size() < kCrcDigits + 1 || line[kCrcDigits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(kCrcDigits + 1);
  if (line.substr(0, kCrcDigits) != fmt::format("{:08x}", crc32c(text))) return std::nullopt;
  return text;
}

std::optional<protocol::Event> decodeJournalLine(std::string_view line) {
  const auto text = checkedText(line);
  if (!text) return std::nullopt;
  auto event = protocol::decodeReply<protocol::Event>(*text);
  if (!event || seqOf(*text) != event->seq) return std::nullopt;
  return std::move(*event);
}

Journal::Journal(std::string dir, EventLoop& loop, JournalLimits limits)
    : dir_(std::move(dir)), loop_(loop), limits_(limits), disk_(loop) {}

std::string Journal::pathOf(const Segment& segment) const {
  return fmt::format("{}/{:020}{}", dir_, segment.first_seq, kSuffix);
}

Result<void> Journal::open() {
  CCTL_CHECK(makeDirs(dir_, 0700));
  CCTL_TRY(const auto names, listDir(dir_));  // sorted, and the names are padded
  for (const std::string& name : names)
    if (const auto seq = firstSeqOf(name)) segments_.push_back({*seq, 0});
  new_ = segments_.empty();
  for (Segment& segment : segments_)
    CCTL_CHECK(openSegment(segment, &segment == &segments_.back()));
  [[maybe_unused]] const auto opened = openLast();  // or with the next event
  return {};
}

Result<void> Journal::openLast() {
  if (segments_.empty()) return rotate();
  CCTL_TRY(file_, openFile(pathOf(segments_.back()), O_WRONLY | O_APPEND));
  return {};
}

// What is written to a file without a name is found by nobody.
void Journal::noticeRemoved() {
  const bool gone = file_ && ::access(pathOf(segments_.back()).c_str(), F_OK) != 0;
  if (!gone || errno != ENOENT) return;
  file_.reset();
  std::erase_if(segments_, [this](const Segment& one) { return !exists(pathOf(one)); });
  [[maybe_unused]] const auto made = makeDirs(dir_, 0700);  // or openLast() says it with the event
  noteRemoved();
}

void Journal::noteRemoved() {
  protocol::Event event;
  event.kind = protocol::EventKind::kLost;
  event.text = fmt::format("{} was removed: what happened before {} is no longer told", dir_,
                           formatTime(loop_.clock().wall()));
  problems_.push_back(event.text);
  append(std::move(event));
}

// Only what follows the last line that holds is a torn tail, and only in the last segment.
Result<void> Journal::openSegment(Segment& segment, bool last) {
  const std::string path = pathOf(segment);
  CCTL_TRY(const std::string text, readFile(path, 256u << 20));
  size_t good_end = 0;
  size_t bad_lines = 0;
  size_t bad_since_good = 0;
  next_seq_ = std::max(next_seq_, segment.first_seq);
  eachLine(text, [&](std::string_view line, size_t end) {
    // Its checksum holds: so it is what was written, and need not be understood here.
    const auto checked = checkedText(line);
    const auto seq = checked ? seqOf(*checked) : std::nullopt;
    if (!seq) {
      ++bad_since_good;
      return true;
    }
    bad_lines += std::exchange(bad_since_good, 0);
    good_end = end;
    next_seq_ = std::max(next_seq_, *seq + 1);
    return true;
  });
  segment.size = text.size();
  if (bad_lines > 0 || (!last && good_end < text.size()))
    problems_.push_back(fmt::format("{}: {} passed over", path,
                                    counted(std::max<size_t>(bad_lines, 1), "damaged line")));
  if (!last || good_end == text.size()) return {};
  problems_.push_back(
      fmt::format("{}: a torn tail of {} bytes was cut off", path, text.size() - good_end));
  if (::truncate(path.c_str(), static_cast<off_t>(good_end)) != 0) return failErrno(errno, path);
  segment.size = good_end;
  return {};
}

Result<void> Journal::rotate() {
  const Segment segment{next_seq_, 0};
  if (segments_.empty() || segments_.back().first_seq != segment.first_seq) {
    CCTL_TRY(Fd file, openFile(pathOf(segment), O_WRONLY | O_APPEND | O_CREAT, 0600));
    if (file_) ::fdatasync(file_.get());  // best effort: the segment is complete in the cache
    file_ = std::move(file);
    segments_.push_back(segment);
  }
  while (segments_.size() > limits_.segments) {
    ::unlink(pathOf(segments_.front()).c_str());  // a file that stays is dropped next time
    segments_.erase(segments_.begin());
  }
  return syncDir(dir_);
}

Result<void> Journal::writeLine(const std::string& line) {
  if (!file_) CCTL_CHECK(openLast());
  if (segments_.back().size + line.size() > limits_.segment_size && segments_.back().size > 0)
    CCTL_CHECK(rotate());
  if (auto written = writeAll(file_.get(), line); !written) {
    // Half a line in the middle would look like damage.
    [[maybe_unused]] const int cut =
        ::ftruncate(file_.get(), static_cast<off_t>(segments_.back().size));
    return written;
  }
  segments_.back().size += line.size();
  return {};
}

void Journal::tellDropped() {
  protocol::Event note;
  note.kind = protocol::EventKind::kLost;
  note.seq = next_seq_;
  note.at = loop_.clock().wall();
  note.text = fmt::format("{} events could not be written and are lost", dropped_);
  if (!writeLine(encodeJournalLine(note) + "\n")) return;
  ++next_seq_;
  dropped_ = 0;
}

void Journal::append(protocol::Event event) {
  event.at = loop_.clock().wall();
  if (waiting_.empty())
    loop_.atTurnEnd([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) flush();
    });
  waiting_.push_back(std::move(event));
}

void Journal::write(protocol::Event& event) {
  if (dropped_ > 0) tellDropped();
  event.seq = next_seq_;
  if (dropped_ > 0 || !writeLine(encodeJournalLine(event) + "\n"))
    ++dropped_;
  else
    ++next_seq_;
  for (const auto& [id, on_event] : std::map(observers_)) on_event(event);
}

void Journal::flush() {
  if (waiting_.empty()) return;
  noticeRemoved();
  std::vector<protocol::Event> events = std::exchange(waiting_, {});
  for (protocol::Event& event : events) write(event);
  if (file_ && !sync_timer_.pending())
    sync_timer_ = loop_.after(kSyncDelay, [this] {
      // A copy of the descriptor, whatever is rotated meanwhile.
      disk_.begin(Fd(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 3)));
    });
  for (const auto& [id, on_append] : std::map(subscribers_)) on_append();
}

bool Journal::tellsExitOf(int pid, uint64_t start_ticks) {
  static constexpr uint64_t kNewest = 20'000;
  const uint64_t last = lastSeq();
  const uint64_t after = last > kNewest ? last - kNewest : 0;
  flush();
  // Few lines have this number at all: a supervisor that takes over asks for every process that
  // has ended, and must not decode the journal each time.
  const std::string wanted = fmt::format("\"start_ticks\":{}", start_ticks);
  bool told = false;
  for (size_t i = segments_.size(); i > 0 && !told; --i) {
    const auto text = readFile(pathOf(segments_[i - 1]), 256u << 20);
    if (text)
      eachLine(*text, [&](std::string_view line, size_t) {
        if (line.find(wanted) == std::string_view::npos) return true;
        const auto event = decodeJournalLine(line);
        told = event && event->seq > after && event->exit && event->exit->pid == pid &&
               event->exit->start_ticks == start_ticks;
        return !told;
      });
    if (segments_[i - 1].first_seq <= after) break;
  }
  return told;
}

void Journal::sync() {
  flush();
  if (file_) ::fdatasync(file_.get());  // nothing better to do on failure than go on
}

std::vector<protocol::Event> Journal::read(uint64_t after, std::optional<WallTime> since,
                                           size_t limit) {
  flush();
  std::vector<protocol::Event> events;
  for (size_t i = 0; i < segments_.size() && events.size() < limit; ++i) {
    if (i + 1 < segments_.size() && segments_[i + 1].first_seq <= after + 1) continue;
    const auto text = readFile(pathOf(segments_[i]), 256u << 20);
    if (!text) continue;
    eachLine(*text, [&](std::string_view line, size_t) {
      if (seqOf(line).value_or(0) <= after) return true;
      auto event = decodeJournalLine(line);
      if (event && event->seq > after && (!since || event->at >= *since))
        events.push_back(std::move(*event));
      return events.size() < limit;
    });
  }
  return events;
}

uint64_t Journal::subscribe(std::function<void()> on_append) {
  subscribers_[next_subscriber_] = std::move(on_append);
  return next_subscriber_++;
}

uint64_t Journal::observe(std::function<void(const protocol::Event&)> on_event) {
  observers_[next_subscriber_] = std::move(on_event);
  return next_subscriber_++;
}

}  // namespace cctl::shim
