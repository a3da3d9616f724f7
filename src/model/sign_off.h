// Who must have signed a release before it may go to hosts: `sign_off` of cluster.yaml.
#pragma once

#include <string>
#include <vector>

namespace cctl {

struct SignOff {
  bool required = false;
  std::string allowed_signers;  // OpenSSH's file of that name, joined to cluster.yaml's directory;
                                // "": none is named
  std::vector<std::string> by;  // patterns of principals, of which the signers must be; empty: any
  int count = 1;                // different people
};

}  // namespace cctl
