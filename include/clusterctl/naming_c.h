/* The naming client for C (and whatever can call C); naming.h says what it does.
 *
 *   clusterctl_naming *naming = clusterctl_naming_open(NULL);
 *   clusterctl_naming_watch(naming, "sudoku-solver", on_change, context);
 *   for (;;) clusterctl_naming_wait(naming, 60000);
 *
 * A clusterctl_naming is for one thread at a time; callbacks come from clusterctl_naming_process()
 * and _wait() only. Strings are UTF-8 and end with NUL. Nothing is thrown. */
#ifndef CLUSTERCTL_NAMING_C_H
#define CLUSTERCTL_NAMING_C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum clusterctl_state {
  CLUSTERCTL_READY = 0,     /* takes connections */
  CLUSTERCTL_UNHEALTHY = 1, /* fails its health check, or does not run */
  CLUSTERCTL_DRAINING = 2,  /* about to stop: open nothing new */
  CLUSTERCTL_OTHER = 3      /* not known to this version: treat as not ready */
};

enum clusterctl_source { CLUSTERCTL_FROM_SOCKET = 0, CLUSTERCTL_FROM_FILE = 1 };

typedef struct clusterctl_port {
  const char *name;
  uint16_t port;
} clusterctl_port;

typedef struct clusterctl_endpoint {
  const char *instance; /* "sudoku-solver/0" */
  const char *host;
  const char *address; /* an IP */
  const char *version;
  int state; /* enum clusterctl_state */
  const clusterctl_port *ports;
  size_t port_count;
} clusterctl_endpoint;

typedef struct clusterctl_service {
  const char *name;
  int known; /* 0: this host has never heard of it, which is not the same as no endpoints */
  uint64_t revision;
  const clusterctl_endpoint *endpoints;
  size_t endpoint_count;
  int confirmed; /* 0: from disk, and nothing has confirmed it since */
  int source;    /* enum clusterctl_source */
} clusterctl_service;

typedef struct clusterctl_naming clusterctl_naming;

/* The service and what it points to are valid until the callback returns. */
typedef void (*clusterctl_on_change)(const clusterctl_service *service, void *context);

/* `socket` NULL: $CLUSTERCTL_NAMING. NULL when memory or descriptors are short. */
clusterctl_naming *clusterctl_naming_open(const char *socket);
void clusterctl_naming_close(clusterctl_naming *naming);

/* 0, or -1: no service's name, or too many; see clusterctl_naming_error(). `on_change` may be
 * NULL. */
int clusterctl_naming_watch(clusterctl_naming *naming, const char *name,
                            clusterctl_on_change on_change, void *context);
void clusterctl_naming_unwatch(clusterctl_naming *naming, const char *name);

/* NULL until the first answer. Valid until the next call with this clusterctl_naming. */
const clusterctl_service *clusterctl_naming_find(clusterctl_naming *naming, const char *name);

/* Readable when clusterctl_naming_process() has something to do. */
int clusterctl_naming_fd(const clusterctl_naming *naming);
/* 0; -1 when memory ran out. */
int clusterctl_naming_process(clusterctl_naming *naming);
/* poll(2), then process. 1: something was done, 0: nothing came in time, -1: memory ran out. */
int clusterctl_naming_wait(clusterctl_naming *naming, int timeout_ms);

int clusterctl_naming_is_connected(const clusterctl_naming *naming);
/* Never NULL; empty when all is well. Valid until the next call. */
const char *clusterctl_naming_error(const clusterctl_naming *naming);

/* The port of that name, or with NULL the only one; 0: there is none. */
uint16_t clusterctl_endpoint_port(const clusterctl_endpoint *endpoint, const char *name);

#ifdef __cplusplus
}
#endif
#endif
