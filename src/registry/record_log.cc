#include "registry/record_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/digest.h"
#include "base/file.h"

namespace cctl::registry {
namespace {

constexpr size_t kHeadSize = 8;
constexpr size_t kLogLimit = 256u << 20;

void appendNumber(std::string& bytes, uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<char>((number >> shift) & 255u));
}

uint32_t numberAt(std::string_view bytes) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = (number << 8) | static_cast<unsigned char>(bytes[i]);
  return number;
}

// Whether a broken record at `rest` can be what a crash left: nothing stands behind it, or only the
// zeros of blocks that were never written.
bool isTornTail(std::string_view rest) {
  if (rest.size() < kHeadSize) return true;
  const size_t length = numberAt(rest);
  return length >= rest.size() - kHeadSize ||
         rest.find_first_not_of('\0') == std::string_view::npos;
}

bool isWhole(std::string_view rest) {
  if (rest.size() < kHeadSize) return false;
  const size_t length = numberAt(rest);
  if (length == 0 || length > rest.size() - kHeadSize) return false;
  return crc32c(rest.substr(kHeadSize, length)) == numberAt(rest.substr(4));
}

}  // namespace

std::string_view logMagic() { return "clusterctl log 1\n"; }

std::string encodeRecord(std::string_view payload) {
  std::string bytes;
  appendNumber(bytes, static_cast<uint32_t>(payload.size()));
  appendNumber(bytes, crc32c(payload));
  bytes.append(payload);
  return bytes;
}

Result<LogContent> parseLog(std::string_view bytes, const std::string& name) {
  const std::string_view magic = logMagic();
  if (bytes.size() < magic.size() && magic.substr(0, bytes.size()) == bytes)
    return LogContent{{}, 0, bytes.size()};
  if (bytes.substr(0, magic.size()) != magic)
    return fail(Code::kCorrupt, "{}: not a log of a format that this build knows", name);
  LogContent content;
  size_t at = magic.size();
  while (at < bytes.size() && isWhole(bytes.substr(at))) {
    const size_t length = numberAt(bytes.substr(at));
    content.records.emplace_back(bytes.substr(at + kHeadSize, length));
    at += kHeadSize + length;
  }
  if (at < bytes.size() && !isTornTail(bytes.substr(at)))
    return fail(
        Code::kCorrupt,
        "{}: the record at byte {} is damaged and others follow it; never put back an older copy: "
        "remove its directory, start the shim anew, and 'clusterctl registry members replace' "
        "this host",
        name, at);
  content.valid_size = at;
  content.torn = bytes.size() - at;
  return content;
}

Result<RecordLog> RecordLog::open(const std::string& path, std::vector<std::string>& records) {
  if (!exists(path)) CCTL_CHECK(replaceFile(path, logMagic(), 0600));
  CCTL_TRY(const std::string bytes, readFile(path, kLogLimit));
  CCTL_TRY(LogContent content, parseLog(bytes, path));
  if (content.valid_size == 0) {
    CCTL_CHECK(replaceFile(path, logMagic(), 0600));
    content.valid_size = logMagic().size();
  }
  RecordLog log;
  log.path_ = path;
  CCTL_TRY(log.fd_, openFile(path, O_WRONLY | O_APPEND));
  if (::ftruncate(log.fd_.get(), static_cast<off_t>(content.valid_size)) != 0)
    return failErrno(errno, path);
  log.size_ = content.valid_size;
  log.torn_ = content.torn;
  records = std::move(content.records);
  return log;
}

Result<void> RecordLog::append(std::string_view payload) {
  if (broken_)
    return fail(Code::kCorrupt, "{}: an earlier write failed; restart the shim to read it afresh",
                path_);
  const std::string bytes = encodeRecord(payload);
  auto written = writeAll(fd_.get(), bytes);
  if (written && ::fdatasync(fd_.get()) != 0) written = failErrno(errno, "fdatasync");
  if (!written) {
    // A disk that is full leaves part of the record: cut it, so that the log stays usable.
    broken_ = ::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0 ||
              written.error().code != Code::kNoSpace;
    return fail(written.error().context(path_));
  }
  size_ += bytes.size();
  return {};
}

Result<void> RecordLog::rewrite(const std::vector<std::string>& records) {
  std::string bytes(logMagic());
  for (const std::string& record : records) bytes += encodeRecord(record);
  CCTL_CHECK(replaceFile(path_, bytes, 0600));
  CCTL_TRY(fd_, openFile(path_, O_WRONLY | O_APPEND));
  size_ = bytes.size();
  broken_ = false;
  return {};
}

}  // namespace cctl::registry
