// The page that a person sees: web/page.html, with {{VERSION}} and {{HINTS}} to be filled in.
#pragma once

#include <string_view>

namespace sudoku {

extern const std::string_view kPageTemplate;

}  // namespace sudoku
