// Ports that a service can bind: on 0.0.0.0 and on ::, since it may choose either.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"

namespace cctl::shim {

enum class PortTest {
  kUnused,    // nothing at all holds it: not a connection on its way out either
  kBindable,  // a server that sets SO_REUSEADDR could bind it: connections of a listener that is
              // gone may linger, a living listener may not
};

bool portFree(int port, PortTest test);

// Those of `ports` that another process holds, by name.
std::vector<std::string> takenPorts(const std::map<std::string, int>& ports);

struct PortPool {
  int low = 0;
  int high = 0;
};

// Ports that are spoken for, whether somebody listens on them now or not.
struct ReservedPorts {
  std::set<int> others;  // of other instances on this host
  std::set<int> own;     // of older generations of the same instance
  std::set<int> avoid;   // that the client asked to avoid
};

// Chooses at random within the pool, so that the port of something that just ended is not handed
// to the next comer. A fixed port must be free, unless an older generation of the same instance
// has it, which stops first. kFailed when there is none.
class PortChooser {
 public:
  using IsFree = std::function<bool(int port)>;
  explicit PortChooser(IsFree is_free, unsigned seed = std::random_device{}());

  [[nodiscard]] Result<std::map<std::string, int>> choose(
      const std::vector<protocol::PortWish>& wishes, PortPool pool, const ReservedPorts& reserved);

 private:
  [[nodiscard]] Result<void> checkFixed(const protocol::PortWish& wish,
                                        const ReservedPorts& reserved) const;
  [[nodiscard]] Result<int> chooseOne(PortPool pool, const std::set<int>& avoid);

  IsFree is_free_;
  std::mt19937 random_;
};

}  // namespace cctl::shim
