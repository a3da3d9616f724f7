// What `clusterctl init` writes: a working inventory with commented examples.
#pragma once

#include <string>
#include <vector>

namespace cctl {

struct InitFile {
  std::string path;  // relative to the directory that init was given
  std::string content;
  bool executable = false;
};

// inventory/{cluster.yaml,services/hello.yaml,templates/hello.conf.mustache} and
// releases-src/hello/bin/hello, a release that needs /bin/sh only. As they stand they pass
// `validate`, and deploy to `host` (an address that ssh reaches).
std::vector<InitFile> initFiles(const std::string& host = "localhost");

}  // namespace cctl
