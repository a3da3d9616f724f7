#include "core/options.h"

#include <algorithm>

namespace sudoku {
namespace {

constexpr std::size_t kHelpColumn = 26;

std::string leftColumn(const OptionSpec& spec) {
  std::string left = "  " + std::string(spec.name);
  if (!spec.value.empty()) left.append(" ").append(spec.value);
  left.resize(std::max(kHelpColumn, left.size() + 1), ' ');
  return left;
}

}  // namespace

std::optional<std::string> Options::get(std::string_view name) const {
  const auto found = values_.find(std::string(name));
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

OrError<Options> parseOptions(const std::vector<OptionSpec>& specs,
                              const std::vector<std::string>& args) {
  Options options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::size_t equals = args[i].find('=');
    const std::string name = args[i].substr(0, equals);
    const auto spec = std::find_if(specs.begin(), specs.end(),
                                   [&](const OptionSpec& known) { return known.name == name; });
    if (spec == specs.end()) return Failure{"unknown option " + name + "; see --help"};
    const bool inline_value = equals != std::string::npos;
    if (spec->value.empty() && inline_value) return Failure{name + " takes no value"};
    if (spec->value.empty()) {
      options.set(name, "");
    } else if (inline_value) {
      options.set(name, args[i].substr(equals + 1));
    } else if (++i < args.size()) {
      options.set(name, args[i]);
    } else {
      return Failure{name + " needs a value: " + std::string(spec->value)};
    }
  }
  return options;
}

std::string formatOptionHelp(const std::vector<OptionSpec>& specs) {
  std::string help;
  for (const OptionSpec& spec : specs) help += leftColumn(spec).append(spec.help) + "\n";
  return help;
}

}  // namespace sudoku
