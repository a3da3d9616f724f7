// Every path that clusterctl or its shim uses on a host: the one place that knows the layout.
//
//   ROOT/services/S/VERSION/               a release: immutable
//   ROOT/services/S/.incoming-TAG/         a release on its way in: renamed to VERSION when checked
//   ROOT/services/S/specs/DIGEST/          a spec
//   ROOT/services/S/instances/I/generations/N/{conf,run}/    one rendering
//   ROOT/services/S/instances/I/current    symbolic link to generations/N, the newest
//   ROOT/services/S/instances/I/{log,core,data}/             shared by generations
//   ROOT/shim/                             the supervisor, its state and its journal
//   ROOT/registry/                         the names as this host knows them
//   ROOT/run/                              sockets
//
// `root` is an absolute path without a trailing slash, with "~" already expanded on the host.
// This header depends on the standard library only, because the shim uses it too.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cctl::paths {

// sun_path holds 108 bytes with its NUL (unix(7)), and the longest socket name is
// /run/control.sock.
inline constexpr size_t kMaxRoot = 90;

inline std::string join(std::string_view dir, std::string_view name) {
  std::string path(dir);
  path += '/';
  path += name;
  return path;
}

// ---- services ----
inline std::string servicesDir(std::string_view root) { return join(root, "services"); }
inline std::string serviceDir(std::string_view root, std::string_view service) {
  return join(servicesDir(root), service);
}
inline std::string releaseDir(std::string_view root, std::string_view service,
                              std::string_view version) {
  return join(serviceDir(root, service), version);
}
// No version begins with '.', so what is on its way in is never taken for a release.
inline constexpr std::string_view kIncomingPrefix = ".incoming-";
inline std::string incomingReleaseDir(std::string_view root, std::string_view service,
                                      std::string_view tag) {
  return join(serviceDir(root, service), std::string(kIncomingPrefix) + std::string(tag));
}
// Inside a release: what `sha256sum -c` accepts, run in the release's directory.
inline constexpr std::string_view kSumsFile = "SHA256SUMS";
inline std::string specsDir(std::string_view root, std::string_view service) {
  return join(serviceDir(root, service), "specs");
}
inline std::string specDir(std::string_view root, std::string_view service,
                           std::string_view digest) {
  return join(specsDir(root, service), digest);
}
inline std::string specText(std::string_view root, std::string_view service,
                            std::string_view digest) {
  return join(specDir(root, service, digest), "spec.json");
}

// ---- instances ----
inline std::string instancesDir(std::string_view root, std::string_view service) {
  return join(serviceDir(root, service), "instances");
}
inline std::string instanceDir(std::string_view root, std::string_view service, int index) {
  return join(instancesDir(root, service), std::to_string(index));
}
inline std::string generationsDir(std::string_view root, std::string_view service, int index) {
  return join(instanceDir(root, service, index), "generations");
}
inline std::string generationDir(std::string_view root, std::string_view service, int index,
                                 uint64_t generation) {
  return join(generationsDir(root, service, index), std::to_string(generation));
}
inline std::string currentLink(std::string_view root, std::string_view service, int index) {
  return join(instanceDir(root, service, index), "current");
}
inline std::string confDir(std::string_view root, std::string_view service, int index,
                           uint64_t generation) {
  return join(generationDir(root, service, index, generation), "conf");
}
inline std::string generationRunDir(std::string_view root, std::string_view service, int index,
                                    uint64_t generation) {
  return join(generationDir(root, service, index, generation), "run");
}
inline std::string logDir(std::string_view root, std::string_view service, int index) {
  return join(instanceDir(root, service, index), "log");
}
inline std::string coreDir(std::string_view root, std::string_view service, int index) {
  return join(instanceDir(root, service, index), "core");
}
inline std::string dataDir(std::string_view root, std::string_view service, int index) {
  return join(instanceDir(root, service, index), "data");
}

// The GenerationSpec that the generation was rendered from, as JSON.
inline std::string specFile(std::string_view root, std::string_view service, int index,
                            uint64_t generation) {
  return join(generationDir(root, service, index, generation), "spec.json");
}
// What the instance writes to stdout and stderr; older ones are beside it.
inline std::string currentLog(std::string_view root, std::string_view service, int index) {
  return join(logDir(root, service, index), "current");
}

// ---- sockets ----
inline std::string runDir(std::string_view root) { return join(root, "run"); }
inline std::string controlSocket(std::string_view root) {
  return join(runDir(root), "control.sock");
}
inline std::string namingSocket(std::string_view root) { return join(runDir(root), "naming.sock"); }
// NOTIFY_SOCKET of services (sd_notify(3)).
inline std::string notifySocket(std::string_view root) { return join(runDir(root), "notify.sock"); }

// ---- registry, as this host knows it ----
inline std::string registryDir(std::string_view root) { return join(root, "registry"); }
inline std::string registryFile(std::string_view root) {
  return join(registryDir(root), "registry.json");
}
inline std::string registryServicesDir(std::string_view root) {
  return join(registryDir(root), "services");
}
inline std::string registryServiceFile(std::string_view root, std::string_view service) {
  return join(registryServicesDir(root), std::string(service) + ".json");
}
inline std::string viewsDir(std::string_view root) { return join(registryDir(root), "views"); }

// ---- the shim's own ----
inline std::string shimDir(std::string_view root) { return join(root, "shim"); }
// flock(2)ed while the shim is placed or upgraded.
inline std::string bootstrapLock(std::string_view root) {
  return join(shimDir(root), "bootstrap.lock");
}
// flock(2)ed by the running shim: one per ROOT.
inline std::string shimLock(std::string_view root) { return join(shimDir(root), "shim.lock"); }
// The name and id of the cluster that this ROOT belongs to.
inline std::string clusterFile(std::string_view root) { return join(shimDir(root), "cluster"); }
// The uids, one a line, that the control socket admits beside root.
inline std::string operatorsFile(std::string_view root) { return join(shimDir(root), "operators"); }
inline std::string shimStateDir(std::string_view root) { return join(shimDir(root), "state"); }
inline std::string stateFile(std::string_view root) {
  return join(shimStateDir(root), "state.json");
}
// The programs that alerts run.
inline std::string hooksFile(std::string_view root) {
  return join(shimStateDir(root), "hooks.json");
}
// The views that this host writes.
inline std::string viewsFile(std::string_view root) {
  return join(shimStateDir(root), "views.json");
}
// What each installed release consists of.
inline std::string releaseRecordsDir(std::string_view root) {
  return join(shimStateDir(root), "releases");
}
inline std::string releaseFile(std::string_view root, std::string_view service,
                               std::string_view version, std::string_view ending) {
  std::string name(service);
  name += '@';
  name += version;
  name += ending;
  return join(releaseRecordsDir(root), name);
}
inline std::string releaseRecord(std::string_view root, std::string_view service,
                                 std::string_view version) {
  return releaseFile(root, service, version, ".json");
}
// Who signed it off, as far as this host was told.
inline std::string releaseSignatures(std::string_view root, std::string_view service,
                                     std::string_view version) {
  return releaseFile(root, service, version, ".signatures");
}
// Every shim that was placed, by digest, and the link to the one in use.
inline std::string shimBinDir(std::string_view root) { return join(shimDir(root), "bin"); }
inline std::string shimBinary(std::string_view root, std::string_view digest) {
  return join(shimBinDir(root), "clusterctl-shim-" + std::string(digest));
}
// The same under the name that a person would type.
inline std::string shimCommand(std::string_view root) {
  return join(shimBinDir(root), "clusterctl-shim");
}
inline std::string shimCurrent(std::string_view root) { return join(shimDir(root), "current"); }
inline std::string journalDir(std::string_view root) { return join(shimDir(root), "journal"); }
inline std::string acceptorDir(std::string_view root) { return join(shimDir(root), "acceptor"); }
// The shim's own messages, for when it cannot write its journal.
inline std::string shimLog(std::string_view root) { return join(shimDir(root), "shim.log"); }

// ---- boot ----
// The systemd unit (with ".service") and the tag of the crontab lines.
inline std::string bootUnit(std::string_view cluster) {
  return "clusterctl-" + std::string(cluster);
}

}  // namespace cctl::paths
