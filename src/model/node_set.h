// Node sets: host[1-3,7], rack[01-10], several brackets, comma lists; as ClusterShell writes them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cctl {

inline constexpr size_t kMaxNodeSet = 10'000;

// "host[1-3],db" → host1 host2 host3 db, in order, without doubles. Zero padding is kept:
// h[08-10] → h08 h09 h10. More than kMaxNodeSet names, a backward range, an unclosed bracket or
// an empty part is kBadInput. The names themselves are not checked.
[[nodiscard]] Result<std::vector<std::string>> expandNodeSet(std::string_view text);

// Splits at commas outside brackets: "a[1,2],b" → "a[1,2]", "b". Parts are trimmed of blanks.
std::vector<std::string> splitNodeSet(std::string_view text);

// The inverse: {host1, host2, host3, host5} → "host[1-3,5]"; sorted, without doubles.
// Names that differ in more than their last number stay apart.
std::string foldNodeSet(std::vector<std::string> names);

// "host2" before "host10".
bool naturalLess(std::string_view a, std::string_view b);

}  // namespace cctl
