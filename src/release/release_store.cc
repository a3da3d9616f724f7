#include "release/release_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <compare>
#include <filesystem>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/release_tree.h"
#include "release/needs.h"
#include "release/release_json.h"
#include "release/source_tree.h"
#include "release/tree_check.h"

namespace cctl::release {
namespace {

constexpr std::string_view kFiles = "files";
constexpr std::string_view kJsonFile = "release.json";
constexpr std::string_view kLockFile = ".lock";
constexpr std::string_view kSignatureFile = "SHA256SUMS.sig";  // as ssh-keygen names it
constexpr std::string_view kSignatures = "signatures";
constexpr size_t kMaxSignatures = 64;
constexpr std::string_view kAddingPrefix = ".adding-";
// fsync() of this many files one by one is quicker than flushing the whole file system; more are
// not.
constexpr size_t kFewFiles = 64;
// 20,000 files make 6 MB.
constexpr size_t kMaxJson = 64u << 20;

std::string nameOf(const ServiceName& service, const Version& version) {
  return fmt::format("{} {}", service.str(), version.str());
}

// ---- where `path` and the store stand to each other ----

std::string canonical(const std::string& path) {
  std::error_code error;
  const std::filesystem::path full = std::filesystem::weakly_canonical(path, error);
  std::string text = error ? path : full.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool isWithin(const std::string& inner, const std::string& outer) {
  if (inner == outer || outer == "/") return true;
  return inner.size() > outer.size() && inner.starts_with(outer) && inner[outer.size()] == '/';
}

Result<void> checkApart(const std::string& path, const std::string& store) {
  const std::string source = canonical(path);
  const std::string target = canonical(store);
  if (isWithin(source, target))
    return fail(Code::kBadInput, "{} is inside the store {}: add it from where it was built", path,
                store);
  if (isDirectory(path) && isWithin(target, source))
    return fail(Code::kBadInput,
                "{} holds the store {} itself: name the directory with the release's files only",
                path, store);
  return {};
}

// ---- one release on its way in ----

// A directory that is gone again unless keep() is called.
class Incoming {
 public:
  explicit Incoming(std::string path) : path_(std::move(path)) {}
  Incoming(const Incoming&) = delete;
  Incoming& operator=(const Incoming&) = delete;
  ~Incoming() {
    // What is left when this fails is removed by a later add.
    if (!path_.empty()) (void)removeTree(path_);
  }
  const std::string& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

// What processes that died left behind. Only with the lock held exclusively is no other at work.
Result<void> removeLeftovers(const std::string& store) {
  CCTL_TRY(const std::vector<std::string> services, listDir(store));
  for (const std::string& service : services) {
    const std::string directory = paths::join(store, service);
    if (!isDirectory(directory)) continue;
    CCTL_TRY(const std::vector<std::string> names, listDir(directory));
    for (const std::string& name : names)
      if (name.starts_with(kAddingPrefix)) CCTL_CHECK(removeTree(paths::join(directory, name)));
  }
  return {};
}

Result<void> lockFile(int fd, int operation, const std::string& path) {
  while (::flock(fd, operation) != 0)
    if (errno != EINTR) return failErrno(errno, path);
  return {};
}

// Held as long as the descriptor is open; the kernel lets go of it when the process dies.
Result<Fd> lockStore(const std::string& store) {
  const std::string path = paths::join(store, kLockFile);
  CCTL_TRY(Fd fd, openFile(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) CCTL_CHECK(removeLeftovers(store));
  CCTL_CHECK(lockFile(fd.get(), LOCK_SH, path));
  return fd;
}

struct Ingested {
  ReleaseInfo release;
  std::vector<std::string> warnings;
};

void note(const ReadFile& read, Ingested& ingested) {
  const Inspection& found = read.inspection;
  if (found.elf) ingested.release.elf.push_back(*found.elf);
  if (found.script) ingested.release.scripts.push_back(*found.script);
  ingested.warnings.insert(ingested.warnings.end(), found.warnings.begin(), found.warnings.end());
}

Result<void> makeLink(const FileEntry& entry, const std::string& destination) {
  if (::symlink(entry.link_target.c_str(), destination.c_str()) != 0)
    return failErrno(errno, destination);
  return {};
}

// Reads the source and, unless `files` is empty, copies it there.
Result<Ingested> ingest(const std::string& path, const SourceTree& tree, const std::string& files,
                        const CancelToken* cancel) {
  Ingested ingested{{}, tree.warnings};
  for (const SourceFile& file : tree.files) {
    ingested.release.files.push_back(file.entry);
    const std::string target = files.empty() ? "" : paths::join(files, file.entry.path);
    if (!files.empty()) CCTL_CHECK(makeDirs(target.substr(0, target.rfind('/'))));
    if (file.entry.isLink()) {
      if (!files.empty()) CCTL_CHECK(makeLink(file.entry, target));
      continue;
    }
    CCTL_TRY(const ReadFile read, readSource(file, target, cancel));
    ingested.release.files.back().sha256 = read.sha256;
    note(read, ingested);
  }
  CCTL_CHECK(checkUnchanged(path, tree));
  CCTL_CHECK(checkReleaseTree(ingested.release.files));
  CCTL_CHECK(releaseNeeds(ingested.release));
  ingested.release.digest = releaseDigest(ingested.release.files);
  const std::vector<std::string> more = releaseWarnings(ingested.release);
  ingested.warnings.insert(ingested.warnings.end(), more.begin(), more.end());
  return ingested;
}

Result<void> syncFile(const std::string& path) {
  CCTL_TRY(const Fd fd, openFile(path, O_RDONLY | O_NOFOLLOW));
  if (::fsync(fd.get()) != 0) return failErrno(errno, path);
  return {};
}

Result<void> syncEach(const std::string& files, const std::vector<FileEntry>& entries) {
  std::set<std::string> directories = {files};
  for (const FileEntry& entry : entries) {
    const std::string path = paths::join(files, entry.path);
    for (size_t slash = path.rfind('/'); slash > files.size(); slash = path.rfind('/', slash - 1))
      directories.insert(path.substr(0, slash));
    if (!entry.isLink()) CCTL_CHECK(syncFile(path));
  }
  for (const std::string& directory : directories) CCTL_CHECK(syncDir(directory));
  return {};
}

// Before the rename makes it visible, all of it is on the disk.
Result<void> syncIncoming(const std::string& incoming, const std::vector<FileEntry>& entries) {
  const std::string files = paths::join(incoming, kFiles);
  if (entries.size() <= kFewFiles) {
    CCTL_CHECK(syncEach(files, entries));
  } else {
    CCTL_TRY(const Fd fd, openFile(files, O_RDONLY | O_DIRECTORY));
    if (::syncfs(fd.get()) != 0) return failErrno(errno, files);
  }
  return syncDir(incoming);
}

Result<void> writeIncoming(const std::string& incoming, const ReleaseInfo& release) {
  CCTL_CHECK(
      replaceFile(paths::join(incoming, paths::kSumsFile), ReleaseStore::sums(release), 0444));
  CCTL_CHECK(replaceFile(paths::join(incoming, kJsonFile), releaseToJson(release), 0444));
  return syncIncoming(incoming, release.files);
}

// False when another process was quicker.
Result<bool> publish(const std::string& incoming, const std::string& target) {
  // rename(2) puts a directory in the place of an empty one only: a release there is never touched.
  if (::rename(incoming.c_str(), target.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY) return false;
    return failErrno(errno, target);
  }
  const std::string service = target.substr(0, target.rfind('/'));
  CCTL_CHECK(syncDir(service));
  CCTL_CHECK(syncDir(service.substr(0, service.rfind('/'))));
  return true;
}

// ---- versions in order ----

// Takes a number, or else one character, off the front. Sorts: '-' before the end before the rest,
// so that "1.0-rc1" is before "1.0".
struct VersionPart {
  int rank = 1;  // the end
  std::string_view digits;

  static VersionPart take(std::string_view& text) {
    if (text.empty()) return {};
    const char first = text.front();
    if (first < '0' || first > '9') {
      text.remove_prefix(1);
      return {first == '-' ? 0 : first + 2, {}};
    }
    const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
    std::string_view digits = text.substr(0, end);
    text.remove_prefix(end);
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return {'0' + 2, digits};
  }

  friend std::strong_ordering operator<=>(const VersionPart& a, const VersionPart& b) {
    if (a.rank != b.rank) return a.rank <=> b.rank;
    if (a.digits.size() != b.digits.size()) return a.digits.size() <=> b.digits.size();
    return a.digits.compare(b.digits) <=> 0;
  }
};

bool versionBefore(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    const auto order = VersionPart::take(a) <=> VersionPart::take(b);
    if (order != 0) return order < 0;
  }
  return false;
}

bool releaseBefore(const ReleaseInfo& a, const ReleaseInfo& b) {
  if (a.service != b.service) return a.service < b.service;
  return versionBefore(a.version.str(), b.version.str());
}

// Names of directories in `directory` that `parse` takes; what else lies there is not ours.
template <typename T>
Result<std::vector<T>> namesIn(const std::string& directory, Result<T> (*parse)(std::string_view)) {
  std::vector<T> names;
  auto all = listDir(directory);
  if (!all && all.error().code == Code::kNotFound) return names;
  if (!all) return fail(all.error());
  for (const std::string& text : *all)
    if (auto name = parse(text); name && isDirectory(paths::join(directory, text)))
      names.push_back(std::move(*name));
  return names;
}

tl::unexpected<Error> failNotFound(const std::string& service_directory, const std::string& store,
                                   const ServiceName& service, const Version& version) {
  std::vector<std::string> there;
  if (const auto versions = namesIn(service_directory, parseVersion))
    for (const Version& other : *versions) there.push_back(other.str());
  std::sort(there.begin(), there.end(), versionBefore);
  return fail(Code::kNotFound,
              "{} is not in the store {}{}: add it with `clusterctl release add {} {} PATH`",
              nameOf(service, version), store,
              there.empty() ? "" : fmt::format(" (there: {})", firstFew(there, 10)), service.str(),
              version.str());
}

tl::unexpected<Error> failDamaged(const std::string& directory, std::string_view what) {
  return fail(Code::kCorrupt,
              "{}: {}: the store was changed by hand, or written by an older clusterctl; "
              "remove this directory and add the release again from what it was built of",
              directory, what);
}

tl::unexpected<Error> failOther(const ReleaseInfo& stored, const ReleaseInfo& ours) {
  return fail(Code::kRefused,
              "{} is in the store already with other content ({}): a version never changes; give "
              "this one a new version",
              nameOf(stored.service, stored.version),
              firstFew(compareLists(stored.files, ours.files)));
}

}  // namespace

std::string ReleaseStore::serviceDirectory(const ServiceName& service) const {
  return paths::join(directory_, service.str());
}

std::string ReleaseStore::releaseDirectory(const ServiceName& service,
                                           const Version& version) const {
  return paths::join(serviceDirectory(service), version.str());
}

std::string ReleaseStore::filesDirectory(const ServiceName& service, const Version& version) const {
  return paths::join(releaseDirectory(service, version), kFiles);
}

Result<AddOutcome> ReleaseStore::add(const ServiceName& service, const Version& version,
                                     const std::string& path, const AddOptions& options) const {
  CCTL_CHECK(checkApart(path, directory_));
  CCTL_TRY(const SourceTree tree, scanSource(path));
  if (exists(releaseDirectory(service, version))) {
    CCTL_TRY(Ingested ours, ingest(path, tree, "", options.cancel));
    return compare(service, version, ours.release, std::move(ours.warnings));
  }
  if (!options.dry_run) return bringIn(service, version, path, tree, options);
  CCTL_TRY(Ingested ours, ingest(path, tree, "", options.cancel));
  return AddOutcome{std::move(ours.release), false, std::move(ours.warnings)};
}

Result<AddOutcome> ReleaseStore::bringIn(const ServiceName& service, const Version& version,
                                         const std::string& path, const SourceTree& tree,
                                         const AddOptions& options) const {
  CCTL_CHECK(makeDirs(serviceDirectory(service)));
  CCTL_TRY(const Fd lock, lockStore(directory_));
  Incoming incoming(
      paths::join(serviceDirectory(service), std::string(kAddingPrefix) + randomHex(8)));
  const std::string files = paths::join(incoming.path(), kFiles);
  CCTL_CHECK(makeDirs(files));
  CCTL_TRY(Ingested ours, ingest(path, tree, files, options.cancel));
  ours.release.service = service;
  ours.release.version = version;
  ours.release.added = options.added;
  CCTL_CHECK(writeIncoming(incoming.path(), ours.release));
  CCTL_TRY(const bool won, publish(incoming.path(), releaseDirectory(service, version)));
  if (!won) return compare(service, version, ours.release, std::move(ours.warnings));
  incoming.keep();
  return AddOutcome{std::move(ours.release), false, std::move(ours.warnings)};
}

Result<AddOutcome> ReleaseStore::compare(const ServiceName& service, const Version& version,
                                         const ReleaseInfo& ours,
                                         std::vector<std::string> warnings) const {
  CCTL_TRY(ReleaseInfo stored, load(service, version));
  if (stored.digest != ours.digest) return failOther(stored, ours);
  CCTL_TRY(const std::vector<std::string> problems, check(stored));
  if (!problems.empty()) return failDamaged(releaseDirectory(service, version), firstFew(problems));
  return AddOutcome{std::move(stored), true, std::move(warnings)};
}

Result<StoreListing> ReleaseStore::list(const std::optional<ServiceName>& service) const {
  std::vector<ServiceName> services;
  if (service) {
    services.push_back(*service);
  } else {
    CCTL_TRY(services, namesIn(directory_, parseServiceName));
  }
  StoreListing listing;
  for (const ServiceName& name : services) {
    CCTL_TRY(const std::vector<Version> versions, namesIn(serviceDirectory(name), parseVersion));
    for (const Version& version : versions) {
      auto release = load(name, version);
      if (release)
        listing.releases.push_back(std::move(*release));
      else
        listing.problems.push_back(std::move(release.error()));
    }
  }
  std::sort(listing.releases.begin(), listing.releases.end(), releaseBefore);
  return listing;
}

Result<ReleaseInfo> ReleaseStore::load(const ServiceName& service, const Version& version) const {
  const std::string directory = releaseDirectory(service, version);
  if (!exists(directory))
    return failNotFound(serviceDirectory(service), directory_, service, version);
  const auto text = readFile(paths::join(directory, kJsonFile), kMaxJson);
  if (!text && text.error().code != Code::kNotFound) return fail(text.error());
  if (!text) return failDamaged(directory, "no release.json");
  auto release = parseReleaseJson(*text);
  if (!release) return failDamaged(directory, "release.json: " + release.error().message);
  if (release->service != service || release->version != version)
    return failDamaged(directory,
                       "release.json is that of " + nameOf(release->service, release->version));
  const auto sums = readFile(paths::join(directory, paths::kSumsFile), kMaxJson);
  if (!sums && sums.error().code != Code::kNotFound) return fail(sums.error());
  if (!sums || *sums != ReleaseStore::sums(*release))
    return failDamaged(directory, "SHA256SUMS is missing or not that of release.json");
  return release;
}

Result<Fd> ReleaseStore::openFile(const ReleaseInfo& release, const FileEntry& entry) const {
  const std::string path =
      paths::join(filesDirectory(release.service, release.version), entry.path);
  auto fd = cctl::openFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (fd && ::fstat(fd->get(), &info) != 0) return failErrno(errno, path);
  if (fd && S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == entry.size) return fd;
  return failDamaged(releaseDirectory(release.service, release.version),
                     fd ? entry.path + " differs" : fd.error().message);
}

// Out of sight first, under a name that whoever adds next cleans up.
Result<void> ReleaseStore::remove(const ServiceName& service, const Version& version) const {
  const std::string from = releaseDirectory(service, version);
  const std::string aside =
      paths::join(serviceDirectory(service), std::string(kAddingPrefix) + randomHex(8));
  if (::rename(from.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return failErrno(errno, from);
  }
  return removeTree(aside);
}

Result<std::vector<std::string>> ReleaseStore::check(const ReleaseInfo& release) const {
  const std::string directory = releaseDirectory(release.service, release.version);
  CCTL_TRY(std::vector<std::string> problems,
           checkTree(paths::join(directory, kFiles), release.files));
  const auto found = readFile(paths::join(directory, paths::kSumsFile), kMaxJson);
  if (!found || *found != sums(release))
    problems.emplace_back("SHA256SUMS: missing or not that of the release");
  return problems;
}

std::string ReleaseStore::sums(const ReleaseInfo& release) {
  return fmt::format("# clusterctl-release 1 {} {} {}\n{}", release.service, release.version,
                     release.digest, releaseSums(release.files));
}

Result<std::vector<StoredSignature>> ReleaseStore::signatures(const ReleaseInfo& release) const {
  const std::string directory = releaseDirectory(release.service, release.version);
  std::vector<std::string> names;
  if (exists(paths::join(directory, kSignatureFile))) names.emplace_back(kSignatureFile);
  const std::string more = paths::join(directory, kSignatures);
  if (exists(more)) {
    CCTL_TRY(const std::vector<std::string> files, listDir(more));
    for (const std::string& file : files)
      if (file.ends_with(".sig")) names.push_back(paths::join(kSignatures, file));
  }
  if (names.size() > kMaxSignatures)
    return fail(Code::kRefused, "{}: {} signatures: remove all but {}", more, names.size(),
                kMaxSignatures);
  std::vector<StoredSignature> signatures;
  for (const std::string& name : names) {
    // One that cannot be read is no signature, and said to be none.
    auto text = readFile(paths::join(directory, name), kMaxSignatureFile);
    signatures.push_back({name, text ? std::move(*text) : std::string()});
  }
  return signatures;
}

Result<std::string> ReleaseStore::addSignature(const ReleaseInfo& release,
                                               const std::string& text) const {
  CCTL_TRY(const SshSignature signature, parseSshSignature(text));
  const std::string directory = releaseDirectory(release.service, release.version);
  const std::string name =
      paths::join(kSignatures, sha256Hex(signature.key.blob).substr(0, 32) + ".sig");
  CCTL_CHECK(makeDirs(paths::join(directory, kSignatures)));
  CCTL_CHECK(replaceFile(paths::join(directory, name), text, 0644));
  return name;
}

}  // namespace cctl::release
