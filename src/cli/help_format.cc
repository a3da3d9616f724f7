#include "cli/help_format.h"

#include <CLI/CLI.hpp>

namespace cctl::cli {
namespace {

constexpr size_t kColumn = 28;

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(kColumn);
    label("Positionals", "Arguments");
    label("OPTIONS", "options");
    label("SUBCOMMAND", "COMMAND");
    label("SUBCOMMANDS", "COMMAND");
  }

  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string text = make_description(app) + make_usage(app, std::move(name)) +
                       make_positionals(app) + make_subcommands(app, mode) + make_groups(app, mode);
    for (size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text + "\n\n" + footer(app) + "\n";
  }

  // As argparse has it: "--forks FORKS", "--color {auto,always,never}".
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_positional())
      return option->get_expected_max() == CLI::detail::expected_max_vector_size ? " ..." : "";
    const std::string type = option->get_type_name();
    if (type.empty()) return "";  // a flag
    if (const size_t choice = type.find('{'); choice != std::string::npos)
      return " " + type.substr(choice);
    return " " + upper(option->get_lnames().front());
  }

 private:
  static std::string footer(const CLI::App* app) {
    if (app->get_parent() == nullptr)
      return "Global options go before or after the command; each has a variable, e.g. "
             "CLUSTERCTL_LOCK_WAIT.\nHelp for one: clusterctl COMMAND --help, man clusterctl";
    return "Global options: clusterctl --help";
  }
};

}  // namespace

std::shared_ptr<CLI::Formatter> helpFormatter() { return std::make_shared<HelpFormatter>(); }

}  // namespace cctl::cli
