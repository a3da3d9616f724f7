#include "shim/specs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"
#include "shim/generation_files.h"

namespace cctl::shim {
namespace {

constexpr size_t kMostSpec = 4u << 20;

bool isDigest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Result<void> checkName(const std::string& service, const std::string& digest) {
  CCTL_CHECK(parseServiceName(service));
  if (!isDigest(digest)) return fail(Code::kBadInput, "a spec is named by 64 hex digits");
  return {};
}

// Why each version of the service stays, and which specs its generations were made of.
struct Needed {
  std::map<std::string, std::string> versions;
  std::set<std::string> specs;
};

void noteCores(Host& host, const InstanceRecord& record, Needed& needed) {
  const auto names = listDir(paths::coreDir(host.root, record.ref.service, record.ref.index));
  if (!names) return;
  for (const ReleaseManifest* release : host.store.releases(record.ref.service))
    for (const std::string& name : *names)
      if (name.starts_with("core." + release->version + "."))
        needed.versions.emplace(
            release->version,
            fmt::format("{}/{} has a core of it", record.ref.service, record.ref.index));
}

Needed whatIsNeeded(Host& host, const std::string& service) {
  Needed needed;
  for (const InstanceRecord& record : host.state.data().instances) {
    if (record.ref.service != service) continue;
    for (const GenerationRecord& generation : record.generations) {
      const auto spec = readGeneration(host.root, record.ref, generation.generation);
      if (!spec) continue;
      needed.specs.insert(spec->spec_digest);
      const bool runs = generation.process || generation.up;
      needed.versions.emplace(spec->version,
                              fmt::format("{}/{} {}", service, record.ref.index,
                                          runs ? "runs it" : "has a generation of it"));
    }
    noteCores(host, record, needed);
  }
  return needed;
}

uint64_t sizeOf(const ReleaseManifest& release) {
  uint64_t size = 0;
  for (const protocol::ReleaseFile& file : release.files) size += file.size;
  return size;
}

bool contains(const std::vector<std::string>& list, const std::string& one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

Result<void> pruneReleases(Host& host, const protocol::PruneRequest& request, const Needed& needed,
                           protocol::PruneReply& reply) {
  std::vector<ReleaseManifest> candidates;
  for (const ReleaseManifest* release : host.store.releases(request.service))
    if (!contains(request.keep, release->version)) candidates.push_back(*release);
  for (const ReleaseManifest& release : candidates) {
    const auto why = needed.versions.find(release.version);
    reply.releases.push_back({release.version, sizeOf(release),
                              why == needed.versions.end() ? std::string() : why->second});
    if (why != needed.versions.end() || request.dry_run) continue;
    CCTL_CHECK(host.store.remove(release.service, release.version));
  }
  return {};
}

Result<void> pruneSpecs(Host& host, const protocol::PruneRequest& request, const Needed& needed,
                        protocol::PruneReply& reply) {
  const auto names = listDir(paths::specsDir(host.root, request.service));
  if (!names) return {};  // none yet
  for (const std::string& name : *names) {
    if (!isDigest(name) || needed.specs.count(name) != 0 || contains(request.keep_specs, name))
      continue;
    ++reply.specs;
    if (!request.dry_run) CCTL_CHECK(removeTree(paths::specDir(host.root, request.service, name)));
  }
  return {};
}

}  // namespace

Result<void> putSpec(const std::string& root, const protocol::SpecPutRequest& spec) {
  CCTL_CHECK(checkName(spec.service, spec.digest));
  if (sha256Hex(spec.text) != spec.digest)
    return fail(Code::kCorrupt, "the spec does not have its digest {}", spec.digest);
  if (getSpec(root, {spec.service, spec.digest})) return {};
  const std::string dir = paths::specDir(root, spec.service, spec.digest);
  CCTL_CHECK(makeDirs(dir, 0755));
  return replaceFile(paths::specText(root, spec.service, spec.digest), spec.text, 0444);
}

Result<std::string> getSpec(const std::string& root, const protocol::SpecGetRequest& request) {
  CCTL_CHECK(checkName(request.service, request.digest));
  const std::string path = paths::specText(root, request.service, request.digest);
  auto text = readFile(path, kMostSpec);
  if (!text) return fail(Code::kNotFound, "spec {} is not here", request.digest);
  if (sha256Hex(*text) != request.digest)
    return fail(Code::kCorrupt, "{}: not what was put there", path);
  return text;
}

Result<Fd> openReleaseFile(Host& host, const protocol::ReleaseReadRequest& request) {
  const ReleaseManifest* release = host.store.find(request.service, request.version);
  const protocol::ReleaseFile* file = release ? release->find(request.path) : nullptr;
  if (!file || !file->link.empty())
    return fail(Code::kNotFound, "{} {} has no file {} here", request.service, request.version,
                request.path);
  Fd fd(::open((host.store.dirOf(*release) + "/" + request.path).c_str(),
               O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return failErrno(errno, request.path);
  return fd;
}

Result<protocol::PruneReply> prune(Host& host, const protocol::PruneRequest& request) {
  CCTL_CHECK(parseServiceName(request.service));
  protocol::PruneReply reply;
  const Needed needed = whatIsNeeded(host, request.service);
  CCTL_CHECK(pruneReleases(host, request, needed, reply));
  CCTL_CHECK(pruneSpecs(host, request, needed, reply));
  if (request.dry_run) return reply;
  protocol::Event event;
  event.kind = protocol::EventKind::kOrder;
  event.service = request.service;
  event.by = request.caller.by;
  event.reason = request.caller.reason;
  event.text = "prune";
  for (const protocol::PrunedRelease& release : reply.releases)
    if (release.kept_by.empty()) event.text += " " + release.version;
  host.journal.append(std::move(event));
  return reply;
}

}  // namespace cctl::shim
