#include "transport/private_key.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <strings.h>

#include <cstring>

#include "base/base64.h"
#include "base/ssh_wire.h"

// Of libssh.a, which has it from OpenBSD (bcrypt_pbkdf(3)); its headers do not show it.
extern "C" int bcrypt_pbkdf(const char* pass, size_t pass_size, const uint8_t* salt,
                            size_t salt_size, uint8_t* key, size_t key_size, unsigned rounds);

namespace cctl::ssh {
namespace {

constexpr std::string_view kBegin = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr std::string_view kMagic("openssh-key-v1\0", 15);
// A file could ask for hours; ssh-keygen's default is 16, and 1000 take a minute.
constexpr uint32_t kMostRounds = 4096;

const unsigned char* bytesOf(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// Overwritten before its memory is given back.
struct Secret {
  std::string bytes;
  Secret() = default;
  explicit Secret(std::string text) : bytes(std::move(text)) {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() { ::explicit_bzero(bytes.data(), bytes.size()); }
};

// ---- OpenSSH's format ------------------------------------------------------------------------

struct Container {
  std::string_view cipher, derivation, options, secret;
};

Result<void> decodeBase64(const std::string& text, Secret& bytes) {
  const size_t begin = text.find(kBegin) + kBegin.size();
  Secret base64;
  for (const char c : std::string_view(text).substr(begin, text.find("-----END", begin) - begin))
    if (c != '\n' && c != '\r' && c != ' ') base64.bytes += c;
  auto decoded = base64Decode(base64.bytes);
  if (!decoded || !decoded->starts_with(kMagic))
    return fail(Code::kError, "the key file is damaged");
  bytes.bytes = std::move(*decoded);
  return {};
}

Result<Container> parseContainer(std::string_view bytes) {
  WireReader reader(bytes.substr(kMagic.size()));
  Container container;
  container.cipher = reader.string();
  container.derivation = reader.string();
  container.options = reader.string();
  const uint32_t keys = reader.number();
  reader.string();  // public key
  container.secret = reader.string();
  if (reader.failed() || keys != 1) return fail(Code::kError, "the key file is damaged");
  return container;
}

const EVP_CIPHER* cipherOf(std::string_view name) {
  if (name == "aes256-ctr") return EVP_aes_256_ctr();
  if (name == "aes192-ctr") return EVP_aes_192_ctr();
  if (name == "aes128-ctr") return EVP_aes_128_ctr();
  if (name == "aes256-cbc") return EVP_aes_256_cbc();
  if (name == "aes192-cbc") return EVP_aes_192_cbc();
  if (name == "aes128-cbc") return EVP_aes_128_cbc();
  return nullptr;
}

bool decrypt(const EVP_CIPHER* cipher, const std::string& key, const std::string& iv,
             std::string_view from, std::string& to) {
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  to.resize(from.size() + 32);
  int size = 0, rest = 0;
  auto* out = reinterpret_cast<unsigned char*>(to.data());
  const bool good =
      context != nullptr &&
      EVP_DecryptInit_ex(context, cipher, nullptr, bytesOf(key), bytesOf(iv)) == 1 &&
      EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
      EVP_DecryptUpdate(context, out, &size, bytesOf(from), static_cast<int>(from.size())) == 1 &&
      EVP_DecryptFinal_ex(context, out + size, &rest) == 1;
  EVP_CIPHER_CTX_free(context);
  to.resize(good ? static_cast<size_t>(size + rest) : 0);
  return good;
}

Result<void> unlock(const Container& container, const std::string& passphrase, Secret& plain) {
  if (container.cipher == "none") {
    plain.bytes = container.secret;
    return {};
  }
  const EVP_CIPHER* cipher = cipherOf(container.cipher);
  if (cipher == nullptr || container.derivation != "bcrypt")
    return fail(Code::kError, "its cipher is not known here: `ssh-add` it, and the agent signs");
  WireReader options(container.options);
  const std::string_view salt = options.string();
  const uint32_t rounds = options.number();
  if (options.failed() || rounds == 0 || rounds > kMostRounds)
    return fail(Code::kError, "the key file is damaged");
  const auto key_size = static_cast<size_t>(EVP_CIPHER_get_key_length(cipher));
  const auto iv_size = static_cast<size_t>(EVP_CIPHER_get_iv_length(cipher));
  Secret derived(std::string(key_size + iv_size, '\0'));
  Secret key, iv;
  if (bcrypt_pbkdf(passphrase.data(), passphrase.size(), bytesOf(salt), salt.size(),
                   reinterpret_cast<uint8_t*>(derived.bytes.data()), derived.bytes.size(),
                   rounds) != 0)
    return fail(Code::kRefused, "wrong passphrase");
  key.bytes = derived.bytes.substr(0, key_size);
  iv.bytes = derived.bytes.substr(key_size);
  if (!decrypt(cipher, key.bytes, iv.bytes, container.secret, plain.bytes))
    return fail(Code::kError, "the key file is damaged");
  return {};
}

// ---- its fields → libcrypto ------------------------------------------------------------------

struct BuilderFree {
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
};
struct NumberFree {
  void operator()(BIGNUM* number) const { BN_clear_free(number); }
};
using Builder = std::unique_ptr<OSSL_PARAM_BLD, BuilderFree>;
using Number = std::unique_ptr<BIGNUM, NumberFree>;

PrivateKey fromParams(const char* algorithm, OSSL_PARAM_BLD* builder) {
  OSSL_PARAM* params = OSSL_PARAM_BLD_to_param(builder);
  EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_from_name(nullptr, algorithm, nullptr);
  EVP_PKEY* key = nullptr;
  if (params != nullptr && context != nullptr && EVP_PKEY_fromdata_init(context) == 1)
    EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, params);
  EVP_PKEY_CTX_free(context);
  OSSL_PARAM_free(params);
  return {key, EVP_PKEY_free};
}

Number numberOf(std::string_view bytes) {
  // BN_secure_new: without it the parameters refuse private numbers.
  Number number(BN_secure_new());
  BN_bin2bn(bytesOf(bytes), static_cast<int>(bytes.size()), number.get());
  return number;
}

PrivateKey ed25519Key(WireReader& reader) {
  reader.string();  // public key
  const std::string_view seed = reader.string().substr(0, 32);
  if (seed.size() != 32) return nullptr;
  return {EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytesOf(seed), seed.size()),
          EVP_PKEY_free};
}

PrivateKey ecKey(WireReader& reader) {
  const std::string_view curve = reader.string();
  const char* group = curve == "nistp256"   ? "P-256"
                      : curve == "nistp384" ? "P-384"
                      : curve == "nistp521" ? "P-521"
                                            : nullptr;
  const std::string_view point = reader.string();
  const Number secret = numberOf(reader.string());
  const Builder builder(OSSL_PARAM_BLD_new());
  if (group == nullptr || point.empty() ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, group, 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                       point.size()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, secret.get()) != 1)
    return nullptr;
  return fromParams("EC", builder.get());
}

// Without its factors: signing is slower, and needs none of what OpenSSH leaves out.
PrivateKey rsaKey(WireReader& reader) {
  const Number n = numberOf(reader.string());
  const Number e = numberOf(reader.string());
  const Number d = numberOf(reader.string());
  const Builder builder(OSSL_PARAM_BLD_new());
  if (OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_D, d.get()) != 1)
    return nullptr;
  return fromParams("RSA", builder.get());
}

Result<PrivateKey> keyIn(std::string_view plain) {
  WireReader reader(plain);
  const uint32_t check = reader.number();
  if (reader.number() != check || reader.failed()) return fail(Code::kRefused, "wrong passphrase");
  const std::string_view type = reader.string();
  PrivateKey key;
  if (type == "ssh-ed25519") key = ed25519Key(reader);
  if (type == "ssh-rsa") key = rsaKey(reader);
  if (type.starts_with("ecdsa-sha2-")) key = ecKey(reader);
  if (!key || reader.failed())
    return fail(Code::kError, "keys of this type cannot sign here: use ed25519, ecdsa or rsa");
  return key;
}

// ---- PEM -------------------------------------------------------------------------------------

int givePassphrase(char* buffer, int size, int, void* passphrase) {
  const auto& text = *static_cast<const std::string*>(passphrase);
  if (text.size() > static_cast<size_t>(size)) return -1;
  std::memcpy(buffer, text.data(), text.size());
  return static_cast<int>(text.size());
}

Result<PrivateKey> fromPem(const std::string& text, std::string passphrase) {
  BIO* bio = BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
  const PrivateKey key(PEM_read_bio_PrivateKey(bio, nullptr, givePassphrase, &passphrase),
                       EVP_PKEY_free);
  BIO_free(bio);
  ::explicit_bzero(passphrase.data(), passphrase.size());
  if (key) return key;
  const bool locked = text.find("ENCRYPTED") != std::string::npos;
  return fail(locked ? Code::kRefused : Code::kError, "{}",
              locked ? "wrong passphrase" : "no private key that can be read");
}

// ---- signatures ------------------------------------------------------------------------------

void putMpint(std::string& out, const BIGNUM* number) {
  std::string bytes(static_cast<size_t>(BN_num_bytes(number)), '\0');
  BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
  // The first bit would be a sign.
  if (!bytes.empty() && (bytes[0] & 0x80) != 0) bytes.insert(bytes.begin(), '\0');
  putString(out, bytes);
}

// libcrypto's form → RFC 5656's.
std::string ecdsaSignature(std::string_view der) {
  const unsigned char* at = bytesOf(der);
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
  std::string bytes;
  if (pair == nullptr) return bytes;
  putMpint(bytes, ECDSA_SIG_get0_r(pair));
  putMpint(bytes, ECDSA_SIG_get0_s(pair));
  ECDSA_SIG_free(pair);
  return bytes;
}

struct Algorithm {
  std::string name;              // as it stands in the signature
  const EVP_MD* hash = nullptr;  // nullptr: Ed25519 has its own
  bool ecdsa = false;
};

Result<Algorithm> algorithmOf(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_ED25519:
      return Algorithm{"ssh-ed25519", nullptr, false};
    case EVP_PKEY_RSA:
      return Algorithm{"rsa-sha2-512", EVP_sha512(), false};
    case EVP_PKEY_EC:
      switch (EVP_PKEY_get_bits(key)) {
        case 256:
          return Algorithm{"ecdsa-sha2-nistp256", EVP_sha256(), true};
        case 384:
          return Algorithm{"ecdsa-sha2-nistp384", EVP_sha384(), true};
        case 521:
          return Algorithm{"ecdsa-sha2-nistp521", EVP_sha512(), true};
        default:
          break;
      }
      break;
    default:
      break;
  }
  return fail(Code::kError, "keys of this type cannot sign here: use ed25519, ecdsa or rsa");
}

}  // namespace

Result<PrivateKey> parsePrivateKey(const std::string& text, const std::string& passphrase) {
  if (text.find(kBegin) == std::string::npos) return fromPem(text, passphrase);
  Secret bytes, plain;
  CCTL_CHECK(decodeBase64(text, bytes));
  CCTL_TRY(const Container container, parseContainer(bytes.bytes));
  CCTL_CHECK(unlock(container, passphrase, plain));
  return keyIn(plain.bytes);
}

Result<std::string> signWith(const PrivateKey& key, std::string_view data) {
  CCTL_TRY(const Algorithm algorithm, algorithmOf(key.get()));
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  size_t size = 0;
  std::string bytes;
  bool good = context != nullptr &&
              EVP_DigestSignInit(context, nullptr, algorithm.hash, nullptr, key.get()) == 1 &&
              EVP_DigestSign(context, nullptr, &size, bytesOf(data), data.size()) == 1;
  if (good) {
    bytes.resize(size);
    good = EVP_DigestSign(context, reinterpret_cast<unsigned char*>(bytes.data()), &size,
                          bytesOf(data), data.size()) == 1;
    bytes.resize(size);
  }
  EVP_MD_CTX_free(context);
  if (!good) return fail(Code::kError, "libcrypto could not sign");
  std::string signature;
  putString(signature, algorithm.name);
  putString(signature, algorithm.ecdsa ? ecdsaSignature(bytes) : bytes);
  return signature;
}

}  // namespace cctl::ssh
