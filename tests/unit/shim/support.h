// What the shim's unit tests share: a directory of their own, and a loop that a test turns by hand.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <string>

#include "base/file.h"
#include "shim/event_loop.h"

namespace cctl::shim {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/cctl-unit-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~TempDir() {
    const auto removed = removeTree(path_);
    CHECK(removed);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Turns until the condition holds; fails the test after a generous number of turns.
template <typename Condition>
void turnUntil(EventLoop& loop, Condition condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) loop.turn(Millis(5));
  CHECK(condition());
}

}  // namespace cctl::shim
