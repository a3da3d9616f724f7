// One generation of one instance: what runs, with which environment and files. Pure.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/endpoint.h"
#include "model/inventory.h"
#include "model/template.h"

namespace cctl {

// All that a rendering depends on. `inventory` and `manifest` must outlive the call only.
struct RenderInput {
  const Inventory* inventory = nullptr;
  const Manifest* manifest = nullptr;
  HostName host;
  std::string host_address;  // the published address; empty: as the inventory says
  std::string root;          // absolute, as on the host
  int index = 0;
  Version version;
  uint64_t generation = 1;
  // Of the spec that is rendered; nullptr: those of the inventory.
  const std::map<std::string, Template>* templates = nullptr;
  std::map<std::string, uint16_t> ports;  // every port of the manifest; 0: not chosen yet, "(auto)"
  std::map<ServiceName, std::vector<Endpoint>> endpoints;  // of every service in depends_on
};

// The names in scope of `run`, `env`, exec probes and templates (interface.md §1): cluster, root,
// host.{name,address,labels.*}, service, version, instance.{name,index}, port.*, release_dir,
// instance_dir, conf_dir, log_dir, data_dir, vars.* (cluster < group < host < service; of several
// groups the last by name wins) and services.NAME, a list of {instance, index, host, address,
// port.*, version, last}.
TemplateContext buildScope(const RenderInput& input);

struct RenderedFile {
  std::string path;  // below conf_dir
  mode_t mode = 0644;
  std::string content;
  friend bool operator==(const RenderedFile&, const RenderedFile&) = default;
};

struct Rendered {
  std::vector<std::string> argv;  // argv[0] as in the manifest: relative to the release, or not
  // The manifest's env and CLUSTERCTL_{SERVICE,INSTANCE,VERSION,HOST,NAMING}, PORT_<NAME> (upper
  // case, '-' as '_') and PORT when there is one port.
  std::map<std::string, std::string> env;
  std::vector<RenderedFile> files;      // sorted by path
  std::vector<std::string> ready_exec;  // of an exec probe; empty otherwise
  std::vector<std::string> live_exec;   // the same for liveness
  // Values that `secrets` of cluster.yaml and of the manifest name, whether they were used or not.
  std::vector<std::string> secrets;
  friend bool operator==(const Rendered&, const Rendered&) = default;
};

// kBadInput with one line per problem.
[[nodiscard]] Result<Rendered> renderInstance(const RenderInput& input);

// sha256 over all that the service sees: two renderings are equal when their digests are.
std::string renderedDigest(const Rendered& rendered);

// A scope with made-up ports, addresses and endpoints, for checking before anything is contacted.
RenderInput sampleInput(const Inventory& inventory, const Manifest& manifest);

}  // namespace cctl
