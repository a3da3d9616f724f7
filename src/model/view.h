// The names of services, written for software that knows nothing of clusterctl: what `views` of
// cluster.yaml says (registry.md, "Views").
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/names.h"
#include "model/problem.h"

namespace cctl {

enum class ViewKind {
  kPrometheus,  // a file_sd file, JSON
  kNginx,       // an upstream block to include
  kHaproxy,     // no file: servers of a backend, set through HAProxy's runtime socket
  kPlain,       // host:port lines
};

struct View {
  ViewKind kind = ViewKind::kPlain;
  // The file: absolute, or below ROOT/registry/views. Of HAProxy, its socket: absolute.
  std::string path;
  std::vector<ServiceName> services;          // empty: all; exactly one for nginx and HAProxy
  std::string port;                           // its name; empty: the only one that the service has
  std::string name;                           // nginx: the upstream; HAProxy: the backend
  std::vector<std::string> servers;           // HAProxy: those of its server-template
  std::map<std::string, std::string> labels;  // Prometheus: for every target
  std::vector<std::string> reload;            // run after each change; an absolute path first
  std::vector<HostName> hosts;                // where it is written; never empty
  Location where;
};

}  // namespace cctl
