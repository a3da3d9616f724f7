// A screen that is drawn again and again until somebody has seen enough.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/cancel.h"
#include "base/clock.h"

namespace cctl::cli {

// `text` cut to so many rows and columns: whole sequences of SGR and of UTF-8 are kept, each line
// ends the current style. Pure.
std::string cutToScreen(std::string_view text, size_t rows, size_t columns);

// Takes the terminal over (its second screen, no echo, no cursor) and gives it back as it was. One
// at a time in a process.
class LiveScreen {
 public:
  LiveScreen();
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  // Whether there is a terminal that can be drawn on, on standard output.
  static bool isPossible();

  void draw(const std::string& text);
  // Until the time is up or the terminal has another size: true. False after q or when cancelled.
  bool wait(Millis duration, const CancelToken& cancel);

 private:
  std::pair<size_t, size_t> size() const;
};

// Gives the terminal back when a LiveScreen has it. Async-signal-safe: for a process that ends at
// once.
void restoreTerminal();

}  // namespace cctl::cli
