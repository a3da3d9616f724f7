#include "cli/terminal.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace cctl::cli {
namespace {

constexpr Millis kFrame{120};

const char* sequenceOf(Style style) {
  switch (style) {
    case Style::kBold:
      return "\x1b[1m";
    case Style::kDim:
      return "\x1b[2m";
    case Style::kGood:
      return "\x1b[32m";
    case Style::kBad:
      return "\x1b[31m";
    case Style::kWarn:
      return "\x1b[33m";
    case Style::kPlain:
      break;
  }
  return "";
}

// Characters, not bytes: continuation bytes of UTF-8 do not count.
size_t widthOf(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string line(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string text;
  for (size_t i = 0; i < cells.size(); ++i) {
    text += cells[i];
    if (i + 1 < cells.size()) text += std::string(widths[i] - widthOf(cells[i]) + 2, ' ');
  }
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

}  // namespace

std::string Painter::paint(Style style, const std::string& text) const {
  if (!colour_ || style == Style::kPlain) return text;
  return fmt::format("{}{}\x1b[0m", sequenceOf(style), text);
}

std::string printable(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F)
      safe += fmt::format("\\x{:02x}", byte);
    else
      safe += c;
  }
  return safe;
}

void Table::add(std::vector<std::string> row, Style style) {
  for (std::string& cell : row) cell = printable(cell);
  rows_.push_back({std::move(row), style});
}

std::string Table::text(const Painter& painter) const {
  std::vector<size_t> widths(header_.size());
  for (size_t i = 0; i < header_.size(); ++i) widths[i] = widthOf(header_[i]);
  for (const Row& row : rows_)
    for (size_t i = 0; i < row.cells.size(); ++i)
      widths[i] = std::max(widths[i], widthOf(row.cells[i]));
  std::string text = painter.paint(Style::kBold, line(header_, widths)) + "\n";
  for (const Row& row : rows_) text += painter.paint(row.style, line(row.cells, widths)) + "\n";
  return text;
}

Progress::Progress(std::FILE* out, bool live, Painter painter, Verbosity verbosity)
    : out_(out),
      live_(live && verbosity != Verbosity::kQuiet),
      painter_(painter),
      verbosity_(verbosity) {
  if (live_) animator_ = std::thread([this] { animate(); });
}

Progress::~Progress() { finish(); }

void Progress::finish() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    phase_.clear();
  }
  changed_.notify_all();
  if (animator_.joinable()) animator_.join();
}

void Progress::hush() {
  finish();
  const std::lock_guard lock(mutex_);
  hushed_ = true;
}

void Progress::animate() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kFrame, [this] { return stopping_; })) drawLine();
  clearLine();
}

void Progress::clearLine() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

void Progress::drawLine() {
  if (phase_.empty()) return;
  const auto elapsed =
      std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - since_);
  constexpr std::string_view kFrames = "|/-\\";
  const auto turn = static_cast<size_t>(elapsed / kFrame);
  fmt::print(out_, "\r\x1b[K{} {} {}", kFrames[turn % kFrames.size()], phase_.substr(0, 100),
             painter_.paint(Style::kDim, humanDuration(elapsed)));
  std::fflush(out_);
  drawn_ = true;
}

void Progress::onEvent(const ops::OpEvent& event) {
  const std::lock_guard lock(mutex_);
  if (hushed_) return;
  clearLine();
  if (event.kind == ops::OpEventKind::kPhase) {
    phase_ = printable(event.text);
    since_ = std::chrono::steady_clock::now();
  }
  print(event);
}

void Progress::print(const ops::OpEvent& event) {
  using Kind = ops::OpEventKind;
  const bool matters = event.kind == Kind::kWarning || event.kind == Kind::kFailure;
  if (verbosity_ == Verbosity::kQuiet && !matters) return;
  const std::string text = printable(about(event.subject, event.text));
  switch (event.kind) {
    case Kind::kPhase:
      fmt::print(out_, "{}\n", painter_.paint(Style::kBold, text));
      break;
    case Kind::kStep:
      fmt::print(out_, "  {}\n", text);
      break;
    case Kind::kLate:
      fmt::print(out_, "  {}\n", painter_.paint(Style::kWarn, text));
      break;
    case Kind::kWarning:
      fmt::print(out_, "{}\n", painter_.paint(Style::kWarn, "warning: " + text));
      break;
    case Kind::kFailure:
      fmt::print(out_, "{}\n", painter_.paint(Style::kBad, text));
      break;
  }
  for (const std::string& detail : event.details) fmt::print(out_, "    {}\n", printable(detail));
  std::fflush(out_);
}

}  // namespace cctl::cli
