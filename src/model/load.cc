#include "model/load.h"

#include <algorithm>
#include <map>

#include "base/digest.h"
#include "model/check.h"
#include "model/node.h"
#include "model/reader.h"
#include "model/utf8.h"

namespace cctl {
namespace {

constexpr std::string_view kExtensions[] = {".yaml", ".yml", ".json"};
constexpr size_t kMaxFiles = 2'000;  // in one directory

bool endsWith(std::string_view text, std::string_view end) {
  return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

bool isDocument(std::string_view name) {
  return std::any_of(std::begin(kExtensions), std::end(kExtensions),
                     [&](std::string_view extension) { return endsWith(name, extension); });
}

// What editors and version control leave behind.
bool isLeftover(std::string_view name) {
  return name[0] == '.' || name[0] == '#' || endsWith(name, "~") || endsWith(name, ".bak") ||
         endsWith(name, ".orig") || endsWith(name, ".swp");
}

class Loader {
 public:
  Loader(const FileSource& files, const std::string& dir) : files_(files), dir_(dir) {
    while (dir_.size() > 1 && dir_.back() == '/') dir_.pop_back();
    if (dir_.empty()) dir_ = ".";
  }

  LoadedInventory load() {
    inventory_.directory = dir_;
    loadCluster();
    loadServices();
    loadTemplates();
    // A half-read cluster makes every name in the services look unknown.
    if (cluster_read_) checkInventory(inventory_, problems_, warnings_);
    LoadedInventory loaded;
    loaded.problems = problems_.sorted();
    loaded.warnings = warnings_.sorted();
    if (loaded.problems.empty()) loaded.inventory = std::move(inventory_);
    return loaded;
  }

 private:
  std::string path(std::string_view name) const { return fmt::format("{}/{}", dir_, name); }

  void loadCluster() {
    std::vector<std::string> found;
    for (const std::string_view extension : kExtensions) {
      const std::string candidate = path("cluster") + std::string(extension);
      const auto text = files_.read(candidate);
      if (!text && text.error().code == Code::kNotFound) continue;
      found.push_back(candidate);
      if (found.size() == 1) readClusterFile(candidate, text);
    }
    if (found.empty())
      problems_.add({dir_, 0, 0}, "there is no cluster.yaml in this directory",
                    "write one with `clusterctl init`, or name another directory with -i");
    if (found.size() > 1)
      problems_.add({found[1], 0, 0}, fmt::format("{} is there too", found[0]), "remove one");
  }

  void readClusterFile(const std::string& file, const Result<std::string>& text) {
    if (!text) return addReadError(file, text.error());
    Node node;
    const size_t before = problems_.size();
    const bool whole = parseYaml(*text, file, node, problems_);
    if (!whole && !node.isMap()) return;
    readCluster(node, dir_, inventory_, problems_);
    cluster_read_ = problems_.size() == before;
  }

  void addReadError(const std::string& file, const Error& error) {
    std::string message = error.message;
    if (message.compare(0, file.size() + 2, file + ": ") == 0) message.erase(0, file.size() + 2);
    const bool says_what_to_do = message.find("; ") != std::string::npos;
    problems_.add({file, 0, 0}, printable(message),
                  says_what_to_do ? "" : "make it a file that can be read");
  }

  // Names in a directory that may be missing.
  std::vector<std::string> list(const std::string& dir) {
    auto names = files_.list(dir);
    if (!names) {
      if (names.error().code != Code::kNotFound) addReadError(dir, names.error());
      return {};
    }
    if (names->size() > kMaxFiles) {
      problems_.add({dir, 0, 0}, fmt::format("more than {} files", kMaxFiles), "split it up");
      names->resize(kMaxFiles);
    }
    names->erase(std::remove_if(names->begin(), names->end(), isLeftover), names->end());
    return *names;
  }

  void loadServices() {
    for (const std::string& name : list(path("services"))) {
      const std::string file = path("services/" + name);
      if (isDocument(name))
        loadService(file);
      else
        warnings_.add({file, 0, 0}, "not read: its name does not end in .yaml, .yml or .json",
                      "rename or remove it");
    }
  }

  void loadService(const std::string& file) {
    const auto text = files_.read(file);
    if (!text) return addReadError(file, text.error());
    Node node;
    if (!parseYaml(*text, file, node, problems_) && !node.isMap()) return;
    auto manifest = readManifest(node, problems_);
    if (!manifest) return;
    const ServiceName name = manifest->service;
    const auto [other, fresh] = inventory_.services.emplace(name, std::move(*manifest));
    if (!fresh)
      problems_.add(node.find("service")->where(),
                    fmt::format("service {} is in {} already", name, other->second.where.file),
                    "rename or remove one");
  }

  void loadTemplates() {
    for (const std::string& name : list(path("templates"))) {
      const std::string file = path("templates/" + name);
      auto text = files_.read(file);
      if (!text) {
        addReadError(file, text.error());
        continue;
      }
      if (const auto bad = findBadByte(*text))
        problems_.add({file, bad->line, bad->column},
                      fmt::format("byte 0x{:02X} {}", bad->byte,
                                  bad->control ? "is a control character" : "is not UTF-8"),
                      bad->control ? "take it out" : "save the file as UTF-8");
      inventory_.templates[name] = Template{name, std::move(*text), {file, 0, 0}};
    }
  }

  const FileSource& files_;
  std::string dir_;
  Inventory inventory_;
  Problems problems_;
  Problems warnings_;
  bool cluster_read_ = false;
};

// Passes on, and remembers what was read.
class DigestedFiles final : public FileSource {
 public:
  DigestedFiles(const FileSource& files, std::string dir) : files_(files), dir_(std::move(dir)) {}

  [[nodiscard]] Result<std::string> read(const std::string& path) const override {
    auto text = files_.read(path);
    if (text) digests_[path.substr(dir_.size())] = sha256Hex(*text);
    return text;
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& dir) const override {
    return files_.list(dir);
  }

  std::string digest() const {
    std::string all;
    for (const auto& [path, digest] : digests_) all += digest + "  " + path + "\n";
    return sha256Hex(all);
  }

 private:
  const FileSource& files_;
  const std::string dir_;
  mutable std::map<std::string, std::string> digests_;  // by path below dir_
};

}  // namespace

LoadedInventory loadInventory(const FileSource& files, const std::string& dir) {
  const DigestedFiles digested(files, dir);
  LoadedInventory loaded = Loader(digested, dir).load();
  if (loaded.inventory) loaded.inventory->digest = digested.digest();
  return loaded;
}

Result<Inventory> loadInventoryOrError(const FileSource& files, const std::string& dir,
                                       std::vector<Problem>* warnings) {
  LoadedInventory loaded = loadInventory(files, dir);
  if (warnings != nullptr) *warnings = loaded.warnings;
  if (!loaded.ok()) return fail(toError(loaded.problems));
  return std::move(*loaded.inventory);
}

}  // namespace cctl
