// JSON files of the shim that tell when they are torn or altered by a fault:
//   {"body":…,"crc32c":"0123abcd","format":1,"kind":"state"}
// The checksum is over the compact text of `body`. Newer formats are refused, not guessed at.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/json.h"

namespace cctl::shim {

// The text of such a file, and the body of such a text; `where` is for messages.
// `body` is compact JSON with sorted keys, as dumpJson() makes it.
std::string sealText(std::string_view kind, std::string_view body);
[[nodiscard]] Result<Json> unsealText(std::string_view text, std::string_view kind,
                                      const std::string& where);

[[nodiscard]] Result<void> writeSealed(const std::string& path, std::string_view kind,
                                       const Json& body, Sync sync, mode_t mode = 0600);

// kNotFound when there is none; kCorrupt when it does not hold; kRefused for a newer format.
[[nodiscard]] Result<Json> readSealed(const std::string& path, std::string_view kind);

}  // namespace cctl::shim
