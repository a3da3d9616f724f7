#include "release/sign_off.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <ctime>

#include "release/release_store.h"
#include "unit/release/signature_kit.h"

using namespace cctl;
using namespace cctl::release;
using cctl::test::SignatureKit;

namespace {

const std::string kMessage = "the sums\n";

WallTime at(const char* time) { return parseTime(time).value(); }
const WallTime kNow = SystemClock().wall();

std::vector<AllowedSigner> mustParse(const std::string& text) {
  Problems problems;
  auto signers = parseAllowedSigners(text, "allowed", problems);
  REQUIRE_MESSAGE(problems.empty(), (problems.empty() ? "" : toError(problems.sorted()).message));
  return signers;
}

struct Fixture {
  SignatureKit kit;
  std::string alice = kit.key("alice", {"ed25519"});
  std::string bob = kit.key("bob", {"ecdsa"});

  // "PRINCIPALS OPTIONS" and the key.
  std::string line(const std::string& before, const std::string& key) const {
    return before + " " + kit.publicLine(key) + "\n";
  }
  // Ours and ssh-keygen's word for one principal must agree; ours is returned.
  bool verdict(const std::string& allowed, const std::string& principal, const std::string& key,
               WallTime now = kNow) const {
    const std::string signature = kit.sign(key, kMessage);
    SignOff policy;
    policy.required = true;
    policy.by = {principal};
    Problems problems;
    const auto signers = parseAllowedSigners(allowed, "allowed", problems);
    const SignOffVerdict ours =
        judgeSignatures(policy, &signers, kMessage, {{"s", signature}}, now);
    const bool good = problems.empty() && ours.signers.size() == 1;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch());
    std::string date = formatTime(WallTime(seconds));  // YYYY-MM-DDTHH:MM:SSZ
    std::erase_if(date, [](char c) { return c == '-' || c == ':' || c == 'T'; });
    const bool theirs =
        kit.verifies(allowed, principal, signature, kMessage, {"-O", "verify-time=" + date});
    CHECK_MESSAGE(good == theirs, allowed, principal,
                  good ? ": ours takes it" : ": theirs takes it");
    return good;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "allowed_signers: the same verdicts as ssh-keygen") {
  CHECK(verdict(line("alice", alice), "alice", alice));
  CHECK(verdict(line("alice,qa", alice), "qa", alice));
  CHECK(verdict(line("*@example.com", alice), "alice@example.com", alice));
  CHECK(verdict("# a comment\n\n  \t\n" + line("\talice", alice), "alice", alice));
  CHECK(verdict(line("\"alice smith\"", alice), "alice smith", alice));
  CHECK(verdict(line("alice", bob) + line("alice", alice), "alice", alice));
  CHECK(verdict(line("alice namespaces=\"git,clusterctl-*\"", alice), "alice", alice));
  CHECK(verdict(line("alice NAMESPACES=\"clusterctl-release\"", alice), "alice", alice));
  CHECK(verdict(line("alice valid-after=\"20200101Z\",valid-before=\"20990101Z\"", alice), "alice",
                alice));

  CHECK_FALSE(verdict(line("alice", alice), "bob", alice));
  CHECK_FALSE(verdict(line("alice", alice), "alice", bob));
  CHECK_FALSE(verdict(line("*,!alice", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice namespaces=\"git\"", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice namespaces=\"*,!clusterctl-*\"", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice valid-before=\"20200101Z\"", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice valid-after=\"20990101Z\"", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice cert-authority", alice), "alice", alice));
  CHECK_FALSE(verdict("", "alice", alice));
  CHECK_FALSE(verdict(line("alice valid-befor=\"20200101Z\"", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice namespaces=git", alice), "alice", alice));
  CHECK_FALSE(verdict(line("alice valid-before=\"yesterday\"", alice), "alice", alice));
}

TEST_CASE_FIXTURE(Fixture, "validity: to the second, in UTC and in the local time zone") {
  const std::string zulu = line("alice valid-before=\"20300102030405Z\"", alice);
  CHECK(verdict(zulu, "alice", alice, at("2030-01-02T03:04:05Z")));
  CHECK_FALSE(verdict(zulu, "alice", alice, at("2030-01-02T03:04:06Z")));
  const std::string after = line("alice valid-after=\"203001020304Z\"", alice);
  CHECK(verdict(after, "alice", alice, at("2030-01-02T03:04:00Z")));
  CHECK_FALSE(verdict(after, "alice", alice, at("2030-01-02T03:03:59Z")));
  REQUIRE(::setenv("TZ", "XST-5", 1) == 0);  // five hours before UTC
  ::tzset();
  const std::string local = line("alice valid-before=\"20300102\"", alice);
  CHECK(verdict(local, "alice", alice, at("2030-01-01T19:00:00Z")));
  CHECK_FALSE(verdict(local, "alice", alice, at("2030-01-01T19:00:01Z")));
  ::unsetenv("TZ");
  ::tzset();
}

TEST_CASE_FIXTURE(Fixture, "certificates") {
  const std::string authority = kit.key("ca", {"rsa", "-b", "2048"});
  const std::string line_of_ca = line("*@qa cert-authority", authority);
  const std::string plain = line("alice@qa", alice);
  const std::string cert = kit.certify(authority, alice, {"-n", "alice@qa,alice", "-V", "-1d:+1d"});
  CHECK(verdict(line_of_ca, "alice@qa", cert));
  CHECK_FALSE(verdict(line_of_ca, "alice", cert));   // the line does not admit it
  CHECK_FALSE(verdict(line_of_ca, "bob@qa", cert));  // the certificate does not name it
  CHECK_FALSE(verdict(line("*@qa", authority), "alice@qa", cert));
  CHECK_FALSE(verdict(line("*@qa cert-authority", bob), "alice@qa", cert));
  CHECK_FALSE(verdict(line_of_ca, "alice@qa", cert, kNow + std::chrono::hours(48)));
  CHECK_FALSE(verdict(line_of_ca, "alice@qa", cert, kNow - std::chrono::hours(48)));

  const std::string host = kit.certify(authority, bob, {"-h", "-n", "bob@qa"});
  CHECK_FALSE(verdict(line_of_ca, "bob@qa", host));
  const std::string nobody = kit.certify(authority, bob, {});
  CHECK_FALSE(verdict(line_of_ca, "bob@qa", nobody));

  Problems problems;
  const std::string certificate = readFile(alice + "-cert.pub").value();
  CHECK(parseAllowedSigners("alice " + certificate, "f", problems).empty());
  CHECK(toError(problems.sorted()).message.find("f:1:7: this is a certificate; write the key of") ==
        0);
}

TEST_CASE_FIXTURE(Fixture, "a restricted certificate signs nothing here") {
  const std::string authority = kit.key("ca", {"ed25519"});
  const std::string cert =
      kit.certify(authority, alice, {"-n", "alice", "-O", "source-address=10.0.0.0/8"});
  const auto signers = mustParse(line("* cert-authority", authority));
  SignOff policy;
  const auto verdict =
      judgeSignatures(policy, &signers, kMessage, {{"s", kit.sign(cert, kMessage)}}, kNow);
  CHECK(verdict.signers.empty());
  CHECK(verdict.signatures[0].problem.find("restricted by the option source-address") !=
        std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "mistakes in allowed_signers are told with their place, all at once") {
  const std::string key = kit.publicLine(alice);
  Problems problems;
  const auto signers = parseAllowedSigners(
      "good " + key + "\n" + "alice namespace=\"x\" " + key + "\n" + "  bob\n" +
          "eve ssh-rsa AAAA\n" + "\"open " + key + "\n" + "a valid-after=\"2020\" " + key + "\n" +
          "a valid-after=\"20210101\",valid-before=\"20200101\" " + key + "\n" +
          "a namespaces=\"x\",namespaces=\"y\" " + key + "\n" + "a cert-authority;x " + key + "\n" +
          "a ssh-dss AAAAB3NzaC1kc3MAAAAA\n" + "a valid-after=\"20210231Z\" " + key + "\n" + ", " +
          key,
      "f", problems);
  CHECK(signers.size() == 1);
  const std::string text = toError(problems.sorted()).message;
  for (const char* part :
       {"f:2:7: unknown option \"namespace\"; did you mean \"namespaces\"?",
        "f:3:6: there is no key; write one like", "f:4:5: ", "f:5:1: the quotes are not closed",
        "f:6:3: valid-after: \"2020\" is not a time; write",
        "f:7:3: valid-before is not later than valid-after", "f:8:18: namespaces is given twice",
        "f:9:3: unknown option \"cert-authority;x\"",
        "f:10:3: keys of type ssh-dss are not accepted",
        "f:11:3: valid-after: \"20210231Z\" is not a time", "f:12:1: nobody is named"})
    CHECK_MESSAGE(text.find(part) != std::string::npos, part, "\nin\n", text);
}

TEST_CASE_FIXTURE(Fixture, "how many people signed") {
  const std::string second = kit.key("second", {"ed25519"});
  const auto signers = mustParse(line("alice,qa", alice) + line("alice,old", second) +
                                 line("bob,qa", bob) + line("again,qa", alice));
  const StoredSignature by_alice{"a", kit.sign(alice, kMessage)},
      by_second{"b", kit.sign(second, kMessage)}, by_bob{"c", kit.sign(bob, kMessage)},
      by_old{"d", kit.sign(alice, "other")}, junk{"e", "junk"};
  SignOff policy{true, "allowed", {}, 2};
  const auto people = [&](const std::vector<StoredSignature>& signatures) {
    return judgeSignatures(policy, &signers, kMessage, signatures, kNow).signers;
  };
  using People = std::vector<std::string>;
  CHECK(people({by_alice, by_bob}) == People{"alice", "bob"});
  CHECK(people({by_alice, by_second}) == People{"alice"});  // two keys, one person
  CHECK(people({by_alice, by_alice}) == People{"alice"});
  CHECK(people({by_old, junk, by_bob}) == People{"bob"});
  policy.by = {"qa"};
  CHECK(people({by_alice, by_second, by_bob}) == People{"alice", "bob"});
  policy.by = {"old"};
  CHECK(people({by_alice, by_second, by_bob}) == People{"alice"});

  ReleaseInfo release;
  release.service = ServiceName("web");
  release.version = Version("1.0");
  policy.by = {"qa"};
  const std::vector<StoredSignature> few = {by_alice, by_second, by_old, junk};
  const auto refused =
      checkSignOff(policy, release, judgeSignatures(policy, &signers, kMessage, few, kNow));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::kRefused);
  for (const char* part :
       {"web 1.0 is not signed off: 1 of 2 signatures by qa:", "a: alice, good",
        "b: alice, sign_off.by asks for qa", "d: the signature is not over this content",
        "e: no signature: it does not begin", "`clusterctl release sign web 1.0`"})
    CHECK_MESSAGE(refused.error().message.find(part) != std::string::npos, refused.error().message);
  policy.required = false;
  CHECK(checkSignOff(policy, release, judgeSignatures(policy, &signers, kMessage, few, kNow)));
}

TEST_CASE_FIXTURE(Fixture, "the store keeps signatures side by side, ssh-keygen's own too") {
  const ReleaseStore store(kit.dir / "store");
  const std::string source = kit.dir.put("src/a", "x");
  const auto added =
      store.add(ServiceName("web"), Version("1.0"), kit.dir / "src", {kNow, nullptr});
  REQUIRE(added.has_value());
  const ReleaseInfo& info = added->release;
  CHECK(store.signatures(info).value().empty());
  const std::string sums = ReleaseStore::sums(info);
  CHECK(sums.find("# clusterctl-release 1 web 1.0 " + info.digest + "\n") == 0);
  const std::string first = store.addSignature(info, kit.sign(alice, sums)).value();
  CHECK(store.addSignature(info, kit.sign(alice, sums)).value() == first);
  CHECK(store.addSignature(info, kit.sign(bob, sums)).value() != first);
  CHECK_FALSE(store.addSignature(info, "junk").has_value());
  const std::string on_disk = store.directory() + "/web/1.0/SHA256SUMS";
  SignatureKit::keygen(
      {"ssh-keygen", "-Y", "sign", "-q", "-n", "clusterctl-release", "-f", alice, on_disk});
  const auto signatures = store.signatures(info);
  REQUIRE(signatures.has_value());
  REQUIRE(signatures->size() == 3);
  CHECK(signatures->front().name == "SHA256SUMS.sig");
  const auto signers = mustParse(line("alice", alice) + line("bob", bob));
  const auto verdict = judgeSignatures({true, "f", {}, 2}, &signers, sums, *signatures, kNow);
  CHECK(verdict.signers == std::vector<std::string>{"alice", "bob"});
  CHECK(store.check(info).value().empty());
  CHECK(store.load(info.service, info.version).has_value());
}
