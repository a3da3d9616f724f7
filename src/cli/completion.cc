#include "cli/completion.h"

#include <algorithm>
#include <optional>

#include "model/placement.h"
#include "model/signals.h"

namespace cctl::cli {
namespace {

// What the words of a line mean so far.
class Line {
 public:
  Line(const CommandShape& shape, const std::vector<std::string>& words) : path_{&shape} {
    for (size_t i = 0; i + 1 < words.size(); ++i) take(words[i]);
    if (!words.empty()) current_ = words.back();
    // Bash has "--limit=host1" as three words.
    if (wants_value_ && current_ == "=") current_.clear();
  }

  const CommandShape& command() const { return *path_.back(); }
  const std::string& current() const { return current_; }
  bool separated() const { return separated_; }
  // That the current word is the value of.
  const OptionShape* wantsValue() const { return wants_value_; }
  const std::vector<std::string>& arguments() const { return arguments_; }
  const std::string& inventory() const { return inventory_; }

  const OptionShape* findOption(const std::string& name) const {
    for (const CommandShape* one : path_)
      for (const OptionShape& option : one->options)
        if (std::find(option.names.begin(), option.names.end(), name) != option.names.end())
          return &option;
    return nullptr;
  }

  std::vector<const OptionShape*> options() const {
    std::vector<const OptionShape*> all;
    for (auto one = path_.rbegin(); one != path_.rend(); ++one)
      for (const OptionShape& option : (*one)->options) all.push_back(&option);
    return all;
  }

 private:
  void take(const std::string& word) {
    if (wants_value_) return takeValue(word);
    if (separated_ || word.empty() || word[0] != '-') return takeWord(word);
    if (word == "--") {
      separated_ = true;
      return;
    }
    const size_t equals = word.find('=');
    const OptionShape* option = findOption(word.substr(0, equals));
    if (!option || !option->takes_value) return;
    wants_value_ = option;
    if (equals != std::string::npos) takeValue(word.substr(equals + 1));
  }

  void takeValue(const std::string& word) {
    if (word == "=") return;
    if (wants_value_->names.back() == "--inventory") inventory_ = word;
    wants_value_ = nullptr;
  }

  void takeWord(const std::string& word) {
    const auto& children = command().children;
    const auto child = std::find_if(children.begin(), children.end(),
                                    [&](const CommandShape& one) { return one.name == word; });
    if (!separated_ && arguments_.empty() && child != children.end())
      path_.push_back(&*child);
    else
      arguments_.push_back(word);
  }

  std::vector<const CommandShape*> path_;  // from the program to the command
  std::vector<std::string> arguments_;
  std::string current_, inventory_;
  const OptionShape* wants_value_ = nullptr;
  bool separated_ = false;
};

class Completer {
 public:
  Completer(const CommandShape& shape, const std::vector<std::string>& words,
            const CompletionNames& names)
      : line_(shape, words), names_(names), typed_(line_.current()) {}

  Completion complete() {
    if (const OptionShape* option = line_.wantsValue())
      addValue(*option);
    else if (!line_.separated() && !typed_.empty() && typed_[0] == '-')
      addOptions();
    else
      addWord();
    return std::move(found_);
  }

 private:
  void add(const std::string& word, const std::string& help = {}) {
    if (word.compare(0, typed_.size(), typed_) == 0)
      found_.candidates.push_back({before_ + word, help});
  }

  void addOptions() {
    const size_t equals = typed_.find('=');
    const OptionShape* option = line_.findOption(typed_.substr(0, equals));
    if (equals != std::string::npos && option && option->takes_value) {
      before_ = typed_.substr(0, equals + 1);
      typed_ = typed_.substr(equals + 1);
      return addValue(*option);
    }
    for (const OptionShape* one : line_.options())
      for (const std::string& name : one->names)
        if (name.compare(0, 2, "--") == 0 || typed_ == name) add(name, one->help);
  }

  void addValue(const OptionShape& option) {
    for (const std::string& choice : option.choices) add(choice);
    const std::string& name = option.names.back();
    if (name == "--limit") addHosts(true);
    if (name == "--host" || name == "--from" || name == "--to" || name == "--add") addHosts(false);
    if (name == "--version" && !line_.arguments().empty())
      addVersions(line_.arguments().front().substr(0, line_.arguments().front().find('/')));
    if (name == "--inventory" || name == "--evidence" || name == "--fetch")
      found_.kind = WordKind::kDirectories;
    if (name == "--plan" || name == "--out" || name == "--key" || name == "--signature")
      found_.kind = WordKind::kFiles;
  }

  void addWord() {
    const CommandShape& command = line_.command();
    if (line_.arguments().empty() && !line_.separated())
      for (const CommandShape& child : command.children) add(child.name, child.summary);
    const size_t index = line_.arguments().size();
    if (index < command.arguments.size())
      addArgument(command.arguments[index].name);
    else if (!command.arguments.empty() && command.arguments.back().many)
      addArgument(command.arguments.back().name);
  }

  void addArgument(const std::string& name) {
    if (name == "SERVICE" || name == "NAME") addServices();
    if (name == "TARGET") addServices(), addInstances();
    if (name == "VERSION" && !line_.arguments().empty()) addVersions(line_.arguments().front());
    if (name == "HOST" || name == "BY") addHosts(false);
    if (name == "HOSTS") addHosts(true);
    if (name == "SIGNAL")
      for (const std::string& signal : signalNames()) add(signal);
    if (name == "DIR") found_.kind = WordKind::kDirectories;
    if (name == "FILE" || name == "PATH" || name == "CMD") found_.kind = WordKind::kFiles;
  }

  void addServices() {
    if (names_.inventory == nullptr) return;
    for (const auto& [service, manifest] : names_.inventory->services) add(service.str());
  }

  // Once the service stands there: of many instances nobody wants a list.
  void addInstances() {
    const size_t slash = typed_.find('/');
    if (names_.inventory == nullptr || slash == std::string::npos) return;
    const Manifest* manifest = names_.inventory->findService(ServiceName(typed_.substr(0, slash)));
    if (manifest == nullptr) return;
    const int count = instanceCount(*names_.inventory, *manifest);
    for (int i = 0; i < count; ++i) add(fmt::format("{}/{}", manifest->service, i));
  }

  void addHosts(bool groups) {
    if (names_.inventory == nullptr) return;
    for (const HostName& host : names_.inventory->host_order) add(host.str());
    for (const auto& [group, hosts] : names_.inventory->groups)
      if (groups) add(group, fmt::format("group of {} hosts", hosts.size()));
  }

  void addVersions(const std::string& service) {
    if (!names_.versions) return;
    for (const std::string& version : names_.versions(service)) add(version);
  }

  const Line line_;
  const CompletionNames& names_;
  std::string typed_;
  std::string before_;  // "--limit=" of "--limit=ho"
  Completion found_;
};

constexpr const char* kBash =
    R"script(# bash completion for clusterctl; load with: source <(clusterctl completion bash)
_clusterctl() {
  local program=${COMP_WORDS[0]} word help
  [[ $program == "~/"* ]] && program=$HOME/${program#"~/"}
  COMPREPLY=()
  while IFS=$'\t' read -r word help; do
    case $word in
      :files) compopt -o default ;;
      :dirs) compopt -o dirnames ;;
      *) COMPREPLY+=("$word") ;;
    esac
  done < <("$program" completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _clusterctl clusterctl
)script";

constexpr const char* kZsh = R"script(#compdef clusterctl
# zsh completion for clusterctl; load with: source <(clusterctl completion zsh)
_clusterctl() {
  local word help
  local -a candidates
  while IFS=$'\t' read -r word help; do
    case $word in
      :files) _files ;;
      :dirs) _files -/ ;;
      *) candidates+=("${word//:/\\:}${help:+:$help}") ;;
    esac
  done < <("${words[1]/#\~\//$HOME/}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  (( ${#candidates} )) && _describe -V clusterctl candidates
}
if [[ $funcstack[1] == _clusterctl ]]; then
  _clusterctl "$@"
else
  compdef _clusterctl clusterctl
fi
)script";

constexpr const char* kFish =
    R"script(# fish completion for clusterctl; load with: clusterctl completion fish | source
function __clusterctl_words
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] completion words -- $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':dirs'
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c clusterctl -f -a '(__clusterctl_words)'
)script";

}  // namespace

Completion complete(const CommandShape& shape, const std::vector<std::string>& words,
                    const CompletionNames& names) {
  return Completer(shape, words, names).complete();
}

std::string inventoryAmong(const CommandShape& shape, const std::vector<std::string>& words,
                           const std::string& otherwise) {
  const Line line(shape, words);
  return line.inventory().empty() ? otherwise : line.inventory();
}

std::string completionText(const Completion& completion) {
  std::string text;
  for (const Candidate& candidate : completion.candidates)
    text += candidate.word + (candidate.help.empty() ? "" : "\t" + candidate.help) + "\n";
  if (completion.kind == WordKind::kFiles) text += ":files\n";
  if (completion.kind == WordKind::kDirectories) text += ":dirs\n";
  return text;
}

std::string completionScript(Shell shell) {
  switch (shell) {
    case Shell::kBash:
      return kBash;
    case Shell::kZsh:
      return kZsh;
    case Shell::kFish:
      break;
  }
  return kFish;
}

}  // namespace cctl::cli
