/* What a service tells its supervisor, and gets from it: sd_notify(3) and sd_listen_fds(3) without
 * a library. For C and C++. All of it also works, and does nothing, outside of clusterctl.
 * Thread-safe; nothing blocks but for the moment that a datagram takes. */
#ifndef CLUSTERCTL_READY_H
#define CLUSTERCTL_READY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sends `state` ("READY=1", several lines) to $NOTIFY_SOCKET. 1: sent; 0: nobody asked to be
 * told; -1: failed, see errno. */
int clusterctl_notify(const char *state);

int clusterctl_ready(void);              /* "health: {ready: {notify: true}}" waits for this */
int clusterctl_stopping(void);           /* at the begin of an orderly end */
int clusterctl_status(const char *text); /* shown by `clusterctl status`; one line */
int clusterctl_watchdog(void);           /* "still alive" */

/* Within how many microseconds clusterctl_watchdog() must be called again and again, twice as
 * often to be safe; 0: nobody watches. */
uint64_t clusterctl_watchdog_usec(void);

/* The listening socket of a port with `socket: true`, by the port's name; NULL: the first. -1 when
 * there is none. It is the same descriptor at each call, closed on exec. */
int clusterctl_listen_fd(const char *name);

#ifdef __cplusplus
}
#endif
#endif
