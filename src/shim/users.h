// /etc/passwd and /etc/group read by ourselves: getpwnam(3) in a static binary would load NSS
// modules of the host's libc, which may be another one (passwd(5), group(5)).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace cctl::shim {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  std::string name;
  std::string home;
  std::vector<gid_t> groups;  // all, the primary one included
};

// By name, or by number when there is no such name. kNotFound when the host has no such user.
[[nodiscard]] Result<User> findUser(const std::string& name,
                                    const std::string& passwd = "/etc/passwd",
                                    const std::string& group = "/etc/group");

// The user this process runs as; a uid without an entry has its number as name and "/" as home.
User thisUser();

}  // namespace cctl::shim
