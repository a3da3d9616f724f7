/* The C interface, compiled as C. */
#include "unit/naming/from_c.h"

#include <poll.h>
#include <string.h>

#include "clusterctl/naming_c.h"
#include "clusterctl/ready.h"

static void on_change(const clusterctl_service *service, void *context) {
  struct seen_from_c *seen = context;
  seen->calls++;
  seen->known = service->known;
  seen->revision = service->revision;
  seen->endpoints = service->endpoint_count;
  seen->port = service->endpoint_count > 0
                   ? clusterctl_endpoint_port(&service->endpoints[0], "main")
                   : 0;
  seen->ready =
      service->endpoint_count > 0 && service->endpoints[0].state == CLUSTERCTL_READY;
}

int follow_from_c(const char *socket, const char *name, int timeout_ms, struct seen_from_c *seen) {
  clusterctl_naming *naming = clusterctl_naming_open(socket);
  const clusterctl_service *found;
  int ok;
  if (naming == NULL || clusterctl_naming_fd(naming) < 0) return -1;
  if (clusterctl_naming_watch(naming, "no name", NULL, NULL) != -1) return -1;
  if (clusterctl_naming_error(naming)[0] == '\0') return -1;
  if (clusterctl_naming_watch(naming, name, on_change, seen) != 0) return -1;
  while (seen->calls == 0) {
    struct pollfd fd;
    fd.fd = clusterctl_naming_fd(naming);
    fd.events = POLLIN;
    if (poll(&fd, 1, timeout_ms) != 1 || clusterctl_naming_process(naming) != 0) break;
  }
  found = clusterctl_naming_find(naming, name);
  ok = found != NULL && strcmp(found->name, name) == 0 && found->revision == seen->revision &&
       clusterctl_naming_find(naming, "other") == NULL && clusterctl_naming_is_connected(naming) &&
       strcmp(found->endpoints[0].address, "10.0.0.1") == 0 &&
       clusterctl_endpoint_port(&found->endpoints[0], NULL) == seen->port &&
       clusterctl_endpoint_port(&found->endpoints[0], "none") == 0;
  clusterctl_naming_unwatch(naming, name);
  ok = ok && clusterctl_naming_find(naming, name) == NULL && clusterctl_naming_wait(naming, 0) >= 0;
  clusterctl_naming_close(naming);
  return ok ? clusterctl_listen_fd("main") : -2;
}
