// A value, or the text of what went wrong (C++20 has no std::expected).
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace sudoku {

struct Failure {
  std::string why;
};

template <class T>
class [[nodiscard]] OrError {
 public:
  OrError(T value) : held_(std::move(value)) {}            // NOLINT: implicit on purpose
  OrError(Failure failure) : held_(std::move(failure)) {}  // NOLINT: implicit on purpose

  bool ok() const { return std::holds_alternative<T>(held_); }
  explicit operator bool() const { return ok(); }
  // Precondition: ok().
  T& value() { return std::get<T>(held_); }
  const T& value() const { return std::get<T>(held_); }
  // Precondition: !ok().
  const std::string& error() const { return std::get<Failure>(held_).why; }

 private:
  std::variant<T, Failure> held_;
};

}  // namespace sudoku
