// Reads JSON (RFC 8259) from front to back without building a tree: what is not asked for costs
// no memory. The first mistake ends it: everything after that fails, and error() says why.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace clusterctl::internal {

class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : text_(text) {}

  enum class Kind { kObject, kArray, kString, kNumber, kTrue, kFalse, kNull, kNone };
  Kind peek();  // of the value that comes next; kNone after a mistake or at the end

  // An object's members: enter, then nextKey until it is false; read or skip each value.
  bool enterObject();
  bool nextKey(std::string* key);
  bool enterArray();
  bool nextItem();

  bool readString(std::string* value);
  bool readUnsigned(std::uint64_t* value);  // a whole number that fits
  bool readBool(bool* value);
  bool skip();  // any value, nested at most kMaxDepth deep

  bool atEnd();  // nothing follows but blanks, and there was no mistake
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }

  static constexpr int kMaxDepth = 64;

 private:
  bool fail(const char* what);
  void blanks();
  bool take(char c);
  bool next(char close);
  bool readHex(unsigned* value);
  bool readEscape(std::string* value);
  bool skipNumber();
  bool skipWord(std::string_view word);

  std::string_view text_;
  std::size_t at_ = 0;
  bool first_ = false;  // inside an object or array of which nothing was read yet
  std::string error_;
};

}  // namespace clusterctl::internal
