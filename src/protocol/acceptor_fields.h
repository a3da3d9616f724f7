// The fields of the acceptor's messages, for the codec: shared by the messages on the wire and the
// records on the acceptor's disk. Included by .cc files only.
#pragma once

#include <array>
#include <utility>

#include "protocol/acceptor.h"
#include "protocol/codec.h"

namespace cctl::protocol {

inline auto enumNames(AcceptorAct) {
  using A = AcceptorAct;
  using Name = std::pair<A, std::string_view>;
  return std::array{Name{A::kIdentity, "identity"},   Name{A::kRead, "read"},
                    Name{A::kPrepare, "prepare"},     Name{A::kAccept, "accept"},
                    Name{A::kCommitted, "committed"}, Name{A::kList, "list"},
                    Name{A::kInstall, "install"},     Name{A::kDiscard, "discard"}};
}

inline auto enumNames(Refusal) {
  using R = Refusal;
  using Name = std::pair<R, std::string_view>;
  return std::array{Name{R::kNone, "none"},
                    Name{R::kLowerBallot, "lower-ballot"},
                    Name{R::kWrongEpoch, "wrong-epoch"},
                    Name{R::kWrongAcceptor, "wrong-acceptor"},
                    Name{R::kNotMember, "not-member"},
                    Name{R::kNotServing, "not-serving"},
                    Name{R::kBadRequest, "bad-request"}};
}

#define CCTL_ACCEPTOR_FIELDS(Type)                      \
  template <typename V, typename M>                     \
  requires std::is_same_v<std::remove_const_t<M>, Type> \
  void describe(V& v, M& m)

CCTL_ACCEPTOR_FIELDS(RegisterState) {
  v("revision", m.revision), v("value", m.value), v.maybe("recent", m.recent);
}
CCTL_ACCEPTOR_FIELDS(Member) { v("host", m.host), v("acceptor", m.acceptor); }
CCTL_ACCEPTOR_FIELDS(MemberSet) { v("members", m.members), v.maybe("all", m.all); }
CCTL_ACCEPTOR_FIELDS(Membership) {
  v("cluster", m.cluster), v("epoch", m.epoch), v("now", m.now), v.maybe("old", m.old);
}
CCTL_ACCEPTOR_FIELDS(ListedKey) {
  v("key", m.key), v.maybe("accepted", m.accepted), v.maybe("present", m.present);
}
CCTL_ACCEPTOR_FIELDS(AcceptorRequest) {
  v("act", m.act), v("id", m.id), v.maybe("acceptor", m.acceptor), v.maybe("epoch", m.epoch),
      v.maybe("forced", m.forced), v.maybe("key", m.key), v.maybe("after", m.after);
  v.maybe("ballot", m.ballot), v.maybe("next", m.next), v.maybe("state", m.state),
      v.maybe("membership", m.membership);
}
CCTL_ACCEPTOR_FIELDS(AcceptorReply) {
  v("id", m.id), v.maybe("refusal", m.refusal), v.maybe("why", m.why), v("acceptor", m.acceptor),
      v.maybe("epoch", m.epoch), v.maybe("counter", m.counter), v.maybe("promised", m.promised);
  v.maybe("accepted", m.accepted), v.maybe("state", m.state), v.maybe("age", m.age),
      v.maybe("membership", m.membership), v.maybe("keys", m.keys), v.maybe("more", m.more);
  v.maybe("registers", m.registers), v.maybe("imported", m.imported),
      v.maybe("uncommitted", m.uncommitted);
}
#undef CCTL_ACCEPTOR_FIELDS

}  // namespace cctl::protocol
