#include "ops/specs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "base/text.h"
#include "release/sshsig.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr Millis kFetchTimeout{3'600'000};

// Calls ask(host) for one host after the other until one has it. Missing it is no error, another
// failure is a warning: the next may do.
template <typename T>
Result<T> fromAny(Operation& operation, const std::vector<HostName>& hosts, std::string_view what,
                  const std::function<Result<T>(HostConnection&)>& ask) {
  size_t reached = 0;
  for (const HostName& name : hosts) {
    auto host = operation.fleet.await(name);
    if (!host) continue;
    ++reached;
    auto got = ask(**host);
    if (got) return got;
    if (got.error().code == Code::kCancelled) return fail(got.error());
    if (got.error().code != Code::kNotFound)
      operation.events.warning(name.str(), fmt::format("{}: {}", what, got.error().message));
  }
  return fail(Code::kNotFound, "{} is on none of the {} that can be reached", what,
              counted(reached, "host"));
}

// Only names inside; the store checks again what it takes.
bool isInside(const std::string& path) {
  return !path.empty() && path.front() != '/' &&
         ("/" + path + "/").find("/../") == std::string::npos;
}

Result<void> fetchFile(HostConnection& host, const protocol::ReleaseReadRequest& request,
                       const protocol::ReleaseFile& file, const std::string& to,
                       const CancelToken* cancel) {
  CCTL_TRY(const Fd fd, openFile(to, O_WRONLY | O_CREAT | O_EXCL, file.executable ? 0755 : 0644));
  Sha256 sha;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    if (frame.kind != protocol::FrameKind::kData)
      return fail(Code::kCorrupt, "the shim sends no file");
    sha.update(frame.payload);
    return writeAll(fd.get(), frame.payload);
  };
  CCTL_CHECK(
      host.shim->call<protocol::Empty>(request, Deadline::in(kFetchTimeout), cancel, on_item));
  if (sha.hex() != file.sha256)
    return fail(Code::kCorrupt, "{}: content differs from its digest", file.path);
  return {};
}

Result<void> fetchEntry(HostConnection& host, const ServiceName& service, const Version& version,
                        const protocol::ReleaseFile& file, const std::string& directory,
                        const CancelToken* cancel) {
  if (!isInside(file.path)) return fail(Code::kCorrupt, "{}: no path of a release", file.path);
  const std::string to = directory + "/" + file.path;
  CCTL_CHECK(makeDirs(to.substr(0, to.rfind('/'))));
  if (file.link.empty())
    return fetchFile(host, {service.str(), version.str(), file.path}, file, to, cancel);
  if (::symlink(file.link.c_str(), to.c_str()) != 0) return failErrno(errno, to);
  return {};
}

// True when it has been fetched.
Result<bool> fetchAll(Operation& operation, HostConnection& host, const ServiceName& service,
                      const Version& version, const std::string& digest,
                      const std::string& directory) {
  CCTL_TRY(const auto contents, host.shim->call<protocol::ReleaseContents>(
                                    protocol::ReleaseShowRequest{service.str(), version.str()},
                                    Deadline::in(kRequestTimeout), operation.cancel));
  if (contents.digest != digest)
    return fail(Code::kRefused, "has other content under this version than the registry says");
  CCTL_CHECK(removeTree(directory));
  for (const protocol::ReleaseFile& file : contents.files)
    CCTL_CHECK(fetchEntry(host, service, version, file, directory, operation.cancel));
  return true;
}

// From every host that can be reached: one that got the release earlier may have fewer. Only those
// that are over exactly this release are kept; who made them is judged at each use.
Result<void> fetchSignatures(Operation& operation, const release::ReleaseStore& store,
                             const ReleaseInfo& info, const std::vector<HostName>& hosts) {
  const std::string sums = release::ReleaseStore::sums(info);
  std::set<std::string> texts;
  for (const HostName& name : hosts) {
    auto host = operation.fleet.await(name);
    if (!host) continue;
    const auto contents = (*host)->shim->call<protocol::ReleaseContents>(
        protocol::ReleaseShowRequest{info.service.str(), info.version.str()},
        Deadline::in(kRequestTimeout), operation.cancel);
    if (!contents && contents.error().code == Code::kCancelled) return fail(contents.error());
    if (contents) texts.insert(contents->signatures.begin(), contents->signatures.end());
  }
  for (const std::string& text : texts) {
    const auto signature = release::parseSshSignature(text);
    if (signature && release::verifySshSignature(*signature, sums, release::kSignatureNamespace))
      CCTL_CHECK(store.addSignature(info, text));
  }
  return {};
}

}  // namespace

Result<void> pushSpec(Operation& operation, const ServiceName& service, const std::string& text,
                      const std::vector<HostConnection*>& hosts) {
  const protocol::SpecPutRequest request{service.str(), sha256Hex(text), text};
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  const auto replies = ssh::forEachHost<protocol::Empty>(hosts.size(), options, [&](size_t i) {
    return hosts[i]->shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout),
                                                 operation.cancel);
  });
  HostErrors errors;
  for (size_t i = 0; i < hosts.size(); ++i)
    if (!replies[i]) errors.emplace(hosts[i]->name, replies[i].error());
  if (errors.empty()) return {};
  const Error error = describeHostErrors(errors);
  return fail(error.code, "nothing was started or stopped: the spec was not taken: {}",
              error.message);
}

std::vector<HostName> hostsToAsk(const Inventory& inventory, const Desired& desired) {
  std::vector<HostName> hosts;
  const auto add = [&](const HostName& host) {
    if (inventory.findHost(host) && std::find(hosts.begin(), hosts.end(), host) == hosts.end())
      hosts.push_back(host);
  };
  for (const auto& [index, host] : desired.placement) add(HostName(host));
  for (const HostName& host : allHosts(inventory)) add(host);
  return hosts;
}

Result<Spec> fetchSpec(Operation& operation, const ServiceName& service, const std::string& digest,
                       const std::vector<HostName>& hosts) {
  const auto ask = [&](HostConnection& host) -> Result<protocol::SpecText> {
    CCTL_TRY(auto text,
             host.shim->call<protocol::SpecText>(protocol::SpecGetRequest{service.str(), digest},
                                                 Deadline::in(kRequestTimeout), operation.cancel));
    if (sha256Hex(text.text) != digest) return fail(Code::kCorrupt, "is not what its name says");
    return text;
  };
  CCTL_TRY(const auto text,
           fromAny<protocol::SpecText>(
               operation, hosts, fmt::format("spec {} of {}", digest.substr(0, 12), service), ask));
  return parseSpec(text.text);
}

Inventory withSpec(const Inventory& inventory, Spec spec) {
  Inventory then = inventory;
  for (auto& [name, text] : spec.templates) then.templates[name] = std::move(text);
  const ServiceName service = spec.manifest.service;
  then.services[service] = std::move(spec.manifest);
  return then;
}

Result<void> fetchRelease(Operation& operation, const release::ReleaseStore& store,
                          const ServiceName& service, const Version& version,
                          const std::string& digest, const std::vector<HostName>& hosts) {
  CCTL_TRY(const TempDir temporary, TempDir::create("clusterctl-fetch"));
  const std::string directory = temporary.path() + "/release";
  operation.events.phase(fmt::format("fetching {} {} from a host that has it", service, version));
  CCTL_CHECK(fromAny<bool>(operation, hosts, fmt::format("{} {}", service, version),
                           [&](HostConnection& host) {
                             return fetchAll(operation, host, service, version, digest, directory);
                           }));
  CCTL_TRY(const release::AddOutcome added,
           store.add(service, version, directory, {SystemClock().wall(), operation.cancel}));
  if (added.release.digest != digest)
    return fail(Code::kCorrupt,
                "{} {} was fetched, and is not what was deployed: remove it from {}", service,
                version, store.directory());
  return fetchSignatures(operation, store, added.release, hosts);
}

}  // namespace cctl::ops
