// One client of the line protocol (core/line_protocol.h). For its worker's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/line_protocol.h"
#include "net/stream.h"

namespace sudoku {

class Worker;

class LineConnection : public std::enable_shared_from_this<LineConnection> {
 public:
  LineConnection(Worker& worker, std::uint64_t id) : worker_(worker), id_(id) {}

  void start(Fd fd);
  // Nothing has come for this long, and nothing is owed.
  bool isQuietFor(Clock::duration time) const;
  void closeWhenAnswered();

 private:
  void onData(std::string_view bytes);
  void onEof();
  void onClosed(int error);
  void work();
  bool answerSome(std::string* answers);
  std::string answer(std::string_view line, bool* bad);
  void refuse(std::string* answers, const char* why);

  Worker& worker_;
  std::uint64_t id_;
  std::string peer_;
  std::shared_ptr<Stream> stream_;
  LineSplitter lines_;
  Clock::time_point last_data_ = Clock::now();
  bool saw_eof_ = false;
  bool closing_ = false;
  bool work_posted_ = false;
};

}  // namespace sudoku
