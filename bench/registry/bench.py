"""The registry beside etcd, and the naming sockets."""

import importlib.util

from . import writes

NAME = "registry"
ABOUT = "the registry's quorum beside etcd: writes, pushes, a member killed, memory"
PACKAGES = ["etcd-server", "etcd-client", "python3-pycurl"]


def run(options):
    figures = writes.run(options)
    if importlib.util.find_spec(f"{__package__}.naming"):
        figures += importlib.import_module(f"{__package__}.naming").run(options)
    return figures
