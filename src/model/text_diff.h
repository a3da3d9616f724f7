// What changed between two texts, line by line, as `diff -u` writes it. Pure.
#pragma once

#include <string>
#include <string_view>

namespace cctl {

// Empty when they are equal. Three lines around each change. Texts of very many lines that have
// little in common are shown as one taken out and the other put in.
std::string unifiedDiff(std::string_view old_name, std::string_view new_name,
                        std::string_view old_text, std::string_view new_text);

}  // namespace cctl
