#include "core/conf.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <set>

namespace sudoku {
namespace {

constexpr std::size_t kMaxConfSize = 1024 * 1024;

// Sets one field from the text; an error says what was expected.
using Setter = std::function<std::optional<std::string>(std::string_view)>;

struct Key {
  std::string_view name;
  Setter set;
  bool repeatable = false;
};

Setter numberKey(std::uint64_t* field, std::uint64_t least, std::uint64_t most) {
  return [=](std::string_view text) -> std::optional<std::string> {
    const auto number = parseNumber(text, least, most);
    if (!number) {
      return "must be a number from " + std::to_string(least) + " to " + std::to_string(most);
    }
    *field = *number;
    return std::nullopt;
  };
}

Setter durationKey(std::chrono::microseconds* field) {
  return [=](std::string_view text) -> std::optional<std::string> {
    const auto duration = parseDuration(text);
    if (!duration) return "must be a duration such as 250ms, 1s or 2m";
    *field = *duration;
    return std::nullopt;
  };
}

Setter logLevelKey(LogLevel* field) {
  return [=](std::string_view text) -> std::optional<std::string> {
    constexpr std::array<std::string_view, 4> kNames{"error", "warn", "info", "debug"};
    const auto* found = std::find(kNames.begin(), kNames.end(), text);
    if (found == kNames.end()) return "must be error, warn, info or debug";
    *field = static_cast<LogLevel>(found - kNames.begin());
    return std::nullopt;
  };
}

Setter textKey(std::string* field) {
  return [=](std::string_view text) -> std::optional<std::string> {
    *field = text;
    return std::nullopt;
  };
}

Setter solverKey(std::vector<HostPort>* field) {
  return [=](std::string_view text) -> std::optional<std::string> {
    const auto address = parseHostPort(text);
    if (!address) return "is wrong: " + address.error();
    if (std::find(field->begin(), field->end(), address.value()) != field->end()) {
      return "names " + std::string(text) + " twice";
    }
    field->push_back(address.value());
    return std::nullopt;
  };
}

std::vector<Key> commonKeys(CommonConf* conf) {
  return {{"max_connections", numberKey(&conf->max_connections, 1, 1'000'000)},
          {"log_level", logLevelKey(&conf->log_level)},
          {"motd", textKey(&conf->motd)},
          {"shutdown_grace", durationKey(&conf->shutdown_grace)}};
}

std::string namesOf(const std::vector<Key>& keys) {
  std::string names;
  for (const Key& key : keys) names.append(names.empty() ? "" : ", ").append(key.name);
  return names;
}

// One pass over a file; collects its errors.
class ConfReader {
 public:
  ConfReader(const std::vector<Key>& keys, std::string_view file_name)
      : keys_(keys), file_name_(file_name) {}

  void read(std::string_view text) {
    for (std::size_t line_number = 1; !text.empty(); ++line_number) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      readLine(trim(text.substr(0, end)), line_number);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  const std::string& errors() const { return errors_; }

 private:
  void readLine(std::string_view line, std::size_t line_number) {
    if (line.empty() || line.front() == '#') return;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) return fail(line_number, "expected `key = value`");
    set(trim(line.substr(0, equals)), trim(line.substr(equals + 1)), line_number);
  }

  void set(std::string_view name, std::string_view value, std::size_t line_number) {
    const auto key = std::find_if(keys_.begin(), keys_.end(),
                                  [&](const Key& known) { return known.name == name; });
    const std::string quoted = "\"" + std::string(name) + "\"";
    if (key == keys_.end()) {
      return fail(line_number, "unknown key " + quoted + "; known are " + namesOf(keys_));
    }
    if (!seen_.insert(std::string(name)).second && !key->repeatable) {
      return fail(line_number, quoted + " is given twice");
    }
    if (const auto error = key->set(value)) {
      fail(line_number, std::string(name) + " " + *error);
    }
  }

  void fail(std::size_t line_number, const std::string& what) {
    if (!errors_.empty()) errors_.push_back('\n');
    errors_.append(file_name_).append(":").append(std::to_string(line_number));
    errors_.append(": ").append(what);
  }

  const std::vector<Key>& keys_;
  std::string_view file_name_;
  std::set<std::string> seen_;
  std::string errors_;
};

// `conf` is what the setters of `keys` write to.
template <class Conf>
OrError<Conf> readInto(const Conf& conf, const std::vector<Key>& keys, std::string_view text,
                       std::string_view file_name) {
  ConfReader reader(keys, file_name);
  reader.read(text);
  if (!reader.errors().empty()) return Failure{reader.errors()};
  return conf;
}

}  // namespace

OrError<SolverConf> parseSolverConf(std::string_view text, std::string_view file_name) {
  SolverConf conf;
  std::vector<Key> keys = commonKeys(&conf);
  keys.push_back({"threads", numberKey(&conf.threads, 0, 256)});
  keys.push_back({"idle_timeout", durationKey(&conf.idle_timeout)});
  return readInto(conf, keys, text, file_name);
}

OrError<WebConf> parseWebConf(std::string_view text, std::string_view file_name) {
  WebConf conf;
  std::vector<Key> keys = commonKeys(&conf);
  keys.push_back({"solver", solverKey(&conf.solvers), true});
  keys.push_back({"solver_service", textKey(&conf.solver_service)});
  keys.push_back({"connections_per_solver", numberKey(&conf.connections_per_solver, 1, 64)});
  keys.push_back({"max_pending", numberKey(&conf.max_pending, 1, 1'000'000)});
  keys.push_back({"solver_timeout", durationKey(&conf.solver_timeout)});
  keys.push_back({"eject_for", durationKey(&conf.eject_for)});
  keys.push_back({"idle_timeout", durationKey(&conf.idle_timeout)});
  return readInto(conf, keys, text, file_name);
}

OrError<std::string> readConfFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Failure{path + ": cannot be opened: " + std::strerror(errno)};
  std::string text(kMaxConfSize + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return Failure{path + ": cannot be read: " + std::strerror(errno)};
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxConfSize) return Failure{path + ": is larger than 1 MiB"};
  return text;
}

}  // namespace sudoku
