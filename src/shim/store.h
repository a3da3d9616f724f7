// The releases installed on this host: ROOT/services/S/VERSION, immutable.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "shim/release_check.h"
#include "shim/release_manifest.h"

namespace cctl::shim {

class Store;

constexpr size_t kMostSignatures = 64;           // of one release
constexpr size_t kLongestSignature = 16u << 10;  // bytes of one

// One release on its way in: first copies what other versions of the service have already, a slice
// at a time, then takes the bytes of the rest, then moves the whole into place. Destroyed before
// that, it leaves nothing. Must not outlive its store.
class Incoming {
 public:
  ~Incoming();

  // Copies at most about `budget` bytes; true when needed() is final.
  [[nodiscard]] Result<bool> reuse(size_t budget);
  // Indices into the request's files whose contents are to be sent, in this order.
  const std::vector<uint32_t>& needed() const { return needed_; }

  [[nodiscard]] Result<void> feed(std::string_view bytes);
  // Checks that all came, makes it durable and visible. False: the same release was installed
  // meanwhile by another push.
  [[nodiscard]] Result<bool> finish();
  uint64_t received() const { return received_; }

 private:
  friend class Store;
  Incoming(Store& store, ReleaseManifest manifest, std::vector<protocol::ReleaseFile> order);

  [[nodiscard]] Result<void> begin();
  [[nodiscard]] Result<void> makeLinks();
  [[nodiscard]] Result<void> openNext();
  [[nodiscard]] Result<void> openFile(const protocol::ReleaseFile& file);
  [[nodiscard]] Result<void> write(std::string_view bytes);
  [[nodiscard]] Result<void> closeFile(const protocol::ReleaseFile& file);
  [[nodiscard]] Result<bool> copySome(size_t& budget);
  [[nodiscard]] Result<void> seal();
  void takeNeed(uint32_t index);

  Store& store_;
  ReleaseManifest manifest_;
  std::vector<protocol::ReleaseFile> order_;  // as in the request
  std::string dir_;
  uint32_t reuse_next_ = 0;
  Fd source_;  // of the file being copied
  std::vector<uint32_t> needed_;
  size_t need_next_ = 0;
  Fd file_;
  Sha256 sha_;
  uint64_t written_ = 0;  // of the open file
  uint64_t received_ = 0;
  bool finished_ = false;
};

// Not thread-safe; blocks on the disk.
class Store {
 public:
  // `clock` must outlive it. Removes what aborted pushes left.
  Store(std::string root, const Clock& clock);
  [[nodiscard]] Result<void> load();

  // What is wrong with one release's record, as found by load(): told, not fatal.
  const std::vector<std::string>& problems() const { return problems_; }

  // Nothing: it is installed already. kRefused: this version is installed with other content, or
  // the list of files is hostile. kNoSpace: it would not fit.
  [[nodiscard]] Result<std::unique_ptr<Incoming>> push(const protocol::PushRequest& request);

  // Keeps the texts of signatures beside an installed release; those that are there stay, of more
  // than kMostSignatures the newest. kNotFound without the release; kRefused for one that is too
  // long.
  [[nodiscard]] Result<void> keepSignatures(const protocol::SignaturesRequest& request);
  // What was kept, oldest first; a damaged file counts as none. Not judged here: whoever fetches
  // them does.
  std::vector<std::string> signatures(const std::string& service, const std::string& version) const;

  // Takes an installed release off the host. Whether something needs it is the caller's matter.
  [[nodiscard]] Result<void> remove(const std::string& service, const std::string& version);

  const ReleaseManifest* find(const std::string& service, const std::string& version) const;
  // The same for one who keeps it over turns of the loop.
  std::shared_ptr<const ReleaseManifest> share(const std::string& service,
                                               const std::string& version) const;
  std::vector<const ReleaseManifest*> releases(const std::string& service) const;
  std::string dirOf(const ReleaseManifest& manifest) const;
  InodeCache& cache() { return cache_; }

 private:
  friend class Incoming;
  using Key = std::pair<std::string, std::string>;

  std::string recordPath(const std::string& service, const std::string& version) const;
  [[nodiscard]] Result<void> loadRecord(const std::string& name);
  void removeLeftovers();
  [[nodiscard]] Result<void> checkSpace(const ReleaseManifest& manifest) const;
  [[nodiscard]] Result<bool> alreadyThere(const ReleaseManifest& manifest);
  [[nodiscard]] Result<void> adoptUnrecorded(const ReleaseManifest& manifest);
  // An installed file with this content, or "".
  std::string pathOfContent(const std::string& service, const protocol::ReleaseFile& file) const;
  [[nodiscard]] Result<bool> install(const ReleaseManifest& manifest, const std::string& from);

  std::string root_;
  InodeCache cache_;
  std::map<Key, std::shared_ptr<const ReleaseManifest>> releases_;
  std::vector<std::string> problems_;
};

}  // namespace cctl::shim
