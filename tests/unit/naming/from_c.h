/* What the C test saw. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct seen_from_c {
  int calls;
  int known;
  uint64_t revision;
  size_t endpoints;
  int port;
  int ready;
};

/* -1 when all went well. */
int follow_from_c(const char *socket, const char *name, int timeout_ms, struct seen_from_c *seen);

#ifdef __cplusplus
}
#endif
