#include "shim/listeners.h"

namespace cctl::shim {
namespace {

constexpr Millis kPause{1000};

}  // namespace

Result<void> Listeners::add(std::string path, Listen listen) {
  auto done = listen();
  if (done) return done;
  tell_(false, fmt::format("{}: cannot be opened, tried again each second", done.error().message));
  missing_.push_back({std::move(path), std::move(listen), done.error().message});
  if (!timer_.pending()) timer_ = loop_.after(kPause, [this] { tryAgain(); });
  return done;
}

void Listeners::tryAgain() {
  for (auto it = missing_.begin(); it != missing_.end();) {
    if (const auto done = it->listen(); !done) {
      it->problem = done.error().message;
      ++it;
      continue;
    }
    tell_(true, fmt::format("{} is open now", it->path));
    it = missing_.erase(it);
  }
  if (!missing_.empty()) timer_ = loop_.after(kPause, [this] { tryAgain(); });
}

std::vector<std::string> Listeners::problems() const {
  std::vector<std::string> problems;
  for (const Missing& one : missing_) problems.push_back(one.problem + ": this socket is not open");
  return problems;
}

}  // namespace cctl::shim
