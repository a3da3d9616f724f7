// Limits on memory and processor time for all processes of a service together: one control group
// for each generation, below the shim's own (cgroups(7)), version 2 or 1. As plain files, so that
// tests give it a tree of their own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

struct CgroupLimits {
  std::optional<uint64_t> memory;  // bytes
  std::optional<int> cpu;          // thousandths of a processor
  bool any() const { return memory || cpu; }
};

struct CgroupKind {
  std::string name;     // "v2", "v1"; empty: there is none that this shim may use
  std::string problem;  // why not
};

class Cgroups {
 public:
  // `mount`: /sys/fs/cgroup; `self`: the text of /proc/self/cgroup; `owner` names the groups: no
  // two shims of a host may have the same.
  Cgroups(std::string mount, std::string self, std::string owner);

  // Makes the parent group of all services where it is not there yet.
  const CgroupKind& kind();

  // The group of that name ("service/index/generation") with these limits, and the files by which a
  // process joins it. What cannot be applied is in `not_applied`, in words; it is no error.
  struct Group {
    std::vector<Fd> join;
    std::vector<std::string> not_applied;
  };
  Group make(const std::string& name, const CgroupLimits& limits);
  // Those that are in it now.
  std::vector<int> members(const std::string& name);
  // Removes it; one with processes stays.
  void remove(const std::string& name);

 private:
  struct Controller {
    std::string dir;  // of the parent group; empty: cannot be used
    std::string problem;
  };

  void detect();
  [[nodiscard]] Result<void> prepareUnified(const std::string& own);
  void detectUnified(std::string own);
  Controller detectController(const std::string& controller);
  std::string ownGroup(const std::string& controller) const;
  void limit(const Controller& controller, const std::string& name, const std::string& file,
             const std::string& value, const std::string& what, Group& group);
  void join(const Controller& controller, const std::string& name, Group& group);

  const std::string mount_;
  const std::string self_;
  const std::string parent_;
  bool detected_ = false;
  bool unified_ = false;
  Controller memory_;
  Controller cpu_;
  CgroupKind kind_;
};

}  // namespace cctl::shim
