// All instances of this host: which there are, what should run, and the orders about them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shim/host.h"
#include "shim/log_file.h"
#include "shim/ports.h"
#include "shim/service_process.h"

namespace cctl::shim {

class Supervisor {
 public:
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  // `host` must outlive it.
  explicit Supervisor(Host& host);
  ~Supervisor();

  // Adopts what lives, starts what should. Call once, with the state loaded.
  void resume();

  // Each is answered once its effect is durable; the callbacks come from the loop or at once.
  void allocate(const protocol::AllocateRequest& request, Done<protocol::AllocateReply> done);
  void prepare(const protocol::PrepareRequest& request, Done<protocol::Empty> done);
  void start(const protocol::StartRequest& request, Done<protocol::StartReply> done);
  void stop(const protocol::StopRequest& request, Done<protocol::StopReply> done);
  void restart(const protocol::RestartRequest& request, Done<protocol::StartReply> done);
  void signal(const protocol::SignalRequest& request, Done<protocol::Empty> done);
  void reconfigure(const protocol::ReconfigureRequest& request, Done<protocol::Empty> done);
  void fence(const protocol::FenceRequest& request, Done<protocol::Empty> done);
  void forget(const protocol::ForgetRequest& request, Done<protocol::StopReply> done);
  [[nodiscard]] Result<protocol::GenerationSpec> generation(
      const protocol::GenerationRequest& request);
  std::vector<protocol::InstanceStatus> status(const std::string& service);
  // Every process is told to stop; they stay wanted, so that a boot starts them.
  void stopEverything(std::function<void()> done);

  // A process of a service told of itself by sd_notify(3).
  void onNotification(int pid, const std::map<std::string, std::string>& said);

  // The log of an instance that this host knows; null otherwise.
  std::shared_ptr<LogFile> logOf(const protocol::InstanceRef& ref);

  // Whether a process of the generation that has these ports is ready; nullopt when the instance
  // has none such.
  std::optional<bool> isReady(const protocol::InstanceRef& ref,
                              const std::map<std::string, int>& ports) const;

  struct Running {
    protocol::InstanceRef ref;
    std::string version;
    int pid = 0;
    int generation = 0;
    std::map<std::string, int> ports;
    std::vector<std::string> sockets;  // those of the ports that all generations share
  };
  std::vector<Running> running() const;

 private:
  struct Key {
    protocol::InstanceRef ref;
    int generation = 0;
    auto operator<=>(const Key&) const = default;
  };

  [[nodiscard]] Result<void> fence(const std::string& service, const protocol::Caller& caller);
  [[nodiscard]] Result<InstanceRecord*> instance(const protocol::InstanceRef& ref);
  [[nodiscard]] Result<GenerationRecord*> chooseGeneration(InstanceRecord& record, int generation);
  [[nodiscard]] Result<ServiceProcess*> process(const protocol::InstanceRef& ref, int generation);
  ServiceProcess* findProcess(const protocol::InstanceRef& ref, int generation) const;
  std::vector<ServiceProcess*> processesOf(const protocol::InstanceRef& ref, int generation);
  LogFile& openLog(const protocol::InstanceRef& ref, LogLimits limits);
  ReservedPorts reservedPorts(const protocol::AllocateRequest& request);
  void findUnknown();
  void recoverSockets();
  [[nodiscard]] Result<std::map<std::string, int>> choosePorts(
      const protocol::AllocateRequest& request);
  void quietSockets(const protocol::InstanceRef& ref);
  void releaseSockets(const protocol::InstanceRef& ref);
  // What runs, or should, or failed to.
  struct Resumed {
    protocol::InstanceRef ref;
    int generation = 0;
    bool should_run = false;
  };
  std::vector<Resumed> toResume(const protocol::InstanceRef& ref) const;
  void resumeAll(const std::vector<protocol::InstanceRef>& refs);
  void resumeGeneration(const Resumed& one);
  void tellHeld(const protocol::InstanceRef& ref);
  void noteLost(const protocol::InstanceRef& ref, const GenerationRecord& record,
                const ServiceProcess& process, std::vector<std::string> last_lines);
  void onReady(ServiceProcess& process);
  void makeCurrent(InstanceRecord& record, int generation);
  void passOnCurrent(InstanceRecord& record);
  void prune(const protocol::InstanceRef& ref);
  void removeGeneration(const protocol::InstanceRef& ref, int generation);
  void finishForget(const protocol::InstanceRef& ref);
  void stopAll(const std::vector<ServiceProcess*>& processes, Done<protocol::StopReply> done);
  void order(const protocol::InstanceRef& ref, int generation, const protocol::Caller& caller,
             std::string text);
  void note(protocol::EventKind kind, const protocol::InstanceRef& ref, int generation,
            std::string text, const protocol::Caller& caller = {});
  static constexpr char kDone[] = "it is done";
  // Once the state is on the disk; where it cannot be written, that says so behind `outcome`.
  template <typename T>
  void answerDurably(Done<T> done, T value, const char* outcome = kDone);
  void answerStart(Done<protocol::StartReply> done, protocol::StartReply reply);

  Host& host_;
  PortChooser ports_;
  Background archiver_;
  // Before the processes, which use them.
  std::map<protocol::InstanceRef, std::shared_ptr<LogFile>> logs_;
  std::map<Key, std::unique_ptr<ServiceProcess>> processes_;
};

}  // namespace cctl::shim
