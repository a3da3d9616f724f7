#include "model/init_files.h"

#include <string_view>

namespace cctl {
namespace {

constexpr std::string_view kClusterHead =
    R"(# What runs where: this directory is the only place that says it. Keep it in git.
# `clusterctl validate` checks every file of it and contacts nothing.

cluster: demo

# The directory of clusterctl on every host. A login without root may use its home, as here;
# /opt/clusterctl is usual where the login is root or `become: sudo` is set.
root: ~/.clusterctl

# The store of releases on this machine, relative to this file.
releases: ../releases

# Unset, ssh_config, ssh-agent and known_hosts decide, as they do for ssh. What is here wins.
# ssh: {user: deploy, port: 22, identity_file: ~/.ssh/id_ed25519, connect_timeout: 5s, become: sudo}

# The hosts. The name is the address unless another is given, and one line may stand for many:
#   host[1-3]: {}
#   host4: {address: 10.0.0.14, ssh: {port: 2222}, labels: {rack: b}, vars: {zone: east}}
hosts:
  )";

constexpr std::string_view kClusterTail = R"(: {}

groups:
  hello-hosts: [")";

constexpr std::string_view kClusterEnd = R"("]

# The hosts that keep the registry: 1, 3, 5 or 7 of them. Left out: the first three.
# registry: {hosts: "host[1-3]"}

# The pool for ports that are `auto`.
ports: 21000-29999

# For templates, as {{vars.NAME}}; groups, hosts and services may set their own over these.
vars:
  greeting: Hello
)";

constexpr std::string_view kService =
    R"(# One service: what runs, on which hosts, how it is started, watched and replaced.
# Run `clusterctl deploy hello 1.0.0` to start it.

service: hello

# So many instances in a group; or `{hosts: [host1, host2]}`, one on each.
place: {group: hello-hosts, count: 1}

# A relative program is one of the release. {{…}} is filled in for each instance.
run: [bin/hello, "{{conf_dir}}/hello.conf"]

# Ports: `auto` takes a free one from the pool; the service is told by {{port.main}} and PORT_MAIN.
# {socket: true}: bound by the shim and passed on, so that no connection is refused meanwhile.
# ports: {main: auto}

# Written to {{conf_dir}} before each start, from ../templates.
config:
  - {template: hello.conf.mustache, path: hello.conf, mode: "0644"}

env:
  HELLO_FROM: "{{instance.name}} on {{host.name}}"

# When it counts as started; without this, when it has run for a moment. And what is asked for as
# long as it runs: after so many failures in a row it is restarted.
# health: {ready: {tcp: main}, start_timeout: 30s, live: {tcp: main, interval: 1s, failures: 3}}

# Of all its processes together.
# limits: {memory: 512M, cpu: 0.5}

restart: {policy: always, backoff: 100ms..30s, limit: "10 in 1m"}
stop: {signal: TERM, grace: 5s}

# A new version: so many at once, the new one started before the old one stops.
upgrade: {batch: 25%, order: start-first}

logs: {max_size: 16M, keep: 3}

vars:
  interval: 10
)";

constexpr std::string_view kTemplate =
    R"({{! A template: names in double braces are filled in; an unknown one is an error. }}
# Settings of {{service}} {{version}}, instance {{instance.index}}, read by a shell.
greeting='{{vars.greeting}} from {{host.name}}'
interval={{vars.interval}}
)";

constexpr std::string_view kProgram = R"(#!/bin/sh
# A service that greets: it reads its settings, prints a line now and then, and stops when told.
set -eu
. "$1"
trap 'echo "stopping"; exit 0' TERM INT
echo "started as ${HELLO_FROM}"
while :; do
  echo "${greeting}"
  sleep "${interval}" &
  wait $!
done
)";

std::string clusterFile(const std::string& host) {
  std::string text(kClusterHead);
  text += host;
  text += kClusterTail;
  text += host;
  text += kClusterEnd;
  return text;
}

}  // namespace

std::vector<InitFile> initFiles(const std::string& host) {
  return {
      {"inventory/cluster.yaml", clusterFile(host)},
      {"inventory/services/hello.yaml", std::string(kService)},
      {"inventory/templates/hello.conf.mustache", std::string(kTemplate)},
      {"releases-src/hello/bin/hello", std::string(kProgram), true},
  };
}

}  // namespace cctl
