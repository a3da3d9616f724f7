#include "shim/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/host_paths.h"
#include "shim/sealed_file.h"

namespace cctl::shim {
namespace {

using protocol::ReleaseFile;

constexpr size_t kChunk = 256u << 10;
constexpr uint64_t kWritebackEvery = 8u << 20;
constexpr uint64_t kSpareBytes = 4u << 20;  // for the shim's own files

bool sameFiles(const std::vector<ReleaseFile>& a, const std::vector<ReleaseFile>& b) {
  return a == b;
}

std::string parentOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Directories of `dir`, deepest first.
void collectDirs(const std::string& dir, std::vector<std::string>& found) {
  const auto names = listDir(dir);
  if (!names) return;
  for (const std::string& name : *names) {
    struct stat info {};
    const std::string path = dir + "/" + name;
    if (::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) collectDirs(path, found);
  }
  found.push_back(dir);
}

}  // namespace

// ---- Incoming ----------------------------------------------------------------------------------

Incoming::Incoming(Store& store, ReleaseManifest manifest, std::vector<ReleaseFile> order)
    : store_(store),
      manifest_(std::move(manifest)),
      order_(std::move(order)),
      dir_(paths::incomingReleaseDir(store.root_, manifest_.service, randomHex(8))) {}

Incoming::~Incoming() {
  if (finished_) return;
  file_.reset();
  // Nobody can be told any more; a leftover is removed at the next start of the shim.
  [[maybe_unused]] const auto removed = removeTree(dir_);
}

Result<void> Incoming::begin() {
  CCTL_CHECK(makeDirs(parentOf(dir_)));
  if (::mkdir(dir_.c_str(), 0700) != 0) return failErrno(errno, dir_);
  return makeLinks();
}

Result<void> Incoming::makeLinks() {
  for (const ReleaseFile& file : order_) {
    const std::string path = dir_ + "/" + file.path;
    CCTL_CHECK(makeDirs(parentOf(path)));
    if (!file.link.empty() && ::symlink(file.link.c_str(), path.c_str()) != 0)
      return failErrno(errno, path);
  }
  return {};
}

void Incoming::takeNeed(uint32_t index) {
  needed_.push_back(index);
  ++reuse_next_;
}

Result<bool> Incoming::reuse(size_t budget) {
  while (reuse_next_ < order_.size()) {
    if (budget == 0) return false;
    const ReleaseFile& file = order_[reuse_next_];
    if (!file.link.empty()) {
      ++reuse_next_;
      continue;
    }
    if (!source_) {
      const std::string path = store_.pathOfContent(manifest_.service, file);
      if (!path.empty()) source_.reset(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
      if (!source_) {
        takeNeed(reuse_next_);
        continue;
      }
      CCTL_CHECK(openFile(file));
    }
    CCTL_TRY(const bool copied, copySome(budget));
    if (!copied) return false;
  }
  return openNext().map([] { return true; });
}

// True when the file at reuse_next_ is done with: copied, or, when its copy elsewhere has changed
// on the disk, asked for.
Result<bool> Incoming::copySome(size_t& budget) {
  const ReleaseFile& file = order_[reuse_next_];
  std::string buffer(kChunk, '\0');
  while (budget > 0) {
    const ssize_t got = ::read(source_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got > 0 && written_ + static_cast<uint64_t>(got) <= file.size) {
      CCTL_CHECK(write({buffer.data(), static_cast<size_t>(got)}));
      budget -= std::min(budget, static_cast<size_t>(got));
      continue;
    }
    source_.reset();
    if (got == 0 && closeFile(file)) {
      ++reuse_next_;
      return true;
    }
    file_.reset();
    if (::unlink((dir_ + "/" + file.path).c_str()) != 0) return failErrno(errno, file.path);
    takeNeed(reuse_next_);
    return true;
  }
  return false;
}

Result<void> Incoming::openFile(const ReleaseFile& file) {
  const std::string path = dir_ + "/" + file.path;
  CCTL_TRY(file_, cctl::openFile(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  sha_ = Sha256();
  written_ = 0;
  return {};
}

Result<void> Incoming::write(std::string_view bytes) {
  const uint64_t before = written_;
  if (auto put = writeAll(file_.get(), bytes); !put) {
    if (put.error().code != Code::kNoSpace) return put;
    return fail(Code::kNoSpace, "the disk of {} is full; nothing of {} {} was kept", store_.root_,
                manifest_.service, manifest_.version);
  }
  sha_.update(bytes);
  written_ += bytes.size();
  // Lets the disk begin early, so that the fsync at the end is short.
  if (before / kWritebackEvery != written_ / kWritebackEvery)
    ::sync_file_range(file_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  return {};
}

Result<void> Incoming::closeFile(const ReleaseFile& file) {
  if (sha_.hex() != file.sha256 || written_ != file.size)
    return fail(Code::kCorrupt, "{}: what arrived does not have the SHA-256 that was announced",
                file.path);
  if (::fchmod(file_.get(), file.executable ? 0555 : 0444) != 0) return failErrno(errno, file.path);
  if (::fsync(file_.get()) != 0) return failErrno(errno, file.path);
  file_.reset();
  return {};
}

// Opens the next needed file; those without content are done at once.
Result<void> Incoming::openNext() {
  while (need_next_ < needed_.size() && !file_) {
    const ReleaseFile& file = order_[needed_[need_next_]];
    CCTL_CHECK(openFile(file));
    if (file.size > 0) return {};
    CCTL_CHECK(closeFile(file));
    ++need_next_;
  }
  return {};
}

Result<void> Incoming::feed(std::string_view bytes) {
  received_ += bytes.size();
  while (!bytes.empty()) {
    if (need_next_ >= needed_.size())
      return fail(Code::kCorrupt, "more bytes than the files that were asked for");
    const ReleaseFile& file = order_[needed_[need_next_]];
    const auto part = static_cast<size_t>(std::min<uint64_t>(bytes.size(), file.size - written_));
    CCTL_CHECK(write(bytes.substr(0, part)));
    bytes.remove_prefix(part);
    if (written_ < file.size) return {};
    CCTL_CHECK(closeFile(file));
    ++need_next_;
    CCTL_CHECK(openNext());
  }
  return {};
}

Result<void> Incoming::seal() {
  std::vector<std::string> dirs;
  collectDirs(dir_, dirs);
  for (const std::string& dir : dirs) {
    CCTL_CHECK(syncDir(dir));
    if (::chmod(dir.c_str(), 0555) != 0) return failErrno(errno, dir);
  }
  return {};
}

Result<bool> Incoming::finish() {
  if (need_next_ < needed_.size())
    return fail(Code::kCorrupt, "the release ended before {}", order_[needed_[need_next_]].path);
  CCTL_CHECK(seal());
  CCTL_TRY(const bool installed, store_.install(manifest_, dir_));
  finished_ = installed;
  return installed;
}

// ---- Store -------------------------------------------------------------------------------------

Store::Store(std::string root, const Clock& clock) : root_(std::move(root)), cache_(clock) {}

std::string Store::recordPath(const std::string& service, const std::string& version) const {
  return paths::releaseRecord(root_, service, version);
}

std::string Store::dirOf(const ReleaseManifest& manifest) const {
  return paths::releaseDir(root_, manifest.service, manifest.version);
}

Result<void> Store::load() {
  CCTL_CHECK(makeDirs(paths::servicesDir(root_)));
  CCTL_CHECK(makeDirs(paths::releaseRecordsDir(root_), 0700));
  removeLeftovers();
  CCTL_TRY(const auto names, listDir(paths::releaseRecordsDir(root_)));
  for (const std::string& name : names)
    if (auto loaded = loadRecord(name); !loaded) problems_.push_back(loaded.error().message);
  return {};
}

Result<void> Store::loadRecord(const std::string& name) {
  if (!name.ends_with(".json")) return {};  // a temporary name: a write that was cut off
  CCTL_TRY(const Json json,
           readSealed(paths::join(paths::releaseRecordsDir(root_), name), "release"));
  CCTL_TRY(ReleaseManifest manifest, decodeManifest(json));
  // Recorded first, moved into place second: without the directory the push never ended.
  if (!isDirectory(dirOf(manifest))) return {};
  const Key key{manifest.service, manifest.version};
  releases_[key] = std::make_shared<ReleaseManifest>(std::move(manifest));
  return {};
}

void Store::removeLeftovers() {
  const auto services = listDir(paths::servicesDir(root_));
  if (!services) return;
  for (const std::string& service : *services) {
    const auto names = listDir(paths::serviceDir(root_, service));
    if (!names) continue;
    for (const std::string& name : *names) {
      if (!name.starts_with(paths::kIncomingPrefix)) continue;
      const auto removed = removeTree(paths::join(paths::serviceDir(root_, service), name));
      if (!removed) problems_.push_back(removed.error().message);
    }
  }
}

// Out of sight first, under a name that the next start cleans up. A record without its directory is
// that of a push that never ended.
Result<void> Store::remove(const std::string& service, const std::string& version) {
  const ReleaseManifest* release = find(service, version);
  if (!release) return {};
  const std::string aside =
      paths::incomingReleaseDir(root_, service, fmt::format("removed-{}", version));
  CCTL_CHECK(removeTree(aside));
  if (::rename(dirOf(*release).c_str(), aside.c_str()) != 0)
    return failErrno(errno, dirOf(*release));
  CCTL_CHECK(syncDir(paths::serviceDir(root_, service)));
  CCTL_CHECK(removeTree(recordPath(service, version)));
  CCTL_CHECK(removeTree(paths::releaseSignatures(root_, service, version)));
  releases_.erase({service, version});
  return removeTree(aside);
}

Result<void> Store::keepSignatures(const protocol::SignaturesRequest& request) {
  const std::string& service = request.service;
  const std::string& version = request.version;
  if (find(service, version) == nullptr)
    return fail(Code::kNotFound, "{} {} is not on this host", service, version);
  const std::vector<std::string> before = signatures(service, version);
  std::vector<std::string> kept = before;
  for (const std::string& text : request.signatures) {
    if (text.size() > kLongestSignature)
      return fail(Code::kRefused, "too long for a signature: {} bytes at most", kLongestSignature);
    if (std::find(kept.begin(), kept.end(), text) == kept.end()) kept.push_back(text);
  }
  if (kept.size() > kMostSignatures)
    kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(kMostSignatures));
  if (kept == before) return {};
  return writeSealed(paths::releaseSignatures(root_, service, version), "signatures", Json(kept),
                     Sync::kYes);
}

std::vector<std::string> Store::signatures(const std::string& service,
                                           const std::string& version) const {
  std::vector<std::string> texts;
  const auto json = readSealed(paths::releaseSignatures(root_, service, version), "signatures");
  if (!json || !json->is_array()) return texts;
  for (const Json& text : *json)
    if (text.is_string()) texts.push_back(text.get<std::string>());
  return texts;
}

const ReleaseManifest* Store::find(const std::string& service, const std::string& version) const {
  const auto found = releases_.find({service, version});
  return found == releases_.end() ? nullptr : found->second.get();
}

std::shared_ptr<const ReleaseManifest> Store::share(const std::string& service,
                                                    const std::string& version) const {
  const auto found = releases_.find({service, version});
  return found == releases_.end() ? nullptr : found->second;
}

std::vector<const ReleaseManifest*> Store::releases(const std::string& service) const {
  std::vector<const ReleaseManifest*> found;
  for (const auto& [key, manifest] : releases_)
    if (service.empty() || key.first == service) found.push_back(manifest.get());
  return found;
}

Result<bool> Store::alreadyThere(const ReleaseManifest& manifest) {
  const ReleaseManifest* installed = find(manifest.service, manifest.version);
  if (!installed && exists(dirOf(manifest))) {
    CCTL_CHECK(adoptUnrecorded(manifest));
    return true;
  }
  if (!installed) return false;
  if (installed->digest == manifest.digest && sameFiles(installed->files, manifest.files))
    return true;
  return fail(Code::kRefused,
              "{} {} is installed on this host with other content (digest {}, offered {}): a "
              "version never changes; release it under a new one",
              manifest.service, manifest.version, installed->digest.substr(0, 12),
              manifest.digest.substr(0, 12));
}

// A directory that no record tells of: the record was lost, or somebody put it there.
Result<void> Store::adoptUnrecorded(const ReleaseManifest& manifest) {
  ReleaseCheck check(dirOf(manifest), std::make_shared<ReleaseManifest>(manifest), nullptr);
  while (!check.step(SIZE_MAX)) {
  }
  if (!check.problems().empty())
    return fail(Code::kRefused, "{} holds files that are not {} {} ({}); move it away",
                dirOf(manifest), manifest.service, manifest.version, check.problems().front());
  CCTL_CHECK(writeSealed(recordPath(manifest.service, manifest.version), "release",
                         encodeManifest(manifest), Sync::kYes));
  releases_[{manifest.service, manifest.version}] = std::make_shared<ReleaseManifest>(manifest);
  return {};
}

Result<void> Store::checkSpace(const ReleaseManifest& manifest) const {
  struct statvfs disk {};
  if (::statvfs(root_.c_str(), &disk) != 0) return failErrno(errno, root_);
  uint64_t need = kSpareBytes;
  for (const ReleaseFile& file : manifest.files) need += file.size + disk.f_frsize;
  const uint64_t available = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (need <= available) return {};
  return fail(Code::kNoSpace, "{} {} needs {} on the disk of {}, which has {} free",
              manifest.service, manifest.version, humanSize(need), root_, humanSize(available));
}

Result<std::unique_ptr<Incoming>> Store::push(const protocol::PushRequest& request) {
  CCTL_TRY(ReleaseManifest manifest, manifestOf(request));
  CCTL_TRY(const bool there, alreadyThere(manifest));
  if (there) return nullptr;
  CCTL_CHECK(checkSpace(manifest));
  std::unique_ptr<Incoming> incoming(new Incoming(*this, std::move(manifest), request.files));
  CCTL_CHECK(incoming->begin());
  return incoming;
}

std::string Store::pathOfContent(const std::string& service, const ReleaseFile& file) const {
  for (const ReleaseManifest* manifest : releases(service))
    for (const ReleaseFile& other : manifest->files)
      if (other.link.empty() && other.sha256 == file.sha256 && other.size == file.size)
        return dirOf(*manifest) + "/" + other.path;
  return {};
}

Result<bool> Store::install(const ReleaseManifest& manifest, const std::string& from) {
  CCTL_TRY(const bool there, alreadyThere(manifest));  // another push may have been faster
  if (there) return false;
  CCTL_CHECK(writeSealed(recordPath(manifest.service, manifest.version), "release",
                         encodeManifest(manifest), Sync::kYes));
  if (::rename(from.c_str(), dirOf(manifest).c_str()) != 0)
    return failErrno(errno, dirOf(manifest));
  CCTL_CHECK(syncDir(paths::serviceDir(root_, manifest.service)));
  releases_[{manifest.service, manifest.version}] = std::make_shared<ReleaseManifest>(manifest);
  return true;
}

}  // namespace cctl::shim
