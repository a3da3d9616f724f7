#include "transport/known_hosts.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <thread>

#include "base/base64.h"
#include "base/file.h"
#include "base/ssh_wire.h"

using namespace cctl;
using namespace cctl::ssh;

namespace {

HostKey keyOf(const std::string& type, const std::string& content) {
  HostKey key;
  key.type = type;
  putString(key.blob, type);
  putString(key.blob, content);
  return key;
}

const HostKey kEd = keyOf("ssh-ed25519", "a");
const HostKey kOther = keyOf("ssh-ed25519", "b");
const HostKey kEcdsa = keyOf("ecdsa-sha2-nistp256", "c");

std::string lineOf(const std::string& names, const HostKey& key) {
  return names + " " + key.type + " " + base64Encode(key.blob) + " a comment\n";
}

KnownHosts indexOf(const std::string& text) {
  KnownHosts known;
  known.addText(text, "FILE");
  return known;
}

Verdict verdict(const std::string& text, std::string_view host, int port = 22,
                const HostKey& key = kEd) {
  return indexOf(text).check(host, port, key).verdict;
}

std::string temporaryDir() {
  std::string path = "/tmp/known-hosts-XXXXXX";
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  return path;
}

}  // namespace

TEST_CASE("known_hosts: plain names") {
  CHECK(verdict(lineOf("a", kEd), "a") == Verdict::kOk);
  CHECK(verdict(lineOf("a", kEd), "A") == Verdict::kOk);
  CHECK(verdict(lineOf("b,a,1.2.3.4", kEd), "1.2.3.4") == Verdict::kOk);
  CHECK(verdict(lineOf("a", kEd), "b") == Verdict::kNew);
  CHECK(verdict(lineOf("a", kOther), "a") == Verdict::kChanged);
  CHECK(verdict(lineOf("a", kEcdsa), "a") == Verdict::kOtherType);
  CHECK(verdict(lineOf("a", kOther) + lineOf("a", kEd), "a") == Verdict::kOk);
}

TEST_CASE("known_hosts: ports") {
  CHECK(verdict(lineOf("[a]:2222", kEd), "a", 2222) == Verdict::kOk);
  CHECK(verdict(lineOf("[a]:2222", kEd), "a", 22) == Verdict::kNew);
  CHECK(verdict(lineOf("[a]:2222", kOther), "a", 2222) == Verdict::kChanged);
  // ssh takes the key of port 22 for another port, but does not mind a different one there.
  CHECK(verdict(lineOf("a", kEd), "a", 2222) == Verdict::kOk);
  CHECK(verdict(lineOf("a", kOther), "a", 2222) == Verdict::kNew);
}

TEST_CASE("known_hosts: wildcards and negation") {
  CHECK(verdict(lineOf("*.example.com", kEd), "x.example.com") == Verdict::kOk);
  CHECK(verdict(lineOf("host?", kEd), "host1") == Verdict::kOk);
  CHECK(verdict(lineOf("host?", kEd), "host12") == Verdict::kNew);
  CHECK(verdict(lineOf("*,!host1", kEd), "host1") == Verdict::kNew);
  CHECK(verdict(lineOf("*,!host1", kEd), "host2") == Verdict::kOk);
}

TEST_CASE("known_hosts: hashed names") {
  // Made by ssh-keygen -H of the line "example.org …".
  const auto dir = temporaryDir();
  const auto file = dir + "/known_hosts";
  REQUIRE(appendKnownHost(file, "example.org", 22, kEd, true));
  const auto text = *readFile(file);
  CHECK(text.starts_with("|1|"));
  CHECK(text.find("example") == std::string::npos);
  CHECK(verdict(text, "example.org") == Verdict::kOk);
  CHECK(verdict(text, "example.com") == Verdict::kNew);
  CHECK(verdict(text, "example.org", 22, kOther) == Verdict::kChanged);
  CHECK(indexOf(text).typesFor("example.org", 22, true) == std::vector<std::string>{"ssh-ed25519"});
  CHECK(indexOf(text).typesFor("example.org", 22, false).empty());
  CHECK(removeTree(dir));
}

TEST_CASE("known_hosts: a hash as OpenSSH writes it") {
  // ssh-keygen -H of "test.example.org …", and ssh-keygen -l of the key.
  HostKey key;
  key.type = "ssh-ed25519";
  key.blob = *base64Decode("AAAAC3NzaC1lZDI1NTE5AAAAIOBra7WgQOvTVz6UWVXGSyqnurpufQxUFT0fkk4JMSA/");
  const std::string line =
      "|1|HQfHeKdT/JiwLO5KcJuSxoPVqZI=|bscnl7++EszEZrWYdMIS/hFed8w= ssh-ed25519 " +
      base64Encode(key.blob) + "\n";
  CHECK(verdict(line, "test.example.org", 22, key) == Verdict::kOk);
  CHECK(verdict(line, "example.org", 22, key) == Verdict::kNew);
  CHECK(key.fingerprint() == "SHA256:ePEhrsL8jGskbfQT2OEivOxFatXP6y/OuWnifAxj27k");
}

TEST_CASE("known_hosts: a revoked key is never taken") {
  const auto revoked = lineOf("@revoked *", kEd);
  CHECK(verdict(lineOf("a", kEd) + revoked, "a") == Verdict::kRevoked);
  CHECK(verdict(revoked + lineOf("a", kEd), "a") == Verdict::kRevoked);
  CHECK(verdict(revoked + lineOf("a", kOther), "a", 22, kOther) == Verdict::kOk);
  CHECK(verdict(revoked, "a", 2222) == Verdict::kRevoked);
}

TEST_CASE("known_hosts: certificate authorities are told, not followed") {
  const auto check = indexOf(lineOf("@cert-authority *", kEd)).check("a", 22, kEd);
  CHECK(check.verdict == Verdict::kNew);
  CHECK(check.has_authority);
}

TEST_CASE("known_hosts: damaged lines are passed over") {
  const std::string bad =
      "\n# comment\na\na ssh-ed25519\na ssh-ed25519 !!!\na ssh-ed25519 AAAA\n|1|x ssh-ed25519 "
      "AAAA\n"
      "@marker a ssh-ed25519 AAAA\na 1024 65537 123456\n\x00\xff\n";
  CHECK(verdict(bad + lineOf("a", kEd), "a") == Verdict::kOk);
  CHECK(verdict(bad, "a") == Verdict::kNew);
}

TEST_CASE("known_hosts: the place of the line is told") {
  const auto check = indexOf("# one\n\n" + lineOf("a", kOther)).check("a", 22, kEd);
  CHECK(check.file == "FILE");
  CHECK(check.line == 3);
  CHECK(check.known_fingerprint == kOther.fingerprint());
}

TEST_CASE("known_hosts: appended by many at once, one line stands there") {
  const auto dir = temporaryDir();
  const auto file = dir + "/new/known_hosts";
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { CHECK(appendKnownHost(file, "a", 22, kEd, false)); });
  }
  for (auto& thread : threads) thread.join();
  const auto text = *readFile(file);
  CHECK(text == "a " + kEd.type + " " + base64Encode(kEd.blob) + "\n");
  SUBCASE("another key of the host is refused meanwhile") {
    CHECK(!appendKnownHost(file, "a", 22, kOther, false));
    CHECK(*readFile(file) == text);
  }
  CHECK(removeTree(dir));
}

TEST_CASE("known_hosts: errors show the way forward") {
  HostKeyCheck check;
  auto error = hostKeyError(check, "host1", "a", 2222, kEd, "KH");
  CHECK(error.message.find("--accept-new") != std::string::npos);
  CHECK(error.message.find("[a]:2222") != std::string::npos);
  check.verdict = Verdict::kChanged;
  check.file = "F";
  check.line = 7;
  error = hostKeyError(check, "host1", "a", 22, kEd, "KH");
  CHECK(error.message.find("F:7") != std::string::npos);
  CHECK(error.message.find("ssh-keygen -R 'a' -f 'F'") != std::string::npos);
}
