// Words for a shell on a host whose kind we do not know (POSIX sh, fish, csh).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cctl::ssh {

// One word of POSIX sh that stands for exactly `text` (XCU 2.2.2): safe words as they are, others
// in single quotes. `text` must not contain NUL.
std::string shellQuote(std::string_view text);

// The words of `argv`, quoted and joined by blanks.
std::string shellJoin(const std::vector<std::string>& argv);

// A command line that runs `script` under `sh -c`, whatever the login shell is: only quoting that
// sh, bash, zsh, fish, csh and tcsh read alike is used. Words of `args` become $1, $2 …
// `script` and `args` may contain anything but NUL. Old csh takes words of up to 1 KiB only.
std::string shScript(std::string_view script, const std::vector<std::string>& args = {});

}  // namespace cctl::ssh
