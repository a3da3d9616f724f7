#include "base/json.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace cctl {
namespace {

constexpr size_t kMaxDepth = 64;

// Builds the value. The library's own builder would let duplicate keys pass (the last one wins),
// and its parser with a callback, which could watch them, takes three times as long.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Json& root) : root_(root) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return refuse("binary"); }  // not of JSON
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    const auto [member, is_new] = open_.back()->emplace(name, nullptr);
    if (!is_new) return refuse(fmt::format("not valid JSON: key \"{}\" stands twice", name));
    member_ = &*member;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "parse error at line 1, column 2: syntax error while parsing value - invalid literal; …"
    const std::string text = jsonProblem(error);
    const size_t reason = text.find(" - ");
    return refuse(fmt::format("not JSON at byte {}: {}", position,
                              reason == std::string::npos ? text : text.substr(reason + 3)));
  }

 private:
  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  template <typename T>
  bool add(T&& value) {
    place(std::forward<T>(value));
    return true;
  }

  template <typename T>
  Json& place(T&& value) {
    Json* const parent = open_.empty() ? nullptr : open_.back();
    if (parent && parent->is_array()) return parent->emplace_back(std::forward<T>(value));
    Json& place = parent ? *member_ : root_;
    place = std::forward<T>(value);
    return place;
  }

  bool open(Json&& empty) {
    if (open_.size() >= kMaxDepth) return refuse("not valid JSON: nested too deeply");
    open_.push_back(&place(std::move(empty)));  // its parent gets no more until it is closed
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  std::vector<Json*> open_;
  Json* member_ = nullptr;  // of the innermost object: what comes next is its value
  std::string problem_;
};

}  // namespace

Result<Json> parseJson(std::string_view text) {
  Json value;
  Builder builder(value);
  if (!Json::sax_parse(text.begin(), text.end(), &builder))
    return fail(Code::kCorrupt, "{}", builder.problem());
  return value;
}

std::string jsonProblem(const std::exception& error) {
  const std::string text = error.what();
  const size_t mark = text.starts_with("[json.exception.") ? text.find("] ") : std::string::npos;
  return mark == std::string::npos ? text : text.substr(mark + 2);
}

std::string dumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dumpJsonPretty(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cctl
