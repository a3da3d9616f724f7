// ssh-agent (draft-miller-ssh-agent): what it holds, and a stand-in that shows libssh exactly the
// identities that are to be offered and gives up at the deadline, which libssh's own client,
// reading from the agent without one, would not.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/fd.h"
#include "base/result.h"

namespace cctl::ssh {

struct AgentIdentity {
  std::string blob;  // public key or certificate
  std::string comment;
};

// The identities of the agents, each asked once per run. Thread-safe.
class AgentDirectory {
 public:
  // Empty when there is no such socket or it does not answer: then as without an agent.
  std::vector<AgentIdentity> identities(const std::string& socket, Deadline deadline,
                                        const CancelToken* cancel);

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<AgentIdentity>> known_;
};

// The agent's signature over `data` by the key (or certificate's key) `blob`, in its wire form; RSA
// with SHA-512. kRefused when the agent will not.
[[nodiscard]] Result<std::string> signWithAgent(const std::string& socket, std::string_view blob,
                                                std::string_view data, Deadline deadline,
                                                const CancelToken* cancel);

// Serves the agent protocol on one end of a socket pair from a thread of its own: lists `offered`,
// passes requests to sign to the agent at `socket`. Ends at the deadline or when cancelled: the
// other end then sees the end of its stream.
class AgentRelay {
 public:
  AgentRelay(std::string socket, std::vector<AgentIdentity> offered, Deadline deadline,
             const CancelToken* cancel);
  ~AgentRelay();
  // The other end, for ssh_set_agent_socket, which takes it over; -1 when there is none.
  int takeClientEnd() { return client_.release(); }

 private:
  void serve();
  std::string answer(const std::string& request) const;

  const std::string socket_;
  const std::vector<AgentIdentity> offered_;
  const Deadline deadline_;
  const CancelToken* const cancel_;
  Fd client_, server_;
  std::thread thread_;
};

}  // namespace cctl::ssh
