#include "shim/sealed_file.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/digest.h"

namespace cctl::shim {
namespace {

constexpr int kFormat = 1;
constexpr std::string_view kBefore = "{\"body\":";

std::string checksum(const Json& body) { return fmt::format("{:08x}", crc32c(dumpJson(body))); }

// Behind the body, as sealText() writes it.
std::string sealBehind(std::string_view kind, uint32_t crc) {
  return fmt::format(",\"crc32c\":\"{:08x}\",\"format\":{},\"kind\":\"{}\"}}\n", crc, kFormat,
                     kind);
}

// What is exactly as sealText() writes it is checked as it stands, without writing it once more.
std::optional<std::string_view> bodyAsWritten(std::string_view text, std::string_view kind) {
  const size_t behind = sealBehind(kind, 0).size();
  if (!text.starts_with(kBefore) || text.size() < kBefore.size() + behind) return std::nullopt;
  const std::string_view body = text.substr(kBefore.size(), text.size() - kBefore.size() - behind);
  if (text.substr(kBefore.size() + body.size()) != sealBehind(kind, crc32c(body)))
    return std::nullopt;
  return body;
}

}  // namespace

std::string sealText(std::string_view kind, std::string_view text) {
  return fmt::format("{}{}{}", kBefore, text, sealBehind(kind, crc32c(text)));
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
  if (const auto body = bodyAsWritten(text, kind)) return parseJson(*body);
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
