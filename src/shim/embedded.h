// The shim's executable inside clusterctl: the bytes from begin up to end.
#pragma once

extern "C" {
extern const unsigned char clusterctl_shim_begin[];
extern const unsigned char clusterctl_shim_end[];
}
