#!/bin/sh
# Runs a command with the addresses of a service, and again at every change:
#   follow.sh SERVICE PORT COMMAND...      e.g. follow.sh sudoku-solver main echo
# Needs nc (netcat-openbsd) and jq.
service=$1 port=$2
shift 2
while :; do
  printf '{"watch":"%s"}\n' "$service" | nc -U "$CLUSTERCTL_NAMING" | while read -r state; do
    ready=$(printf '%s' "$state" |
      jq -r --arg port "$port" '.endpoints[] | select(.state == "ready") | "\(.address):\(.ports[$port])"')
    # shellcheck disable=SC2086 # one word an address
    "$@" $ready
  done
  sleep 1 # the shim restarts: what the command was last given still holds
done
