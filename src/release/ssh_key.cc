#include "release/ssh_key.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "base/base64.h"
#include "base/ssh_wire.h"

namespace cctl::release {
namespace {

// One kind of key that is accepted.
struct Kind {
  std::string_view type;         // of the plain key
  std::string_view certificate;  // of a certificate of such a key
  std::string_view curve;        // SSH's name for it; empty for Ed25519 and RSA
  const char* group;             // libcrypto's
  size_t point;                  // bytes of an uncompressed point
  const EVP_MD* (*hash)();       // of ECDSA
  bool security_key;
};

constexpr Kind kKinds[] = {
    {"ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", "", nullptr, 0, nullptr, false},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256-cert-v01@openssh.com", "nistp256", "P-256", 65,
     EVP_sha256, false},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384-cert-v01@openssh.com", "nistp384", "P-384", 97,
     EVP_sha384, false},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521-cert-v01@openssh.com", "nistp521", "P-521", 133,
     EVP_sha512, false},
    {"ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "", nullptr, 0, nullptr, false},
    {"sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com", "", nullptr, 0, nullptr,
     true},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
     "nistp256", "P-256", 65, EVP_sha256, true},
};

constexpr size_t kEd25519Key = 32;
constexpr size_t kMostPrincipals = 256;  // as OpenSSH
// Types and algorithms that are known and not accepted are named in messages; others only if short.
constexpr size_t kMostTypeName = 64;

const Kind& kindOf(const SshPublicKey& key) {
  for (const Kind& kind : kKinds)
    if (kind.type == key.type) return kind;
  return kKinds[0];  // a parsed key has one of the types
}

std::string shownType(std::string_view type) {
  std::string text;
  for (const char c : type.substr(0, kMostTypeName)) text += c > ' ' && c < 0x7f ? c : '?';
  return text;
}

tl::unexpected<Error> failCut(std::string_view what) {
  return fail(Code::kBadInput, "the {} is cut short or damaged", what);
}

// ---- keys → libcrypto ------------------------------------------------------------------------

using Key = std::shared_ptr<EVP_PKEY>;

Key own(EVP_PKEY* key) { return {key, EVP_PKEY_free}; }

template <typename T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Freer<EVP_PKEY_CTX, EVP_PKEY_CTX_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freer<OSSL_PARAM, OSSL_PARAM_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Freer<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>>;
using Number = std::unique_ptr<BIGNUM, Freer<BIGNUM, BN_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX, EVP_MD_CTX_free>>;

const unsigned char* bytesOf(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Key fromParams(const char* algorithm, OSSL_PARAM_BLD* builder) {
  const Params params(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, algorithm, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
    return nullptr;
  return own(key);
}

Key ed25519Key(std::string_view bytes) {
  if (bytes.size() != kEd25519Key) return nullptr;
  return own(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytesOf(bytes), bytes.size()));
}

Key ecKey(const Kind& kind, std::string_view point) {
  // Uncompressed only, as OpenSSH; libcrypto checks that it is on the curve.
  if (point.size() != kind.point || point[0] != 4) return nullptr;
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, kind.group, 0) !=
          1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                       point.size()) != 1)
    return nullptr;
  return fromParams("EC", builder.get());
}

// RFC 4251's mpint; nullptr for negative ones and those of more than `most` bytes.
Number number(std::string_view bytes, size_t most) {
  if (bytes.empty() || (static_cast<unsigned char>(bytes[0]) & 0x80) != 0) return nullptr;
  if (bytes.size() > most + 1) return nullptr;
  return Number(BN_bin2bn(bytesOf(bytes), static_cast<int>(bytes.size()), nullptr));
}

Result<Key> rsaKey(std::string_view exponent, std::string_view modulus) {
  const Number e = number(exponent, 8);
  const Number n = number(modulus, kMostRsaBits / 8);
  if (!e || !n || BN_is_odd(e.get()) == 0 || BN_is_one(e.get()) == 1) return Key();
  if (BN_num_bits(n.get()) < kLeastRsaBits)
    return fail(Code::kBadInput, "an RSA key of {} bits is too short to be trusted: {} at least",
                BN_num_bits(n.get()), kLeastRsaBits);
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1)
    return Key();
  return fromParams("RSA", builder.get());
}

// Reads the fields of a plain key off `reader`.
Result<void> readKey(const Kind& kind, WireReader& reader, SshPublicKey& key) {
  const bool rsa = kind.type == "ssh-rsa";
  const std::string_view first = reader.string();
  const std::string_view second = kind.curve.empty() && !rsa ? "" : reader.string();
  if (kind.security_key) key.application = reader.string();
  if (reader.failed()) return failCut("key");
  if (rsa) {
    CCTL_TRY(key.key, rsaKey(first, second));
  } else if (kind.curve.empty()) {
    key.key = ed25519Key(first);
  } else if (first == kind.curve) {
    key.key = ecKey(kind, second);
  }
  if (!key.key) return fail(Code::kBadInput, "this is no valid {} key", kind.type);
  return {};
}

// ---- certificates ----------------------------------------------------------------------------

// A string that is made of strings.
Result<std::vector<std::string>> stringsIn(std::string_view bytes, size_t most) {
  std::vector<std::string> all;
  WireReader reader(bytes);
  while (!reader.rest().empty()) {
    all.emplace_back(reader.string());
    if (reader.failed() || all.size() > most) return failCut("certificate");
  }
  return all;
}

// Names and values in turn; the names.
Result<std::vector<std::string>> optionNames(std::string_view bytes) {
  CCTL_TRY(const std::vector<std::string> all, stringsIn(bytes, kMostPrincipals));
  if (all.size() % 2 != 0) return failCut("certificate");
  std::vector<std::string> names;
  for (size_t i = 0; i < all.size(); i += 2) names.push_back(all[i]);
  return names;
}

Result<void> checkAuthority(std::string_view authority, std::string_view data,
                            std::string_view signature) {
  auto key = parseSshPublicKey(authority);
  if (!key) return fail(key.error().context("the certificate's authority"));
  if (key->certificate)
    return fail(Code::kBadInput, "the certificate's authority is itself a certificate");
  if (auto good = verifySshSignature(*key, data, signature); !good)
    return fail(Code::kBadInput, "the certificate was not signed by its authority {}: {}",
                key->fingerprint(), good.error().message);
  return {};
}

// What follows the key's fields; `whole` is the blob that `reader` reads.
Result<SshCertificate> readCertificate(std::string_view whole, WireReader& reader) {
  SshCertificate certificate;
  reader.number64();  // serial
  const uint32_t type = reader.number();
  certificate.key_id = reader.string();
  const std::string_view principals = reader.string();
  certificate.valid_after = reader.number64();
  certificate.valid_before = reader.number64();
  const std::string_view critical = reader.string();
  reader.string();  // extensions
  reader.string();  // reserved
  certificate.authority = reader.string();
  const std::string_view data = whole.substr(0, whole.size() - reader.rest().size());
  const std::string_view signature = reader.string();
  if (reader.failed() || !reader.rest().empty() || (type != 1 && type != 2))
    return failCut("certificate");
  certificate.user = type == 1;
  CCTL_TRY(certificate.principals, stringsIn(principals, kMostPrincipals));
  CCTL_TRY(certificate.critical, optionNames(critical));
  CCTL_CHECK(checkAuthority(certificate.authority, data, signature));
  return certificate;
}

Result<void> readCertified(const Kind& kind, std::string_view blob, WireReader& reader,
                           SshPublicKey& key) {
  reader.string();  // nonce
  const std::string_view fields = reader.rest();
  CCTL_CHECK(readKey(kind, reader, key));
  putString(key.plain_blob, kind.type);
  key.plain_blob += fields.substr(0, fields.size() - reader.rest().size());
  CCTL_TRY(key.certificate, readCertificate(blob, reader));
  return {};
}

// ---- signatures ------------------------------------------------------------------------------

Result<void> verdict(bool good) {
  if (!good) return fail(Code::kRefused, "the signature is not over this content");
  return {};
}

bool verifies(EVP_PKEY* key, const EVP_MD* hash, std::string_view data,
              std::string_view signature) {
  const DigestContext context(EVP_MD_CTX_new());
  return context && EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), bytesOf(signature), signature.size(), bytesOf(data),
                          data.size()) == 1;
}

Result<void> verifyRsa(const SshPublicKey& key, std::string_view algorithm, std::string_view data,
                       std::string_view signature) {
  if (algorithm == "ssh-rsa")
    return fail(Code::kRefused,
                "an RSA signature with SHA-1, which can be forged, is not accepted: sign again "
                "with OpenSSH 8.1 or newer");
  const bool sha512 = algorithm == "rsa-sha2-512";
  if (!sha512 && algorithm != "rsa-sha2-256")
    return fail(Code::kRefused, "{} is no algorithm of an RSA key", shownType(algorithm));
  const auto size = static_cast<size_t>(EVP_PKEY_get_size(key.key.get()));
  if (signature.size() > size) return verdict(false);
  // Some write it without its leading zeros.
  const std::string padded = std::string(size - signature.size(), '\0') + std::string(signature);
  return verdict(verifies(key.key.get(), sha512 ? EVP_sha512() : EVP_sha256(), data, padded));
}

// Two mpints, as RFC 5656 has them → DER, as libcrypto has them; empty when they are not.
std::string derOf(std::string_view signature) {
  WireReader reader(signature);
  Number r = number(reader.string(), 66);
  Number s = number(reader.string(), 66);
  if (reader.failed() || !reader.rest().empty() || !r || !s) return {};
  ECDSA_SIG* pair = ECDSA_SIG_new();
  if (pair == nullptr) return {};
  ECDSA_SIG_set0(pair, r.release(), s.release());
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(pair, &der);
  std::string text;
  if (size > 0) text.assign(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  ECDSA_SIG_free(pair);
  return text;
}

}  // namespace

std::string hashBytes(std::string_view name, std::string_view data) {
  const EVP_MD* hash = name == "sha256" ? EVP_sha256() : name == "sha512" ? EVP_sha512() : nullptr;
  if (hash == nullptr) return {};
  std::string digest(static_cast<size_t>(EVP_MD_get_size(hash)), '\0');
  if (EVP_Digest(data.data(), data.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr,
                 hash, nullptr) != 1)
    return {};
  return digest;
}

std::string SshPublicKey::fingerprint() const {
  return "SHA256:" + base64Encode(hashBytes("sha256", plain_blob), false);
}

Result<SshPublicKey> parseSshPublicKey(std::string_view blob) {
  WireReader reader(blob);
  const std::string_view type = reader.string();
  if (reader.failed()) return failCut("key");
  for (const Kind& kind : kKinds) {
    if (type != kind.type && type != kind.certificate) continue;
    SshPublicKey key;
    key.type = kind.type;
    key.blob = blob;
    if (type == kind.certificate) {
      CCTL_CHECK(readCertified(kind, blob, reader, key));
      return key;
    }
    key.plain_blob = blob;
    CCTL_CHECK(readKey(kind, reader, key));
    if (!reader.rest().empty()) return fail(Code::kBadInput, "there is more behind the key");
    return key;
  }
  return fail(Code::kBadInput,
              "keys of type {} are not accepted: use ed25519, ecdsa, rsa, or a hardware key of "
              "the first two",
              shownType(type));
}

Result<SshPublicKey> parseSshPublicKeyLine(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t type_end = std::min(line.find_first_of(kBlank), line.size());
  const std::string_view type = line.substr(0, type_end);
  line.remove_prefix(std::min(line.find_first_not_of(kBlank, type_end), line.size()));
  const auto blob = base64Decode(line.substr(0, line.find_first_of(kBlank)));
  if (!blob || blob->empty()) return fail(Code::kBadInput, "there is no key like \"TYPE BASE64\"");
  if (WireReader(*blob).string() != type)
    return fail(Code::kBadInput, "the key is not of the type {} that stands before it",
                shownType(type));
  return parseSshPublicKey(*blob);
}

Result<void> verifySshSignature(const SshPublicKey& key, std::string_view data,
                                std::string_view signature) {
  WireReader reader(signature);
  const std::string_view algorithm = reader.string();
  const std::string_view bytes = reader.string();
  const Kind& kind = kindOf(key);
  std::string signed_data;
  if (kind.security_key) {
    // What the token signs: the application, its flags and counter, and the digest of the data.
    signed_data = hashBytes("sha256", key.application);
    signed_data += reader.rest().substr(0, 5);
    reader.byte(), reader.number();
    signed_data += hashBytes("sha256", data);
    data = signed_data;
  }
  if (reader.failed() || !reader.rest().empty())
    return fail(Code::kRefused, "the signature is cut short or damaged");
  if (kind.type == "ssh-rsa") return verifyRsa(key, algorithm, data, bytes);
  if (algorithm != kind.type)
    return fail(Code::kRefused, "{} is no algorithm of a key of type {}", shownType(algorithm),
                kind.type);
  if (kind.curve.empty()) return verdict(verifies(key.key.get(), nullptr, data, bytes));
  const std::string der = derOf(bytes);
  return verdict(!der.empty() && verifies(key.key.get(), kind.hash(), data, der));
}

}  // namespace cctl::release
