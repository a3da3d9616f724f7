#include "model/names.h"

#include <algorithm>
#include <charconv>

namespace cctl {
namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isLower(char c) { return c >= 'a' && c <= 'z'; }
bool isUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool isAlnum(char c) { return isDigit(c) || isLower(c) || isUpper(c); }

// The first character is one of [0-9A-Za-z] that `rest` takes too.
template <typename Rest>
bool matches(std::string_view text, size_t longest, Rest rest) {
  return !text.empty() && text.size() <= longest && isAlnum(text.front()) &&
         std::all_of(text.begin(), text.end(), rest);
}

// At most 6 digits without sign or leading zeros; -1 otherwise.
int parseIndex(std::string_view text) {
  if (text.empty() || text.size() > 6 || !std::all_of(text.begin(), text.end(), isDigit)) return -1;
  if (text.size() > 1 && text.front() == '0') return -1;
  int index = -1;
  std::from_chars(text.data(), text.data() + text.size(), index);
  return index;
}

}  // namespace

Result<HostName> parseHostName(std::string_view text) {
  const auto rest = [](char c) { return isAlnum(c) || c == '.' || c == '_' || c == '-'; };
  if (!matches(text, 63, rest) || text.back() == '.')
    return fail(Code::kBadInput,
                "\"{}\" is not a host name: use letters, digits, '.', '_' and '-', at most 63, "
                "beginning with a letter or digit",
                text);
  return HostName(std::string(text));
}

Result<ServiceName> parseServiceName(std::string_view text) {
  const auto rest = [](char c) { return isDigit(c) || isLower(c) || c == '_' || c == '-'; };
  if (!matches(text, 63, rest))
    return fail(Code::kBadInput,
                "\"{}\" is not a service name: use a-z, 0-9, '_' and '-', at most 63, beginning "
                "with a letter or digit",
                text);
  return ServiceName(std::string(text));
}

Result<Version> parseVersion(std::string_view text) {
  const auto rest = [](char c) {
    return isAlnum(c) || c == '.' || c == '_' || c == '+' || c == '-';
  };
  if (!matches(text, 64, rest))
    return fail(Code::kBadInput,
                "\"{}\" is not a version: use letters, digits, '.', '_', '+' and '-', at most 64, "
                "beginning with a letter or digit",
                text);
  if (text == "instances" || text == "specs")
    return fail(Code::kBadInput,
                "\"{}\" cannot be a version: a directory of that name holds other things on the "
                "hosts; choose another",
                text);
  return Version(std::string(text));
}

std::string InstanceId::text() const { return fmt::format("{}/{}", service.str(), index); }

Result<InstanceId> parseInstanceId(std::string_view text) {
  CCTL_TRY(const Target target, parseTarget(text));
  if (!target.index)
    return fail(Code::kBadInput, "\"{}\" names a service; one instance of it is \"{}/0\"", text,
                text);
  return InstanceId{target.service, *target.index};
}

std::string Target::text() const {
  return index ? fmt::format("{}/{}", service.str(), *index) : service.str();
}

bool Target::covers(const InstanceId& instance) const {
  return instance.service == service && (!index || *index == instance.index);
}

Result<Target> parseTarget(std::string_view text) {
  const size_t slash = text.find('/');
  CCTL_TRY(ServiceName service, parseServiceName(text.substr(0, slash)));
  if (slash == std::string_view::npos) return Target{std::move(service), std::nullopt};
  const int index = parseIndex(text.substr(slash + 1));
  if (index < 0)
    return fail(Code::kBadInput,
                "\"{}\" is not an instance: after the '/' comes its number, as in {}/0", text,
                service);
  return Target{std::move(service), index};
}

}  // namespace cctl
