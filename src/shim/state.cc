#include "shim/state.h"

#include <fcntl.h>
#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "protocol/codec.h"
#include "shim/sealed_file.h"

namespace cctl::shim {

static constexpr char kKind[] = "state";
static constexpr char kBeside[] = ".new";
static constexpr Millis kWriteDelay{200};
static constexpr Millis kRetryDelay{5000};
static constexpr Millis kTrimDelay{500};

// Found by the field visitors of protocol/codec.h. M is the record, const when written.
#define CCTL_FIELDS(Type)                               \
  template <typename V, typename M>                     \
  requires std::is_same_v<std::remove_const_t<M>, Type> \
  static void describe(V& v, M& m)

CCTL_FIELDS(ProcessRecord) {
  v("pid", m.pid), v("start_ticks", m.start_ticks), v("started", m.started), v("ready", m.ready);
  v("out_pipe", m.out_pipe), v("err_pipe", m.err_pipe);
}
CCTL_FIELDS(GenerationRecord) {
  v("generation", m.generation), v("ports", m.ports);
  v.maybe("sockets", m.sockets), v("prepared", m.prepared), v("up", m.up);
  v("was_ready", m.was_ready), v("restarts", m.restarts), v.maybe("failure", m.failure);
  v("since", m.since), v.maybe("process", m.process), v("last_exit", m.last_exit);
}
CCTL_FIELDS(InstanceRecord) {
  v("service", m.ref.service), v("index", m.ref.index), v("current", m.current);
  v("next_generation", m.next_generation), v("held", m.held), v.maybe("held_by", m.held_by);
  v.maybe("remade", m.remade);
  v("generations", m.generations);
}
CCTL_FIELDS(StateData) {
  v("boot_id", m.boot_id), v("tokens", m.tokens), v("instances", m.instances);
}
#undef CCTL_FIELDS

std::string encodeState(const StateData& state) { return protocol::encodeFields(state); }
Result<StateData> decodeState(const Json& json) { return protocol::decodeFields<StateData>(json); }

GenerationRecord* InstanceRecord::find(int generation) {
  for (GenerationRecord& record : generations)
    if (record.generation == generation) return &record;
  return nullptr;
}

Result<void> State::load() {
  const auto left = memory_.read();
  auto json = left ? unsealText(*left, kKind, "memory of the state") : readSealed(path_, kKind);
  if (!json && left) json = readSealed(path_, kKind);
  if (!json && json.error().code == Code::kNotFound) return {};
  if (!json) return fail(json.error());
  auto data = decodeState(*json);
  if (!data) return fail(data.error().context(path_));
  data_ = std::move(*data);
  return {};
}

InstanceRecord* State::find(const protocol::InstanceRef& ref) {
  for (InstanceRecord& record : data_.instances)
    if (record.ref == ref) return &record;
  return nullptr;
}

InstanceRecord& State::findOrMake(const protocol::InstanceRef& ref) {
  if (InstanceRecord* found = find(ref)) return *found;
  auto& instances = data_.instances;
  const auto after = std::find_if(instances.begin(), instances.end(),
                                  [&](const InstanceRecord& other) { return ref < other.ref; });
  InstanceRecord record;
  record.ref = ref;
  return *instances.insert(after, std::move(record));
}

void State::erase(const protocol::InstanceRef& ref) {
  encoded_.erase(ref);
  auto& instances = data_.instances;
  instances.erase(std::remove_if(instances.begin(), instances.end(),
                                 [&](const InstanceRecord& other) { return other.ref == ref; }),
                  instances.end());
  touch();
}

void State::touch() {
  dirty_ = true;
  schedule();
}

// Into the memory too: it is what the next supervisor believes.
Result<void> State::writeNow() {
  ++write_number_;
  write_timer_.reset();
  const std::string text = sealed();
  [[maybe_unused]] const bool kept = memory_.kept() && memory_.write(text);
  auto written = replaceFile(path_, text, 0600, Sync::kNo);
  dirty_ = !written;  // retried with the next change
  return written;
}

Result<Fd> State::writeBeside() {
  const std::string beside = path_ + kBeside;
  CCTL_TRY(Fd file, openFile(beside, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  if (auto written = writeAll(file.get(), sealed()); !written)
    return fail(written.error().context(beside));
  return file;
}

void State::beginWrite() {
  write_timer_.reset();
  if (std::exchange(writing_, true)) return;  // endWrite() begins the next
  served_ = std::exchange(waiting_, {});
  auto file = writeBeside();
  if (!file) return endWrite(fail(file.error()));
  dirty_ = false;
  disk_.begin(std::move(*file),
              [this, number = ++write_number_](bool well) { onSynced(number, well); });
}

void State::onSynced(uint64_t number, bool well) {
  if (number != write_number_) return endWrite({});  // writeNow() wrote something newer
  if (!well) return endWrite(failErrno(EIO, path_));
  if (::rename((path_ + kBeside).c_str(), path_.c_str()) != 0)
    return endWrite(failErrno(errno, path_));
  if (served_.empty()) return endWrite({});  // nobody waits for the name to be on disk too
  auto dir = openFile(path_.substr(0, path_.rfind('/')), O_RDONLY | O_DIRECTORY);
  if (!dir) return endWrite(fail(dir.error()));
  disk_.begin(std::move(*dir),
              [this](bool synced) { endWrite(synced ? Result<void>() : failErrno(EIO, path_)); });
}

void State::endWrite(const Result<void>& written) {
  writing_ = false;
  if (!written) {
    dirty_ = true;
    write_timer_ = loop_.after(kRetryDelay, [this] { beginWrite(); });
  }
  for (const Done& done : std::exchange(served_, {})) done(written);
  if (!waiting_.empty() || (dirty_ && written)) schedule();
  // Changes come in bursts, and each makes the text of all instances: when one is over the heap has
  // room that nobody needs, which the allocator gives back only when told to.
  trim_timer_ = loop_.after(kTrimDelay, [] { ::malloc_trim(0); });
}

void State::whenDurable(Done done) {
  waiting_.push_back(std::move(done));
  schedule();
}

void State::schedule() {
  if (std::exchange(scheduled_, true)) return;
  // After the journal, which is written at the turn's end too: an exit that the state has forgotten
  // must not be missing there.
  loop_.atTurnEnd([this] { loop_.atTurnEnd([this] { flush(); }); });
}

// The same text as encodeState() gives, from the texts of the instances.
std::string State::sealed() {
  std::string instances;
  for (const InstanceRecord& record : data_.instances) {
    Encoded& known = encoded_[record.ref];
    if (known.text.empty() || !(known.record == record)) {
      known = {record, protocol::encodeFields(record)};
      known.text.shrink_to_fit();  // it is kept
    }
    instances += (instances.empty() ? "" : ",") + known.text;
  }
  StateData rest;
  rest.boot_id = data_.boot_id;
  rest.tokens = data_.tokens;
  std::string body = encodeState(rest);
  static constexpr std::string_view kEmpty = "\"instances\":[";
  body.insert(body.find(kEmpty) + kEmpty.size(), instances);
  return sealText(kKind, body);
}

void State::flush() {
  scheduled_ = false;
  const bool kept = dirty_ && memory_.kept() && memory_.write(sealed());
  if (!waiting_.empty() || (dirty_ && !kept)) return beginWrite();
  if (!dirty_ || write_timer_.pending()) return;
  write_timer_ = loop_.after(kWriteDelay, [this] { beginWrite(); });
}

}  // namespace cctl::shim
