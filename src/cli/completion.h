// What could stand at the end of a command line, and the scripts that ask for it.
#pragma once

#include <string>
#include <vector>

#include "cli/app.h"
#include "model/inventory.h"

namespace cctl::cli {

enum class WordKind {
  kPlain,        // nothing but the candidates
  kFiles,        // any file as well
  kDirectories,  // any directory as well
};

struct Candidate {
  std::string word;
  std::string help;  // a line; may be empty
  friend bool operator==(const Candidate&, const Candidate&) = default;
};

struct Completion {
  std::vector<Candidate> candidates;  // that begin with what was typed
  WordKind kind = WordKind::kPlain;
};

// What of the user's files is offered.
struct CompletionNames {
  const Inventory* inventory = nullptr;  // nullptr: none can be loaded
  // Versions of a service in the local store. Empty: none are known.
  std::function<std::vector<std::string>(const std::string& service)> versions;
};

// `words` are those behind the program's name; the last one is being typed and may be empty. Pure.
Completion complete(const CommandShape& shape, const std::vector<std::string>& words,
                    const CompletionNames& names);

// The value of --inventory among them, if there is one.
std::string inventoryAmong(const CommandShape& shape, const std::vector<std::string>& words,
                           const std::string& otherwise);

// A line "word<TAB>help" for each candidate, then ":files" or ":dirs" where these are meant.
std::string completionText(const Completion& completion);

enum class Shell { kBash, kZsh, kFish };
// The script for a shell; it asks `clusterctl completion words -- WORDS…`.
std::string completionScript(Shell shell);

}  // namespace cctl::cli
