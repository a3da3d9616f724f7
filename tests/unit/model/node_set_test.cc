#include "model/node_set.h"

#include <doctest/doctest.h>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace cctl;

namespace {

std::string expanded(std::string_view text) {
  const auto names = expandNodeSet(text);
  return names ? fmt::format("{}", fmt::join(*names, " ")) : "error: " + names.error().message;
}

}  // namespace

TEST_CASE("node sets expand") {
  const std::pair<const char*, const char*> cases[] = {
      {"host1", "host1"},
      {"host[1-3]", "host1 host2 host3"},
      {"host[1-3,7]", "host1 host2 host3 host7"},
      {"h[08-10]", "h08 h09 h10"},
      {"h[098-101]", "h098 h099 h100 h101"},
      {"a[1-2]b[3-4]", "a1b3 a1b4 a2b3 a2b4"},
      {"h[1-2].lan,db", "h1.lan h2.lan db"},
      {" a , b ", "a b"},
      {"a,a[1],a1,a", "a a1"},
      {"[1-2]", "1 2"},
      {"h[0]", "h0"},
  };
  for (const auto& one : cases) {
    const auto& text = one.first;
    const auto& names = one.second;
    CHECK_MESSAGE(expanded(text) == names, text);
  }
}

TEST_CASE("what is no node set is refused, and nothing is too large") {
  const char* bad[] = {"",
                       ",",
                       "a,",
                       "a,,b",
                       "h[",
                       "h[1",
                       "h]",
                       "h[]",
                       "h[1-]",
                       "h[-1]",
                       "h[3-1]",
                       "h[a-c]",
                       "h[1,]",
                       "h[1--2]",
                       "h[1-2-3]",
                       "h[[1]]",
                       "h[1 -2]",
                       "h[0-99999]",
                       "h[1-9999999999]",
                       "h[1-100][1-101]",
                       "h[1-5000],g[1-5001]",
                       "h[01-5]",
                       "h[1][2]]"};
  for (const char* text : bad) CHECK_MESSAGE(!expandNodeSet(text), text);
  CHECK(expandNodeSet("h[1-10000]")->size() == 10'000);
  std::string bomb = "h";
  for (int i = 0; i < 1000; ++i) bomb += "[0-9]";
  CHECK_FALSE(expandNodeSet(bomb));
}

TEST_CASE("node sets fold") {
  using Names = std::vector<std::string>;
  const std::pair<Names, const char*> cases[] = {
      {{}, ""},
      {{"host1"}, "host1"},
      {{"host1", "host2", "host3", "host5"}, "host[1-3,5]"},
      {{"host10", "host9", "host9"}, "host[9-10]"},
      {{"h08", "h09", "h10"}, "h[08-10]"},
      {{"db", "host1", "host2", "web"}, "db,host[1-2],web"},
      {{"h1.lan", "h2.lan"}, "h[1-2].lan"},
      {{"10.0.0.1", "10.0.0.2"}, "10.0.0.[1-2]"},
      {{"a1", "b1"}, "a1,b1"},
      {{"h1", "h01"}, "h01,h1"},
  };
  for (const auto& one : cases) {
    const auto& names = one.first;
    const auto& text = one.second;
    CHECK(foldNodeSet(names) == text);
  }
}

TEST_CASE("folding and expanding are inverse") {
  for (const char* text : {"host[1-3,5]", "h[08-10]", "a[1-12].x", "db,web[1-2]", "n[1-9,11-20]"}) {
    CHECK(foldNodeSet(*expandNodeSet(text)) == text);
  }
  // Every subset of a few awkward names comes back whole.
  const std::vector<std::string> all{"h1",  "h2", "h01", "h09", "h10",
                                     "h11", "x",  "h2b", "7",   "1234567890123"};
  for (unsigned mask = 1; mask < 1u << all.size(); ++mask) {
    std::vector<std::string> names;
    for (size_t i = 0; i < all.size(); ++i)
      if ((mask & 1u << i) != 0) names.push_back(all[i]);
    auto back = *expandNodeSet(foldNodeSet(names));
    std::sort(back.begin(), back.end());
    std::sort(names.begin(), names.end());
    REQUIRE(back == names);
  }
}

TEST_CASE("numbers in names sort as numbers") {
  CHECK(naturalLess("host2", "host10"));
  CHECK(naturalLess("a", "b"));
  CHECK(naturalLess("a", "a1"));
  CHECK_FALSE(naturalLess("a1", "a1"));
  CHECK((naturalLess("a1", "a01") != naturalLess("a01", "a1")));
}
