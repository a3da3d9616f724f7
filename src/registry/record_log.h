// The file format shared by the registry's stores: a magic line, then records that are appended and
// never changed (PROTOCOL.md, "Record logs").
//
// A record is: length of the payload, 4 bytes big-endian | CRC-32C of the payload, 4 bytes |
// payload. A write that a crash cut short leaves a broken record at the very end: that tail is cut
// off and said. A broken record with anything behind it is corruption, and refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::registry {

struct LogContent {
  std::vector<std::string> records;
  size_t valid_size = 0;  // bytes up to the end of the last whole record
  size_t torn = 0;        // bytes behind it
};

// Pure: `bytes` is the whole file; `name` is for messages.
[[nodiscard]] Result<LogContent> parseLog(std::string_view bytes, const std::string& name);
std::string encodeRecord(std::string_view payload);
std::string_view logMagic();

// An open log. Blocks on the disk. Not thread-safe.
class RecordLog {
 public:
  // Creates it when missing; cuts a torn tail.
  [[nodiscard]] static Result<RecordLog> open(const std::string& path,
                                              std::vector<std::string>& records);
  // Durable (fdatasync(2)) when it returns. After a failure the log refuses further appends: what
  // the file ends with is then not known.
  [[nodiscard]] Result<void> append(std::string_view payload);
  // Replaces the whole file by these records.
  [[nodiscard]] Result<void> rewrite(const std::vector<std::string>& records);

  size_t size() const { return size_; }
  size_t tornBytes() const { return torn_; }

 private:
  std::string path_;
  Fd fd_;
  size_t size_ = 0;
  size_t torn_ = 0;
  bool broken_ = false;
};

}  // namespace cctl::registry
