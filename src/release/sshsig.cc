#include "release/sshsig.h"

#include "base/base64.h"
#include "base/ssh_wire.h"

namespace cctl::release {
namespace {

constexpr std::string_view kBegin = "-----BEGIN SSH SIGNATURE-----";
constexpr std::string_view kEnd = "-----END SSH SIGNATURE-----";
constexpr std::string_view kMagic = "SSHSIG";
constexpr uint32_t kSigVersion = 1;
constexpr std::string_view kHash = "sha512";  // what ssh-keygen uses
constexpr size_t kLineWidth = 70;
constexpr std::string_view kBlank = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

Result<std::string> dearmor(std::string_view text) {
  text = trimmed(text);
  if (text.size() > kMaxSignatureFile)
    return fail(Code::kBadInput, "too long for a signature: {} bytes at most", kMaxSignatureFile);
  if (!text.starts_with(kBegin))
    return fail(Code::kBadInput, "no signature: it does not begin with \"{}\"", kBegin);
  const size_t end = text.find(kEnd);
  if (end == std::string_view::npos || end + kEnd.size() != text.size() || text[end - 1] != '\n')
    return fail(Code::kBadInput, "the signature is cut short: it does not end with \"{}\"", kEnd);
  std::string base64;
  for (const char c : text.substr(kBegin.size(), end - kBegin.size()))
    if (kBlank.find(c) == std::string_view::npos) base64 += c;
  auto blob = base64Decode(base64);
  if (!blob) return fail(Code::kBadInput, "the signature is damaged: it is not base64");
  return std::move(*blob);
}

std::string armored(std::string_view blob) {
  const std::string base64 = base64Encode(blob);
  std::string text = std::string(kBegin) + "\n";
  for (size_t at = 0; at < base64.size(); at += kLineWidth)
    text += base64.substr(at, kLineWidth) + "\n";
  return text + std::string(kEnd) + "\n";
}

// What the key signs, instead of the message itself.
std::string signedData(std::string_view name_space, std::string_view hash,
                       std::string_view message) {
  std::string data(kMagic);
  putString(data, name_space);
  putString(data, "");  // reserved
  putString(data, hash);
  putString(data, hashBytes(hash, message));
  return data;
}

std::string encode(const SshSignature& signature) {
  std::string blob(kMagic);
  putNumber(blob, kSigVersion);
  putString(blob, signature.key.blob);
  putString(blob, signature.name_space);
  putString(blob, "");  // reserved
  putString(blob, signature.hash);
  putString(blob, signature.signature);
  return blob;
}

}  // namespace

Result<SshSignature> parseSshSignature(std::string_view text) {
  CCTL_TRY(const std::string blob, dearmor(text));
  if (!blob.starts_with(kMagic)) return fail(Code::kBadInput, "this is no SSH signature");
  WireReader reader(std::string_view(blob).substr(kMagic.size()));
  const uint32_t version = reader.number();
  if (!reader.failed() && version != kSigVersion)
    return fail(Code::kBadInput, "a signature of format {}, and this build knows format {} only",
                version, kSigVersion);
  const std::string_view key = reader.string();
  SshSignature signature;
  signature.name_space = reader.string();
  reader.string();  // reserved: ignored, as PROTOCOL.sshsig asks
  signature.hash = reader.string();
  signature.signature = reader.string();
  if (reader.failed() || !reader.rest().empty())
    return fail(Code::kBadInput, "the signature is cut short or damaged");
  if (signature.hash != "sha256" && signature.hash != "sha512")
    return fail(Code::kBadInput, "its hash is neither sha256 nor sha512");
  CCTL_TRY(signature.key, parseSshPublicKey(key));
  return signature;
}

Result<void> verifySshSignature(const SshSignature& signature, std::string_view message,
                                std::string_view name_space) {
  if (signature.name_space != name_space)
    return fail(Code::kRefused,
                "it was made for another purpose (namespace \"{}\"): sign with "
                "`ssh-keygen -Y sign -n {}`",
                signature.name_space, name_space);
  return verifySshSignature(signature.key,
                            signedData(signature.name_space, signature.hash, message),
                            signature.signature);
}

Result<std::string> signSsh(std::string_view public_blob, const SignFunction& sign,
                            std::string_view message, std::string_view name_space) {
  SshSignature signature;
  CCTL_TRY(signature.key, parseSshPublicKey(public_blob));
  signature.name_space = name_space;
  signature.hash = kHash;
  CCTL_TRY(signature.signature, sign(signedData(name_space, kHash, message)));
  const std::string text = armored(encode(signature));
  CCTL_TRY(const SshSignature read, parseSshSignature(text));
  if (auto good = verifySshSignature(read, message, name_space); !good)
    return fail(good.error().context("what the key's holder returned"));
  return text;
}

}  // namespace cctl::release
