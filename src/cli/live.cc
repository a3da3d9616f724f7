#include "cli/live.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace cctl::cli {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l", kLeave = "\x1b[?25h\x1b[?1049l";

// The one LiveScreen's; a signal handler reads them.
std::atomic<bool> taken{false};
bool has_keys = false;
termios before;

void put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, text.data(), text.size());
    if (put < 0 && errno != EINTR) return;
    if (put > 0) text.remove_prefix(static_cast<size_t>(put));
  }
}

// How long the escape sequence at the front is; 0: none.
size_t sequenceLength(std::string_view text) {
  if (text.substr(0, 2) != "\x1b[") return 0;
  const size_t end = text.find_first_not_of("0123456789;", 2);
  return end == std::string_view::npos ? 0 : end + 1;
}

std::string cutLine(std::string_view line, size_t columns) {
  std::string cut;
  size_t width = 0;
  bool styled = false;
  while (!line.empty()) {
    size_t length = sequenceLength(line);
    if (length > 0) {
      styled = true;
    } else {
      length = 1;
      while (length < line.size() && (static_cast<unsigned char>(line[length]) & 0xC0) == 0x80)
        ++length;
      if (width++ >= columns) break;
    }
    cut += line.substr(0, length);
    line.remove_prefix(length);
  }
  return styled ? cut + "\x1b[0m" : cut;
}

}  // namespace

std::string cutToScreen(std::string_view text, size_t rows, size_t columns) {
  std::string cut;
  for (size_t row = 0; row < rows && !text.empty(); ++row) {
    const size_t end = std::min(text.find('\n'), text.size());
    cut += (row == 0 ? "" : "\n") + cutLine(text.substr(0, end), columns);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return cut;
}

bool LiveScreen::isPossible() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) != 0 && kind != nullptr && *kind != '\0' &&
         std::strcmp(kind, "dumb") != 0;
}

LiveScreen::LiveScreen() {
  has_keys = ::isatty(STDIN_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &before) == 0;
  taken = true;
  if (has_keys) {
    termios keys = before;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    keys.c_cc[VSUSP] = _POSIX_VDISABLE;  // a stopped process would leave the terminal like this
    ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  }
  put(kEnter);
}

LiveScreen::~LiveScreen() { restoreTerminal(); }

void restoreTerminal() {
  if (!taken.exchange(false)) return;
  put(kLeave);
  if (has_keys) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

std::pair<size_t, size_t> LiveScreen::size() const {
  winsize window{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_row == 0 || window.ws_col == 0)
    return {24, 80};
  return {window.ws_row, window.ws_col};
}

void LiveScreen::draw(const std::string& text) {
  const auto [rows, columns] = size();
  std::string frame = "\x1b[H";
  for (const char c : cutToScreen(text, rows, columns)) {
    if (c == '\n')
      frame += "\x1b[K\r\n";
    else
      frame += c;
  }
  put(frame + "\x1b[K\x1b[J");
}

bool LiveScreen::wait(Millis duration, const CancelToken& cancel) {
  const Deadline end = Deadline::in(duration);
  const auto shown = size();
  while (!end.passed() && !cancel.cancelled() && size() == shown) {
    pollfd fds[] = {{cancel.fd(), POLLIN, 0}, {has_keys ? STDIN_FILENO : -1, POLLIN, 0}};
    if (::poll(fds, 2, end.pollTimeout(200)) <= 0 || fds[1].revents == 0) continue;
    char key = 0;
    if (::read(STDIN_FILENO, &key, 1) != 1) has_keys = false;  // nobody is there any more
    if (key == 'q' || key == 'Q') return false;
  }
  return !cancel.cancelled();
}

}  // namespace cctl::cli
