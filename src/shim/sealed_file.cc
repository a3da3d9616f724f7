#include "shim/sealed_file.h"

#include <nlohmann/json.hpp>

#include "base/digest.h"

namespace cctl::shim {
namespace {

constexpr int kFormat = 1;

std::string checksum(const Json& body) { return fmt::format("{:08x}", crc32c(dumpJson(body))); }

}  // namespace

std::string sealText(std::string_view kind, std::string_view text) {
  return fmt::format("{{\"body\":{},\"crc32c\":\"{:08x}\",\"format\":{},\"kind\":\"{}\"}}\n", text,
                     crc32c(text), kFormat, kind);
}

Result<void> writeSealed(const std::string& path, std::string_view kind, const Json& body,
                         Sync sync, mode_t mode) {
  return replaceFile(path, sealText(kind, dumpJson(body)), mode, sync);
}

Result<Json> readSealed(const std::string& path, std::string_view kind) {
  CCTL_TRY(const std::string text, readFile(path));
  return unsealText(text, kind, path);
}

Result<Json> unsealText(std::string_view text, std::string_view kind, const std::string& path) {
  auto json = parseJson(text);
  if (!json) return fail(json.error().context(path));
  const auto format = json->find("format");
  const auto body = json->find("body");
  const auto crc = json->find("crc32c");
  if (!json->is_object() || format == json->end() || !format->is_number_integer() ||
      body == json->end() || crc == json->end())
    return fail(Code::kCorrupt, "{}: not a file of the shim", path);
  if (format->get<int>() > kFormat)
    return fail(Code::kRefused, "{}: written by a newer shim (format {}); upgrade the shim", path,
                format->get<int>());
  const auto its_kind = json->find("kind");
  if (its_kind == json->end() || *its_kind != kind || *crc != checksum(*body))
    return fail(Code::kCorrupt, "{}: its checksum does not hold", path);
  return *body;
}

}  // namespace cctl::shim
