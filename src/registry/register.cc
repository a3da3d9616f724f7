#include "registry/register.h"

namespace cctl::registry {

Result<protocol::RegisterValue> update(
    Registers& registers, const std::string& key,
    const std::function<Result<JsonText>(const protocol::RegisterValue&)>& change) {
  CCTL_TRY(protocol::RegisterValue current, registers.read(key));
  for (int attempt = 0; attempt < 20; ++attempt) {
    CCTL_TRY(JsonText next, change(current));
    if (current.revision != 0 && next == current.value) return current;
    CCTL_TRY(protocol::RegisterWriteReply reply,
             registers.write(key, current.revision, std::move(next)));
    if (reply.swapped) return reply.current;
    current = std::move(reply.current);
  }
  return fail(Code::kConflict, "{}: others kept changing it; run the command again", key);
}

}  // namespace cctl::registry
