#include "registry/acceptor.h"

#include <nlohmann/json.hpp>

#include "protocol/acceptor_fields.h"
#include "registry/acceptor_impl.h"

namespace cctl::registry {

template class BasicAcceptor<AcceptorRules>;

namespace {

using Kind = AcceptorRecord::Kind;
using KindName = std::pair<Kind, const char*>;
constexpr std::array kKindNames{
    KindName{Kind::kIdentity, "identity"}, KindName{Kind::kMember, "member"},
    KindName{Kind::kPromise, "promise"}, KindName{Kind::kAccept, "accept"},
    KindName{Kind::kCommitted, "committed"}};

// What a record says beside its kind; what its kind does not need is left out.
struct Body {
  std::string uuid;
  std::optional<Membership> membership;
  std::string key;
  Ballot promised;
  Ballot accepted;
  RegisterState state;
};

template <typename V, typename M>
requires std::is_same_v<std::remove_const_t<M>, Body>
void describe(V& v, M& m) {
  v.maybe("uuid", m.uuid), v.maybe("membership", m.membership), v.maybe("key", m.key),
      v.maybe("promised", m.promised), v.maybe("accepted", m.accepted), v.maybe("state", m.state);
}

bool isWhole(const AcceptorRecord& record) {
  switch (record.kind) {
    case Kind::kIdentity:
      return !record.uuid.empty();
    case Kind::kMember:
      return record.membership.has_value();
    case Kind::kPromise:
      return !record.key.empty() && !record.promised.isNone();
    case Kind::kAccept:
      return !record.key.empty() && !record.accepted.isNone();
    case Kind::kCommitted:
      return !record.key.empty() && !record.accepted.isNone();
  }
  return false;
}

// {"key","revision","value"}: the single store of earlier versions.
Result<AcceptorRecord> decodeStoreRecord(const Json& json) {
  const bool fits = json.is_object() && json.contains("key") && json["key"].is_string() &&
                    json.contains("revision") && json["revision"].is_number_unsigned() &&
                    json.contains("value");
  if (!fits) return fail(Code::kCorrupt, "a record of the registry's log is of an unknown format");
  AcceptorRecord record;
  record.kind = Kind::kAccept;
  record.key = json["key"].get<std::string>();
  RegisterState state;
  state.revision = json["revision"].get<uint64_t>();
  record.accepted = importBallot(state.revision);
  state.value.text = dumpJson(json["value"]);
  record.state = std::make_shared<const RegisterState>(std::move(state));
  return record;
}

}  // namespace

std::string encodeRecord(const AcceptorRecord& record) {
  Body body{record.uuid, record.membership, record.key, record.promised, record.accepted, {}};
  if (record.state) body.state = *record.state;
  protocol::FieldWriter writer;
  for (const auto& [kind, name] : kKindNames)
    if (kind == record.kind) writer("kind", std::string(name));
  describe(writer, body);
  return writer.take();
}

Result<AcceptorRecord> decodeRecord(const std::string& text) {
  CCTL_TRY(const Json json, parseJson(text));
  const auto name = json.is_object() ? json.find("kind") : json.end();
  if (name == json.end()) return decodeStoreRecord(json);
  CCTL_TRY(Body body, protocol::decodeFields<Body>(json));
  for (const auto& [kind, known] : kKindNames) {
    if (*name != known) continue;
    AcceptorRecord record{kind,          body.uuid,     body.membership, body.key,
                          body.promised, body.accepted, nullptr};
    if (kind == Kind::kAccept)
      record.state = std::make_shared<const RegisterState>(std::move(body.state));
    if (isWhole(record)) return record;
  }
  return fail(Code::kCorrupt, "a record of the registry's log is of an unknown format");
}

}  // namespace cctl::registry
