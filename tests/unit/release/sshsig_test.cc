#include "release/sshsig.h"

#include <doctest/doctest.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "base/base64.h"
#include "base/ssh_wire.h"
#include "unit/release/signature_kit.h"

using namespace cctl;
using namespace cctl::release;
using cctl::test::SignatureKit;

namespace {

const std::string kMessage = "# clusterctl-release 1 web 1.0 0000\n";

const std::vector<std::pair<std::string, std::vector<std::string>>> kTypes = {
    {"ed25519", {"ed25519"}},
    {"p256", {"ecdsa", "-b", "256"}},
    {"p384", {"ecdsa", "-b", "384"}},
    {"p521", {"ecdsa", "-b", "521"}},
    {"rsa", {"rsa", "-b", "2048"}}};

Result<void> judge(const std::string& signature, const std::string& message = kMessage) {
  CCTL_TRY(const SshSignature parsed, parseSshSignature(signature));
  return verifySshSignature(parsed, message, kSignatureNamespace);
}

std::string blobOf(const std::string& armored) {
  std::string base64;
  for (size_t at = armored.find('\n') + 1; armored[at] != '-'; ++at)
    if (armored[at] != '\n') base64 += armored[at];
  return base64Decode(base64).value();
}

std::string armor(const std::string& blob) {
  return "-----BEGIN SSH SIGNATURE-----\n" + base64Encode(blob) + "\n-----END SSH SIGNATURE-----\n";
}

// A hardware key as PROTOCOL.u2f has it, in software.
struct HardwareKey {
  bool ecdsa = false;
  EVP_PKEY* key = ecdsa ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  std::string type = ecdsa ? "sk-ecdsa-sha2-nistp256@openssh.com" : "sk-ssh-ed25519@openssh.com";

  ~HardwareKey() { EVP_PKEY_free(key); }
  std::string blob() const {
    std::string text;
    unsigned char bytes[200];
    size_t size = sizeof bytes;
    putString(text, type);
    if (ecdsa) {
      putString(text, "nistp256");
      REQUIRE(EVP_PKEY_get_octet_string_param(key, "pub", bytes, sizeof bytes, &size) == 1);
    } else {
      REQUIRE(EVP_PKEY_get_raw_public_key(key, bytes, &size) == 1);
    }
    putString(text, {reinterpret_cast<char*>(bytes), size});
    putString(text, "ssh:");
    return text;
  }
  std::string raw(const std::string& data) const {
    unsigned char bytes[200];
    size_t size = sizeof bytes;
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    REQUIRE(EVP_DigestSignInit(context, nullptr, ecdsa ? EVP_sha256() : nullptr, nullptr, key) ==
            1);
    REQUIRE(EVP_DigestSign(context, bytes, &size,
                           reinterpret_cast<const unsigned char*>(data.data()), data.size()) == 1);
    EVP_MD_CTX_free(context);
    return {reinterpret_cast<char*>(bytes), size};
  }
  static std::string pairOf(const std::string& der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    std::string text;
    for (const BIGNUM* number : {ECDSA_SIG_get0_r(pair), ECDSA_SIG_get0_s(pair)}) {
      std::string bytes(static_cast<size_t>(BN_num_bytes(number)), '\0');
      BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
      if ((bytes[0] & 0x80) != 0) bytes.insert(bytes.begin(), '\0');
      putString(text, bytes);
    }
    ECDSA_SIG_free(pair);
    return text;
  }
  Result<std::string> sign(std::string_view data) const {
    const std::string flags_and_counter("\x01\0\0\0\x07", 5);
    const std::string signature =
        raw(hashBytes("sha256", "ssh:") + flags_and_counter + hashBytes("sha256", data));
    std::string text;
    putString(text, type);
    putString(text, ecdsa ? pairOf(signature) : signature);
    return text + flags_and_counter;
  }
};

}  // namespace

TEST_CASE("signatures of ssh-keygen, by every type of key and both hashes") {
  const SignatureKit kit;
  for (const auto& named : kTypes) {
    const std::string& name = named.first;
    const auto& type = named.second;
    CAPTURE(name);
    const std::string key = kit.key(name, type);
    for (const char* hash : {"hashalg=sha256", "hashalg=sha512"}) {
      const std::string signature = kit.sign(key, kMessage, {"-O", hash});
      CHECK(judge(signature).has_value());
      const auto changed = judge(signature, kMessage + "x");
      REQUIRE_FALSE(changed.has_value());
      CHECK(changed.error().code == Code::kRefused);
    }
    const auto parsed = parseSshPublicKeyLine(kit.publicLine(key));
    REQUIRE(parsed.has_value());
    CHECK(cctl::test::run({"ssh-keygen", "-l", "-f", key + ".pub"})
              .out.find(parsed->fingerprint() + " ") != std::string::npos);
  }
}

TEST_CASE("hardware keys: ssh-keygen takes what is made, and it is taken here") {
  const SignatureKit kit;
  for (const bool ecdsa : {false, true}) {
    const HardwareKey key{ecdsa};
    const auto text = signSsh(
        key.blob(), [&](std::string_view data) { return key.sign(data); }, kMessage,
        kSignatureNamespace);
    REQUIRE_MESSAGE(text.has_value(), text.error().message);
    CHECK(judge(*text).has_value());
    const std::string line = "qa " + key.type + " " + base64Encode(key.blob()) + "\n";
    CHECK(kit.verifies(line, "qa", *text, kMessage));
    CHECK_FALSE(kit.verifies(line, "qa", *text, "other"));
    // The flags and the counter are signed too.
    std::string blob = blobOf(*text);
    blob.back() = 8;
    CHECK_FALSE(judge(armor(blob)).has_value());
  }
}

TEST_CASE("a signature for another purpose") {
  const SignatureKit kit;
  const std::string key = kit.key("k", {"ed25519"});
  const auto git =
      cctl::test::run({"ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", key}, kMessage);
  const auto verdict = judge(git.out);
  REQUIRE_FALSE(verdict.has_value());
  CHECK(verdict.error().message.find("namespace \"git\"") != std::string::npos);
}

TEST_CASE("no part of a signature can be changed") {
  const SignatureKit kit;
  for (const auto& named : kTypes) {
    const std::string& name = named.first;
    const auto& type = named.second;
    const std::string blob = blobOf(kit.sign(kit.key(name, type), kMessage));
    for (size_t i = 0; i < blob.size(); ++i) {
      std::string changed = blob;
      changed[i] = static_cast<char>(changed[i] ^ 0x40);
      // The reserved field is the one that means nothing: its length is in these four bytes.
      CHECK_FALSE_MESSAGE(judge(armor(changed)).has_value(), name, " byte ", i);
    }
    for (size_t size = 0; size < blob.size(); ++size)
      CHECK_FALSE(judge(armor(blob.substr(0, size))).has_value());
    CHECK_FALSE(judge(armor(blob + '\0')).has_value());
  }
}

TEST_CASE("rsa with SHA-1, and short rsa keys, are refused by name") {
  const SignatureKit kit;
  const std::string key = kit.key("k", {"rsa", "-b", "2048"});
  std::string blob = blobOf(kit.sign(key, kMessage));
  const size_t at = blob.find("rsa-sha2-512");
  REQUIRE(at != std::string::npos);
  // Lengths before it: of the algorithm, and of the whole signature field around both.
  blob[at - 1] = 7;
  blob[at - 5] = static_cast<char>(blob[at - 5] - 5);
  blob.replace(at, 12, "ssh-rsa");
  const auto verdict = judge(armor(blob));
  REQUIRE_FALSE(verdict.has_value());
  CHECK(verdict.error().message.find("SHA-1") != std::string::npos);

  const auto small = parseSshPublicKeyLine(kit.publicLine(kit.key("s", {"rsa", "-b", "1024"})));
  REQUIRE_FALSE(small.has_value());
  CHECK(small.error().message.find("1024 bits is too short") != std::string::npos);
  const auto dsa = parseSshPublicKeyLine("ssh-dss AAAAB3NzaC1kc3MAAAAA x");
  REQUIRE_FALSE(dsa.has_value());
  CHECK(dsa.error().message.find("ssh-dss are not accepted") != std::string::npos);
}

TEST_CASE("armour") {
  const SignatureKit kit;
  const std::string good = kit.sign(kit.key("k", {"ed25519"}), kMessage);
  std::string crlf;
  for (const char c : good) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  CHECK(judge(crlf).has_value());
  CHECK(judge("\n\n" + good + "\n \n").has_value());
  for (const std::string& bad :
       {std::string(), std::string("x"), "x" + good, good + "x", good + good,
        good.substr(0, good.size() - 4), good.substr(0, good.find("-----END")),
        std::string("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"),
        std::string("-----BEGIN SSH SIGNATURE----------END SSH SIGNATURE-----"),
        std::string("-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----\n"),
        std::string(100'000, 'A')}) {
    const auto parsed = parseSshSignature(bad);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().code == Code::kBadInput);
  }
}

TEST_CASE("fields of hostile length") {
  std::string blob = "SSHSIG";
  putNumber(blob, 1);
  putNumber(blob, 0xffffffff);
  CHECK_FALSE(judge(armor(blob)).has_value());
  blob = "SSHSIG";
  putNumber(blob, 2);
  CHECK(judge(armor(blob)).error().message.find("format 2") != std::string::npos);
  // Points that are not on the curve, and numbers that are no keys.
  std::string key;
  putString(key, "ecdsa-sha2-nistp256");
  putString(key, "nistp256");
  putString(key, "\x04" + std::string(64, '\x01'));
  CHECK_FALSE(parseSshPublicKey(key).has_value());
  for (const std::string& number :
       {std::string(), std::string(300, '\0'), std::string(300, '\xff'), std::string(1, '\x02')}) {
    std::string rsa;
    putString(rsa, "ssh-rsa");
    putString(rsa, "\x03");
    putString(rsa, number);
    CHECK_FALSE(parseSshPublicKey(rsa).has_value());
  }
}

TEST_CASE("a signer that signs something else is found out") {
  const SignatureKit kit;
  const std::string key = kit.key("k", {"ed25519"});
  const auto parsed = parseSshPublicKeyLine(kit.publicLine(key));
  const auto text = signSsh(
      parsed->blob,
      [](std::string_view) -> Result<std::string> {
        std::string signature;
        putString(signature, "ssh-ed25519");
        putString(signature, std::string(64, '\x01'));
        return signature;
      },
      kMessage, kSignatureNamespace);
  REQUIRE_FALSE(text.has_value());
  CHECK(text.error().message.find("not over this content") != std::string::npos);
}
