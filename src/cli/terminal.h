// Text for people: colours, tables, and the progress of an operation.
#pragma once

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ops/event.h"

namespace cctl::cli {

enum class Style { kPlain, kBold, kDim, kGood, kBad, kWarn };

// Writes SGR sequences only where they are wanted. Bytes from hosts go through printable().
class Painter {
 public:
  explicit Painter(bool colour) : colour_(colour) {}
  std::string paint(Style style, const std::string& text) const;

 private:
  bool colour_;
};

// Control characters (also the escape that starts terminal sequences) as \xNN; newline and tab
// stay.
std::string printable(std::string_view text);

// Columns as wide as their widest cell, two blanks apart; the last one is not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void add(std::vector<std::string> row) { add(std::move(row), Style::kPlain); }
  void add(std::vector<std::string> row, Style style);
  bool empty() const { return rows_.empty(); }
  std::string text(const Painter& painter) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    Style style;
  };
  std::vector<std::string> header_;
  std::vector<Row> rows_;
};

enum class Verbosity { kQuiet, kNormal, kVerbose };

// Shows events on standard error: plain lines, and on a terminal also a last line that lives, with
// what is going on and for how long. Thread-safe.
class Progress final : public ops::EventSink {
 public:
  Progress(std::FILE* out, bool live, Painter painter, Verbosity verbosity);
  ~Progress() override;
  void onEvent(const ops::OpEvent& event) override;
  // Takes the living line away: before results are printed.
  void finish();
  // Shows nothing from now on: another one has the screen, and says what matters.
  void hush();

 private:
  void animate();
  void clearLine();
  void drawLine();
  void print(const ops::OpEvent& event);

  std::FILE* const out_;
  const bool live_;
  const Painter painter_;
  const Verbosity verbosity_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string phase_;
  std::chrono::steady_clock::time_point since_{};
  bool stopping_ = false;
  bool hushed_ = false;
  bool drawn_ = false;
  std::thread animator_;
};

}  // namespace cctl::cli
