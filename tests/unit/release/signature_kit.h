// Keys and signatures by the real ssh-keygen.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/subprocess.h"
#include "unit/release/temporary_dir.h"

namespace cctl::test {

inline SubprocessResult run(std::vector<std::string> argv, const std::string& input = "") {
  SubprocessRequest request;
  request.argv = std::move(argv);
  request.input = input;
  const auto result = runSubprocess(request, Deadline::in(Millis(60'000)));
  REQUIRE(result.has_value());
  return *result;
}

class SignatureKit {
 public:
  // "rsa -b 2048" → FILE, with FILE.pub beside it.
  std::string key(const std::string& name, const std::vector<std::string>& type) const {
    std::vector<std::string> argv = {"ssh-keygen", "-q", "-N",       "",  "-C",
                                     name,         "-f", dir / name, "-t"};
    argv.insert(argv.end(), type.begin(), type.end());
    keygen(argv);
    return dir / name;
  }
  std::string publicLine(const std::string& key) const {
    std::string line = readFile(key + ".pub").value();
    line.pop_back();
    return line;
  }
  std::string sign(const std::string& key, const std::string& message,
                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> argv = {"ssh-keygen",         "-Y", "sign", "-q", "-n",
                                     "clusterctl-release", "-f", key};
    argv.insert(argv.end(), more.begin(), more.end());
    const SubprocessResult result = run(argv, message);
    REQUIRE_MESSAGE(result.exit_status == 0, result.err);
    return result.out;
  }
  // Certificate of FILE.pub as FILE-cert.pub.
  std::string certify(const std::string& authority, const std::string& key,
                      const std::vector<std::string>& more) const {
    std::vector<std::string> argv = {"ssh-keygen", "-q", "-s", authority, "-I", "id"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back(key + ".pub");
    keygen(argv);
    return key + "-cert.pub";
  }
  // What `ssh-keygen -Y verify -I principal` says.
  bool verifies(const std::string& allowed, const std::string& principal,
                const std::string& signature, const std::string& message,
                const std::vector<std::string>& more = {}) const {
    const std::string signers = dir.put("verify/allowed", allowed);
    const std::string file = dir.put("verify/sig", signature);
    std::vector<std::string> argv = {
        "ssh-keygen", "-Y",    "verify", "-q",      "-n", "clusterctl-release",
        "-f",         signers, "-I",     principal, "-s", file};
    argv.insert(argv.end(), more.begin(), more.end());
    return run(argv, message).exit_status == 0;
  }
  static void keygen(const std::vector<std::string>& argv) {
    const SubprocessResult result = run(argv);
    REQUIRE_MESSAGE(result.exit_status == 0, result.err);
  }

  TemporaryDir dir;
};

}  // namespace cctl::test
