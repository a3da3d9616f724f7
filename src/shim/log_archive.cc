#include "shim/log_archive.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr std::string_view kRotated = ".log";
constexpr std::string_view kArchived = ".log.gz";
constexpr std::string_view kUnfinished = ".gz-unfinished";

struct GzClose {
  void operator()(gzFile_s* file) const { ::gzclose(file); }
};
using Gz = std::unique_ptr<gzFile_s, GzClose>;

Result<void> compressInto(int from, int to) {
  const int copy = ::fcntl(to, F_DUPFD_CLOEXEC, 3);  // gzclose() closes its own
  Gz gz(copy < 0 ? nullptr : ::gzdopen(copy, "wb6"));
  if (!gz) return failErrno(ENOMEM, "gzip");
  std::array<char, 64u << 10> buffer;
  for (;;) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, "log");
    if (got == 0) break;
    if (::gzwrite(gz.get(), buffer.data(), static_cast<unsigned>(got)) != got)
      return failErrno(errno == 0 ? EIO : errno, "gzip");
  }
  if (::gzclose(gz.release()) != Z_OK) return failErrno(errno == 0 ? EIO : errno, "gzip");
  return {};
}

}  // namespace

std::string archiveName(const std::string& rotated, uint64_t inode) {
  return fmt::format("{}-{}{}", rotated.substr(0, rotated.size() - kRotated.size()), inode,
                     kArchived);
}

uint64_t archivedInode(std::string_view name) {
  if (!name.ends_with(kArchived)) return 0;
  name.remove_suffix(kArchived.size());
  const size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return 0;
  uint64_t inode = 0;
  const char* end = name.data() + name.size();
  return std::from_chars(name.data() + dash + 1, end, inode).ptr == end ? inode : 0;
}

Result<void> archive(const std::string& dir, const std::string& rotated) {
  ::setpriority(PRIO_PROCESS, 0, 19);  // in a process of its own: services come first
  CCTL_TRY(const Fd place, openFile(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const Fd from(::openat(place.get(), rotated.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!from || ::fstat(from.get(), &info) != 0) return failErrno(errno, rotated);
  const std::string unfinished = rotated + std::string(kUnfinished);
  ::unlinkat(place.get(), unfinished.c_str(), 0);  // of one that was cut off
  const Fd to(::openat(place.get(), unfinished.c_str(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!to) return failErrno(errno, unfinished);
  auto done = compressInto(from.get(), to.get());
  const std::string archived = archiveName(rotated, info.st_ino);
  if (done && ::renameat(place.get(), unfinished.c_str(), place.get(), archived.c_str()) != 0)
    done = failErrno(errno, unfinished);
  const bool was_there =
      ::unlinkat(place.get(), done ? rotated.c_str() : unfinished.c_str(), 0) == 0;
  // A rotation has removed it meanwhile: there are enough newer ones.
  if (done && !was_there) ::unlinkat(place.get(), archived.c_str(), 0);
  return done;
}

struct ArchiveReader::Stream {
  Gz gz;
  uint64_t offset = 0;
};

ArchiveReader::ArchiveReader() = default;
ArchiveReader::~ArchiveReader() = default;
ArchiveReader::ArchiveReader(ArchiveReader&&) noexcept = default;
ArchiveReader& ArchiveReader::operator=(ArchiveReader&&) noexcept = default;

bool ArchiveReader::open(Fd file) {
  stream_ = std::make_unique<Stream>();
  stream_->gz.reset(::gzdopen(file.get(), "rb"));
  if (!stream_->gz) return false;
  [[maybe_unused]] const int given = file.release();  // gzclose() closes it
  return true;
}

std::string ArchiveReader::read(uint64_t offset, size_t limit) {
  if (!stream_ || !stream_->gz) return {};
  gzFile_s* gz = stream_->gz.get();
  if (stream_->offset != offset && ::gzseek(gz, static_cast<z_off_t>(offset), SEEK_SET) < 0)
    return {};
  std::string text(std::min<size_t>(limit, 16u << 20), '\0');
  const int got = ::gzread(gz, text.data(), static_cast<unsigned>(text.size()));
  text.resize(static_cast<size_t>(std::max(got, 0)));
  stream_->offset = offset + text.size();
  return text;
}

}  // namespace cctl::shim
