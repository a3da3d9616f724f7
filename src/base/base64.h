// Base64 (RFC 4648 section 4), as keys and hashed names in known_hosts use it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cctl {

std::string base64Encode(std::string_view bytes, bool padded = true);
// nullopt for anything but the alphabet and its padding; white space is not skipped.
std::optional<std::string> base64Decode(std::string_view text);

}  // namespace cctl
