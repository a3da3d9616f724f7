// Command lines: `--name VALUE` or `--name=VALUE`, and flags without a value. Pure.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/or_error.h"

namespace sudoku {

struct OptionSpec {
  std::string_view name;   // with its dashes: "--port"
  std::string_view value;  // what to call the value in the help; empty: a flag
  std::string_view help;
};

class Options {
 public:
  bool has(std::string_view name) const { return values_.count(std::string(name)) != 0; }
  // The value last given; the empty text for a flag.
  std::optional<std::string> get(std::string_view name) const;
  void set(std::string_view name, std::string value) { values_[std::string(name)] = value; }

 private:
  std::map<std::string, std::string> values_;
};

// `args` is without the program's name.
OrError<Options> parseOptions(const std::vector<OptionSpec>& specs,
                              const std::vector<std::string>& args);
std::string formatOptionHelp(const std::vector<OptionSpec>& specs);

}  // namespace sudoku
