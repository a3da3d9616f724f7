#include "registry/acceptor_store.h"

#include <unistd.h>

#include <cstring>
#include <map>

#include "base/digest.h"
#include "base/file.h"

namespace cctl::registry {
namespace {

constexpr size_t kSmallestToRotate = 4u << 20;
constexpr size_t kOldLogLimit = 256u << 20;

std::string freshUuid() { return randomHex(16); }

std::string oldLog(const std::string& dir) { return dir + "/registers.log"; }
std::string oldUuid(const std::string& dir) { return dir + "/uuid"; }

// The newest value of each register of the single store.
Result<std::map<std::string, AcceptorRecord>> readOldStore(const std::string& path) {
  std::map<std::string, AcceptorRecord> registers;
  CCTL_TRY(const std::string bytes, readFile(path, kOldLogLimit));
  CCTL_TRY(const LogContent content, parseLog(bytes, path));
  for (const std::string& line : content.records) {
    auto record = decodeRecord(line);
    if (!record) return fail(record.error().context(path));
    registers[record->key] = std::move(*record);
  }
  return registers;
}

}  // namespace

AcceptorStore::AcceptorStore(std::string dir, const Clock& clock, LogIo io, Beside beside)
    : dir_(std::move(dir)), clock_(clock), io_(std::move(io)), beside_(std::move(beside)) {
  if (!beside_) beside_ = [](const std::function<void()>& work) { work(); };
}

Result<std::unique_ptr<AcceptorStore>> AcceptorStore::open(const std::string& dir,
                                                           const Clock& clock, LogIo io,
                                                           Beside beside) {
  CCTL_CHECK(makeDirs(dir, 0700));
  std::unique_ptr<AcceptorStore> store(
      new AcceptorStore(dir, clock, std::move(io), std::move(beside)));
  CCTL_CHECK(store->load());
  // Its content is in the first log by now.
  for (const std::string& old : {oldLog(dir), oldUuid(dir)}) (void)::unlink(old.c_str());
  return store;
}

Result<void> AcceptorStore::load() {
  acceptor_ = std::make_unique<Acceptor>(freshUuid);
  const SteadyTime now = clock_.steady();
  const auto sink = [&](const std::string& line) -> Result<void> {
    CCTL_TRY(const AcceptorRecord record, decodeRecord(line));
    acceptor_->replay(record, now);
    return {};
  };
  CCTL_TRY(files_, AcceptorFiles::open(dir_, sink, [this] { return beginDisk(); }));
  if (acceptor_->uuid().empty())
    return fail(Code::kCorrupt, "{}: the acceptor's log does not say whose it is", dir_);
  return {};
}

Result<std::vector<std::string>> AcceptorStore::beginDisk() {
  AcceptorRecord identity;
  identity.uuid = freshUuid();
  std::vector<std::string> lines{encodeRecord(identity)};
  if (!exists(oldLog(dir_))) return lines;
  CCTL_TRY(const auto registers, readOldStore(oldLog(dir_)));
  for (const auto& [key, record] : registers) lines.push_back(encodeRecord(record));
  return lines;
}

AcceptorReply AcceptorStore::refusal(const AcceptorRequest& request, const std::string& why) {
  AcceptorReply reply;
  reply.id = request.id;
  reply.refusal = Refusal::kNotServing;
  reply.why = why;
  return reply;
}

void AcceptorStore::submit(const AcceptorRequest& request, Answer answer) {
  if (!problem_.empty()) {
    answer(refusal(request, problem_));
    return;
  }
  AcceptorStep step = acceptor_->handle(request, clock_.steady());
  if (request.act == protocol::AcceptorAct::kIdentity)
    if (const auto room = files_.checkRoom(); !room) step.reply.why = room.error().message;
  for (const AcceptorRecord& record : step.records) buffer_ += encodeRecord(encodeRecord(record));
  must_sync_ = must_sync_ || step.sync;
  // It may show what is not on the disk yet.
  if (syncing_ || must_sync_)
    waiting_.push_back({std::move(step.reply), std::move(answer)});
  else
    answer(std::move(step.reply));
}

void AcceptorStore::flush() {
  if (syncing_ || !problem_.empty()) return;
  if (!buffer_.empty()) {
    if (auto written = io_.append(files_.fd(), buffer_); !written)
      return onAppendFailed(written.error());
    files_.grew(buffer_.size());
    buffer_.clear();
  }
  in_flight_ = std::exchange(waiting_, {});
  if (!std::exchange(must_sync_, false)) {
    release(std::exchange(in_flight_, {}));
    return;
  }
  syncing_ = true;
  io_.sync(files_.fd(), [this](int error) { onSynced(error); });
}

void AcceptorStore::onSynced(int error) {
  syncing_ = false;
  if (error != 0) {
    // Which pages reached the disk is not known, and the kernel may forget that they did not.
    failAll(fmt::format("{}: cannot be synced: {}; mend the disk, then restart the shim", dir_,
                        std::strerror(error)));
    return;
  }
  release(std::exchange(in_flight_, {}));
  rotateIfLarge();
  if (hasWork()) flush();
}

void AcceptorStore::release(std::vector<Waiting> waiting) {
  for (Waiting& one : waiting) one.answer(std::move(one.reply));
}

void AcceptorStore::failAll(const std::string& why) {
  problem_ = why;
  std::vector<Waiting> all = std::exchange(in_flight_, {});
  for (Waiting& one : std::exchange(waiting_, {})) all.push_back(std::move(one));
  buffer_.clear();
  for (Waiting& one : all) {
    AcceptorRequest request;
    request.id = one.reply.id;
    one.answer(refusal(request, why));
  }
}

// Memory is ahead of the disk now. When the disk was merely full, what was cut off was never
// answered for: the state is read again from what is on the disk, and served on.
void AcceptorStore::onAppendFailed(const Error& error) {
  const std::string why = fmt::format("{}: {}", dir_, error.message);
  if (error.code == Code::kNoSpace && files_.cutBack()) {
    failAll(why);
    must_sync_ = false;
    if (auto loaded = load(); loaded) problem_.clear();
    return;
  }
  failAll(why + "; mend the disk, then restart the shim");
}

void AcceptorStore::rotateIfLarge() {
  if (files_.size() < std::max(kSmallestToRotate, 2 * acceptor_->liveBytes())) return;
  const auto number = files_.rotate();
  if (!number) return;  // tried again at the next sync; the log goes on where it is
  const auto records = [this](const AcceptorFiles::Sink& sink) {
    acceptor_->snapshot([&](const AcceptorRecord& record) { (void)sink(encodeRecord(record)); });
  };
  // The snapshot may be ahead of the log it goes before: replaying knows that.
  beside_([dir = dir_, at = *number, records] {
    (void)AcceptorFiles::writeSnapshot(dir, at, records);
  });
}

}  // namespace cctl::registry
