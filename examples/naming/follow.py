#!/usr/bin/python3
"""Prints the addresses of a service, and again at every change: follow.py SERVICE [PORT]"""
import json
import os
import socket
import sys
import time


def changes(service, path=os.environ.get("CLUSTERCTL_NAMING", "")):
    """The service's object, at first and at each change, for ever; the last one counts while the shim is away."""
    revision = 0
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(json.dumps({"watch": service}).encode() + b"\n")
                for line in s.makefile():
                    state = json.loads(line)
                    if "error" in state:
                        sys.exit(f"follow: {state['error']['message']}")
                    if state["revision"] >= revision:
                        revision = state["revision"]
                        yield state
        except OSError as error:
            print(f"follow: {path}: {error}", file=sys.stderr)
        time.sleep(0.2)


if __name__ == "__main__":
    port = sys.argv[2] if len(sys.argv) > 2 else "main"
    for state in changes(sys.argv[1]):
        ready = [f"{e['address']}:{e['ports'][port]}" for e in state["endpoints"] if e["state"] == "ready"]
        print(state["revision"], *ready if state.get("known", True) else ["unknown"], flush=True)
