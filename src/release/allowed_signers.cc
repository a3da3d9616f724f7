#include "release/allowed_signers.h"

#include <algorithm>
#include <cctype>
#include <ctime>
#include <limits>

#include "base/file.h"
#include "base/pattern.h"
#include "model/utf8.h"

namespace cctl::release {
namespace {

constexpr size_t kMaxFile = 4u << 20;
constexpr std::string_view kBlank = " \t\r";
const std::vector<std::string> kOptions = {"cert-authority", "namespaces", "valid-after",
                                           "valid-before"};

bool equalsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) ==
                  std::tolower(static_cast<unsigned char>(y));
         });
}

// ---- times -----------------------------------------------------------------------------------

// Digits off the front.
int takeNumber(std::string_view& text, size_t digits) {
  int value = 0;
  for (size_t i = 0; i < digits; ++i) value = value * 10 + (text[i] - '0');
  text.remove_prefix(digits);
  return value;
}

// YYYYMMDD[HHMM[SS]][Z]
std::optional<WallTime> parseSignerTime(std::string_view text) {
  bool utc = false;
  for (const std::string_view zone : {"UTC", "Z"}) {
    if (text.size() <= zone.size() ||
        !equalsIgnoringCase(text.substr(text.size() - zone.size()), zone))
      continue;
    utc = true;
    text.remove_suffix(zone.size());
    break;
  }
  if (text.size() != 8 && text.size() != 12 && text.size() != 14) return std::nullopt;
  if (text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  std::tm time{};
  time.tm_year = takeNumber(text, 4) - 1900;
  time.tm_mon = takeNumber(text, 2) - 1;
  time.tm_mday = takeNumber(text, 2);
  if (!text.empty()) time.tm_hour = takeNumber(text, 2), time.tm_min = takeNumber(text, 2);
  if (!text.empty()) time.tm_sec = takeNumber(text, 2);
  time.tm_isdst = -1;
  const std::tm asked = time;
  const std::time_t seconds = utc ? ::timegm(&time) : ::mktime(&time);
  // Both make the 3rd of March of the 31st of February.
  if (time.tm_mon != asked.tm_mon || time.tm_mday != asked.tm_mday || asked.tm_hour > 23 ||
      asked.tm_min > 59 || asked.tm_sec > 59 || seconds <= 0)
    return std::nullopt;
  return WallTime(std::chrono::seconds(seconds));
}

// ---- one line --------------------------------------------------------------------------------

// Reads a line from left to right; the first mistake ends it.
class LineReader {
 public:
  LineReader(std::string_view line, Location where, Problems& problems)
      : line_(line), where_(std::move(where)), problems_(problems) {}

  std::optional<AllowedSigner> read() {
    AllowedSigner signer;
    skipBlanks();
    signer.where = here();
    if (!readPrincipals(signer)) return std::nullopt;
    skipBlanks();
    if (!keyFollows() && !readOptions(signer)) return std::nullopt;
    skipBlanks();
    return readKey(signer) ? std::optional(std::move(signer)) : std::nullopt;
  }

 private:
  Location here() const { return at(at_); }
  Location at(size_t offset) const {
    return {where_.file, where_.line, static_cast<int>(offset) + 1};
  }
  bool fail(size_t offset, std::string message, std::string hint) {
    problems_.add(at(offset), std::move(message), std::move(hint));
    return false;
  }
  std::string_view rest() const { return line_.substr(at_); }
  void skipBlanks() { at_ = std::min(line_.find_first_not_of(kBlank, at_), line_.size()); }
  std::string_view wordAt(size_t offset) const {
    const size_t end = line_.find_first_of(kBlank, offset);
    return line_.substr(offset, end == std::string_view::npos ? end : end - offset);
  }

  // Up to a blank, or to the end of a quoted part, as OpenSSH takes it.
  bool readPrincipals(AllowedSigner& signer) {
    const size_t begin = at_;
    const size_t end = std::min(line_.find_first_of(" \t\r\"", at_), line_.size());
    signer.principals = line_.substr(at_, end - at_);
    at_ = end;
    if (end < line_.size() && line_[end] == '"') {
      const size_t close = line_.find('"', end + 1);
      if (close == std::string_view::npos)
        return fail(end, "the quotes are not closed", "write \" at the end of the principals");
      signer.principals += line_.substr(end + 1, close - end - 1);
      at_ = close + 1;
    }
    if (signer.principals.find_first_not_of(" ,!") == std::string::npos)
      return fail(begin, "nobody is named", "write like `alice@example.com ssh-ed25519 AAAA…`");
    return true;
  }

  // A key's type and its base64, which for every kind begins with a length below 2^16.
  bool keyFollows() const {
    const std::string_view type = wordAt(at_);
    if (type.empty() || type.find_first_of("\"=,") != std::string_view::npos) return false;
    const size_t next = line_.find_first_not_of(kBlank, at_ + type.size());
    return next != std::string_view::npos && line_.substr(next).starts_with("AAAA");
  }

  bool readOptions(AllowedSigner& signer) {
    const size_t begin = at_;
    if (rest().empty()) return fail(at_, "there is no key", "write one like `ssh-ed25519 AAAA…`");
    while (true) {
      if (!readOption(signer)) return false;
      if (at_ == line_.size() || kBlank.find(line_[at_]) != std::string_view::npos) break;
      if (line_[at_] != ',')
        return fail(at_, "options are not parted by commas", "write one between two options");
      ++at_;
    }
    if (signer.valid_after && signer.valid_before && *signer.valid_after >= *signer.valid_before)
      return fail(begin, "valid-before is not later than valid-after", "correct one of them");
    return true;
  }

  bool readOption(AllowedSigner& signer) {
    const size_t begin = at_;
    const size_t end = std::min(line_.find_first_of(" \t\r,=\"", at_), line_.size());
    const std::string name = printable(line_.substr(at_, end - at_));
    at_ = end;
    const auto known = std::find_if(kOptions.begin(), kOptions.end(), [&](const auto& option) {
      return equalsIgnoringCase(option, name);
    });
    if (known == kOptions.end())
      return fail(
          begin, fmt::format("unknown option \"{}\"", name),
          spellingHint(name, kOptions, fmt::format("known here: {}", fmt::join(kOptions, ", "))));
    if (*known == "cert-authority") {
      signer.authority = true;
      return true;
    }
    const auto value = readQuoted(begin, *known);
    return value && setOption(signer, begin, *known, *value);
  }

  // ="VALUE"; \" stands for a quote.
  std::optional<std::string> readQuoted(size_t begin, const std::string& name) {
    std::string value;
    if (rest().substr(0, 2) == "=\"") {
      for (size_t i = at_ + 2; i < line_.size(); ++i) {
        if (line_[i] == '"') {
          at_ = i + 1;
          return value;
        }
        if (line_[i] == '\\' && i + 1 < line_.size() && line_[i + 1] == '"') ++i;
        value += line_[i];
      }
    }
    fail(begin, fmt::format("{} has no value in quotes", name),
         fmt::format("write like {}=\"…\"", name));
    return std::nullopt;
  }

  bool setOption(AllowedSigner& signer, size_t begin, const std::string& name,
                 const std::string& value) {
    const auto twice = [&] {
      return fail(begin, fmt::format("{} is given twice", name), "remove one");
    };
    if (name == "namespaces") {
      if (signer.purpose) return twice();
      signer.purpose = value;
      return true;
    }
    std::optional<WallTime>& time =
        name == "valid-after" ? signer.valid_after : signer.valid_before;
    if (time) return twice();
    time = parseSignerTime(value);
    if (!time)
      return fail(begin, fmt::format("{}: \"{}\" is not a time", name, printable(value)),
                  "write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with a Z behind it for UTC");
    return true;
  }

  bool readKey(AllowedSigner& signer) {
    const size_t begin = at_;
    auto key = parseSshPublicKeyLine(rest());
    if (!key)
      return fail(begin, key.error().message, "write a line of a .pub file behind the principals");
    if (key->certificate)
      return fail(begin, "this is a certificate",
                  "write the key of its authority, with the option cert-authority");
    signer.key = std::move(*key);
    return true;
  }

  std::string_view line_;
  Location where_;
  Problems& problems_;
  size_t at_ = 0;
};

// ---- who it is -------------------------------------------------------------------------------

std::vector<std::string> partsOf(std::string_view list) {
  std::vector<std::string> parts;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (const auto part = list.substr(0, comma); !part.empty()) parts.emplace_back(part);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
  return parts;
}

bool isPattern(std::string_view text) { return text.find_first_of("*?") != std::string_view::npos; }

std::string dateText(uint64_t seconds) {
  constexpr uint64_t kMost = 253'402'300'799;  // the end of 9999
  return formatTime(WallTime(std::chrono::seconds(static_cast<int64_t>(std::min(seconds, kMost)))));
}

// Why the certificate does not hold today; empty when it does.
std::string certificateProblem(const SshCertificate& certificate, WallTime now) {
  const auto seconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
  if (!certificate.user) return "its certificate is that of a host, not of a person";
  if (seconds < certificate.valid_after)
    return "its certificate is valid only from " + dateText(certificate.valid_after) + " on";
  if (seconds >= certificate.valid_before)
    return "its certificate expired at " + dateText(certificate.valid_before);
  if (!certificate.critical.empty())
    return fmt::format("its certificate is restricted by the option {}, which means nothing here",
                       certificate.critical.front());
  if (certificate.principals.empty()) return "its certificate names nobody";
  return "";
}

// Why a line for this key does not let it sign; empty when it does.
std::string lineProblem(const AllowedSigner& line, std::string_view name_space, WallTime now) {
  if (line.purpose && matchesPatternList(name_space, *line.purpose) != ListMatch::kMatched)
    return fmt::format("{} lets its key sign in the namespaces {} only, not in {}",
                       line.where.text(), *line.purpose, name_space);
  if (line.valid_after && now < *line.valid_after)
    return fmt::format("{} lets its key sign only from {} on", line.where.text(),
                       formatTime(*line.valid_after));
  if (line.valid_before && now > *line.valid_before)
    return fmt::format("{} lets its key sign only until {}", line.where.text(),
                       formatTime(*line.valid_before));
  return "";
}

// By a certificate: the names that both it and the line give.
Signer certifiedSigner(const AllowedSigner& line, const SshCertificate& certificate) {
  Signer signer;
  signer.certified = true;
  for (const std::string& name : certificate.principals) {
    if (name.find_first_of(",!") != std::string::npos) continue;  // it would read as two, or none
    if (matchesPatternList(name, line.principals) != ListMatch::kMatched) continue;
    if (signer.person.empty()) signer.person = name;
    signer.principals += (signer.principals.empty() ? "" : ",") + name;
  }
  return signer;
}

Signer keySigner(const AllowedSigner& line) {
  Signer signer;
  signer.principals = line.principals;
  for (const std::string& part : partsOf(line.principals))
    if (signer.person.empty() && part[0] != '!') signer.person = part;
  return signer;
}

bool concerns(const AllowedSigner& line, const SshPublicKey& key) {
  if (!line.authority) return !key.certificate && line.key.plain_blob == key.plain_blob;
  return key.certificate && line.key.plain_blob == key.certificate->authority;
}

}  // namespace

bool Signer::is(std::string_view pattern) const {
  if (certified || isPattern(pattern)) {
    const auto parts = partsOf(principals);
    return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
      return part[0] != '!' && matchesPattern(part, pattern) &&
             (certified || matchesPatternList(part, principals) == ListMatch::kMatched);
    });
  }
  // As `ssh-keygen -Y verify -I NAME` asks.
  return matchesPatternList(pattern, principals) == ListMatch::kMatched;
}

std::vector<AllowedSigner> parseAllowedSigners(std::string_view text, const std::string& file,
                                               Problems& problems) {
  std::vector<AllowedSigner> signers;
  Location where{file, 0, 0};
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++where.line;
    const size_t begin = line.find_first_not_of(kBlank);
    if (begin == std::string_view::npos || line[begin] == '#') continue;
    if (auto signer = LineReader(line, where, problems).read())
      signers.push_back(std::move(*signer));
  }
  return signers;
}

Result<std::vector<AllowedSigner>> loadAllowedSigners(const std::string& file) {
  const auto text = readFile(file, kMaxFile);
  if (!text)
    return fail(Code::kBadInput,
                "{}; sign_off.allowed_signers names it: see ssh-keygen(1), "
                "ALLOWED SIGNERS, for what to write there",
                text.error().message);
  Problems problems;
  auto signers = parseAllowedSigners(*text, file, problems);
  if (!problems.empty()) return fail(toError(problems.sorted()));
  return signers;
}

Result<std::vector<Signer>> findSigners(const std::vector<AllowedSigner>& allowed,
                                        const std::string& file, const SshPublicKey& key,
                                        std::string_view name_space, WallTime now) {
  std::vector<Signer> signers;
  std::string problem;
  for (const AllowedSigner& line : allowed) {
    if (!concerns(line, key)) continue;
    std::string why = lineProblem(line, name_space, now);
    if (why.empty() && key.certificate) why = certificateProblem(*key.certificate, now);
    Signer signer = key.certificate ? certifiedSigner(line, *key.certificate) : keySigner(line);
    if (why.empty() && signer.person.empty())
      why = fmt::format("{} admits none of the names in its certificate", line.where.text());
    if (why.empty())
      signers.push_back(std::move(signer));
    else if (problem.empty())
      problem = why;
  }
  if (!signers.empty()) return signers;
  if (!problem.empty()) return fail(Code::kRefused, "{}", problem);
  if (key.certificate)
    return fail(Code::kRefused, "the authority of its certificate is not in {} (as cert-authority)",
                file);
  return fail(Code::kRefused, "its key is not in {}", file);
}

}  // namespace cctl::release
