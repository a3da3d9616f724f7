"""Debian packages that a bench compares with: installed as root, else named."""

import contextlib
import os
import subprocess

POLICY = "/usr/sbin/policy-rc.d"


def is_installed(package):
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package],
                          capture_output=True, text=True, check=False).stdout
    return said == "install ok installed"


@contextlib.contextmanager
def no_services():
    """While this holds, packages start no service of theirs when they are installed."""
    try:
        with open(POLICY, "x", encoding="ascii") as f:
            f.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield  # this machine has a policy of its own
        return
    os.chmod(POLICY, 0o755)
    try:
        yield
    finally:
        os.unlink(POLICY)


def need(packages):
    """Installs what is missing. → the packages that are not there in the end."""
    missing = [p for p in packages if not is_installed(p)]
    if missing and os.geteuid() == 0:
        print(f"installing {' '.join(missing)}", flush=True)
        with no_services():
            install(missing)
        missing = [p for p in missing if not is_installed(p)]
    for package in missing:
        print(f"skipped: {package} is not installed; run: "
              f"apt-get install --no-install-recommends {package}")
    return missing


def install(packages):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
             "check": False}
    if subprocess.run(command, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], **quiet)
        subprocess.run(command, **quiet)
