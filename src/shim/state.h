// What must outlive the shim: which instances there are, what should run, and as which process.
// ROOT/shim/state/state.json, a sealed file (PROTOCOL.md, "Files").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "protocol/messages.h"
#include "shim/disk_sync.h"
#include "shim/event_loop.h"
#include "shim/state_memory.h"

namespace cctl::shim {

// A process, by what no later process can have too: pid and start time (within one boot).
struct ProcessRecord {
  int pid = 0;
  uint64_t start_ticks = 0;
  WallTime started{};
  bool ready = false;
  uint64_t out_pipe = 0;  // inodes of its log pipes, to know them again
  uint64_t err_pipe = 0;
  bool operator==(const ProcessRecord&) const = default;
};

struct GenerationRecord {
  int generation = 0;
  std::map<std::string, int> ports;
  std::vector<std::string> sockets;  // those of the ports that the shim binds
  bool prepared = false;
  bool up = false;         // should run now, on this boot
  bool was_ready = false;  // since it was prepared
  int restarts = 0;
  std::string failure;  // why it is failed; empty when it is not
  WallTime since{};
  std::optional<ProcessRecord> process;
  JsonText last_exit;  // an ExitReport, or null
  bool operator==(const GenerationRecord&) const = default;
};

struct InstanceRecord {
  protocol::InstanceRef ref;
  int current = 0;  // the generation that a boot starts; 0: none yet
  int next_generation = 1;
  bool held = false;  // by `stop`: stays down until started
  // From the disk, which does not tell whether it had been stopped; until the next order.
  bool remade = false;
  std::string held_by;
  std::vector<GenerationRecord> generations;  // ascending

  GenerationRecord* find(int generation);
  bool operator==(const InstanceRecord&) const = default;
};

struct StateData {
  std::string boot_id;
  std::map<std::string, uint64_t> tokens;  // highest fencing token seen, by service
  std::vector<InstanceRecord> instances;
};

std::string encodeState(const StateData& state);
[[nodiscard]] Result<StateData> decodeState(const Json& json);

// Holds the data and writes it. Not thread-safe.
class State {
 public:
  // `loop` must outlive it. `memory`: what the last supervisor left, newer than the file.
  State(std::string path, EventLoop& loop, StateMemory memory = StateMemory())
      : path_(std::move(path)), loop_(loop), memory_(std::move(memory)), disk_(loop) {}

  // Nothing there: an empty state. Corrupt: the error; nothing is guessed.
  [[nodiscard]] Result<void> load();

  StateData& data() { return data_; }
  InstanceRecord* find(const protocol::InstanceRef& ref);
  InstanceRecord& findOrMake(const protocol::InstanceRef& ref);
  void erase(const protocol::InstanceRef& ref);

  // From the end of this turn of the loop on it survives a SIGKILL, in memory that the anchor
  // holds; it is written to the disk, and synced before it takes the old one's place, from a fifth
  // of a second later on, or with the turn where there is no such memory. Nobody waits for that.
  void touch();
  // To the file and the memory, at once; not synced.
  [[nodiscard]] Result<void> writeNow();
  // `done` runs once all that was changed before is on disk: one sync serves all who wait.
  using Done = std::function<void(Result<void>)>;
  void whenDurable(Done done);

 private:
  void schedule();
  void flush();
  std::string sealed();
  // A file beside it is written, synced, and takes its place.
  void beginWrite();
  [[nodiscard]] Result<Fd> writeBeside();
  void onSynced(uint64_t number, bool well);
  void endWrite(const Result<void>& written);

  std::string path_;
  EventLoop& loop_;
  StateMemory memory_;
  // As it was last turned into text: most instances do not change from one time to the next.
  struct Encoded {
    InstanceRecord record;
    std::string text;
  };
  std::map<protocol::InstanceRef, Encoded> encoded_;
  Timer write_timer_;
  Timer trim_timer_;
  StateData data_;
  bool scheduled_ = false;
  bool dirty_ = false;
  std::vector<Done> waiting_;
  DiskSync disk_;
  bool writing_ = false;
  uint64_t write_number_ = 0;  // one that was overtaken by writeNow() must not replace its file
  std::vector<Done> served_;   // by the write under way
};

}  // namespace cctl::shim
