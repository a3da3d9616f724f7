#include "base/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace cctl {
namespace {

constexpr int kMaxDepth = 64;

// The parser's own callback would let duplicate keys pass (the last one wins) and recurse as deep
// as the input says; this watches both.
class Guard {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) problem_ = "nested too deeply";
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys_.empty()) keys_.pop_back();
    if (event == Json::parse_event_t::key && !keys_.empty()) noteKey(parsed);
    if (!problem_.empty()) throw std::invalid_argument(problem_);
    return true;
  }

 private:
  void noteKey(const Json& key) {
    if (!keys_.back().insert(key.get<std::string>()).second)
      problem_ = fmt::format("key \"{}\" stands twice", key.get<std::string>());
  }

  std::vector<std::set<std::string>> keys_;
  std::string problem_;
};

}  // namespace

Result<Json> parseJson(std::string_view text) {
  try {
    Guard guard;
    return Json::parse(text.begin(), text.end(), std::ref(guard));
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "not valid JSON: {}", error.what());
  }
}

std::string dumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dumpJsonPretty(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cctl
