// The local store of releases: `releases:` of cluster.yaml.
//
//   STORE/SERVICE/VERSION/files/…        the release as it will stand on hosts; 0444 and 0555
//   STORE/SERVICE/VERSION/SHA256SUMS     cd files && sha256sum -c ../SHA256SUMS
//   STORE/SERVICE/VERSION/release.json   what it is and needs (release_json.h)
//   STORE/SERVICE/VERSION/SHA256SUMS.sig, signatures/NAME.sig   who signed it off (sign_off.h): the
//                                        first is where `ssh-keygen -Y sign` puts its own
//   STORE/SERVICE/.adding-TAG/           one on its way in: renamed to VERSION when it is all there
//   STORE/.lock                          flock(2): shared while adding, exclusive while cleaning up
//
// SHA256SUMS begins with a line that sha256sum takes for a comment and that names service, version
// and the digest of the whole, so that what is signed is this version of this service, with its
// links and executable bits.
//
// A version is there as a whole or not at all, and never changes; signatures are added beside it.
// Several processes may add at once; of two that add one version, one wins and the other compares.
// Everything here blocks on the disk. A store object holds no state but its path: threads may share
// it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "model/release_info.h"
#include "release/sign_off.h"
#include "release/source_tree.h"

namespace cctl::release {

struct AddOptions {
  WallTime added{};                     // recorded as the time of adding
  const CancelToken* cancel = nullptr;  // looked at between blocks of files
  bool dry_run = false;                 // says what it would add, and writes nothing
};

struct AddOutcome {
  ReleaseInfo release;
  bool already = false;               // the same content was there: nothing was changed
  std::vector<std::string> warnings;  // one line each, for people
};

struct StoreListing {
  std::vector<ReleaseInfo> releases;  // by service, then version ("1.9" before "1.10")
  std::vector<Error> problems;        // releases that cannot be read; each says which
};

class ReleaseStore {
 public:
  // The directory need not exist: add() makes it, to the others it is empty.
  explicit ReleaseStore(std::string directory) : directory_(std::move(directory)) {}

  const std::string& directory() const { return directory_; }

  // What scanSource() finds at `path` becomes the release. kRefused when the version is there with
  // other content, naming what differs; kBadInput for what cannot be a release (mixed machines,
  // damaged programs, see scanSource()); kCorrupt when the store's copy was changed by hand;
  // kNoSpace; kCancelled. After any error the store holds what it held before.
  [[nodiscard]] Result<AddOutcome> add(const ServiceName& service, const Version& version,
                                       const std::string& path, const AddOptions& options) const;

  // All releases, or those of one service.
  [[nodiscard]] Result<StoreListing> list(const std::optional<ServiceName>& service = {}) const;

  // kNotFound, naming the versions there are; kCorrupt for release.json or SHA256SUMS that
  // clusterctl did not write so. The files themselves are check()'s matter.
  [[nodiscard]] Result<ReleaseInfo> load(const ServiceName& service, const Version& version) const;

  // A regular file's content. kCorrupt when it is not there in the size recorded.
  [[nodiscard]] Result<Fd> openFile(const ReleaseInfo& release, const FileEntry& entry) const;

  // Reads everything again: "bin/x: content differs", "lib/y: not of this release"; empty: exact.
  [[nodiscard]] Result<std::vector<std::string>> check(const ReleaseInfo& release) const;

  // The bytes that are signed: SHA256SUMS of a release that load() returned.
  static std::string sums(const ReleaseInfo& release);

  // Every signature file, readable as one or not; none when nobody signed.
  [[nodiscard]] Result<std::vector<StoredSignature>> signatures(const ReleaseInfo& release) const;

  // Keeps a signature beside the others and returns its name; one by the same key is replaced. Not
  // judged here.
  [[nodiscard]] Result<std::string> addSignature(const ReleaseInfo& release,
                                                 const std::string& text) const;

  // Takes a version away, signatures and all; one that is not there is fine.
  [[nodiscard]] Result<void> remove(const ServiceName& service, const Version& version) const;

  // STORE/SERVICE/VERSION/files
  std::string filesDirectory(const ServiceName& service, const Version& version) const;

 private:
  // Copies, then publishes by a rename; compares when another process was quicker.
  Result<AddOutcome> bringIn(const ServiceName& service, const Version& version,
                             const std::string& path, const SourceTree& tree,
                             const AddOptions& options) const;
  // `ours` against the release that is there.
  Result<AddOutcome> compare(const ServiceName& service, const Version& version,
                             const ReleaseInfo& ours, std::vector<std::string> warnings) const;
  std::string serviceDirectory(const ServiceName& service) const;
  std::string releaseDirectory(const ServiceName& service, const Version& version) const;

  std::string directory_;
};

}  // namespace cctl::release
