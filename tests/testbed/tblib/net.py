"""The network of the test hosts: a switch in a namespace of its own, a cable to each host.

Host 0 is the operator: the machine itself, on its own cable. All traffic between any two is forwarded
by the switch, so one table of rules there cuts anything from anything, and packets vanish silently.
Nothing of it is in the machine's own network namespace but the operator's end of the cable.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import zlib

from .errors import TestbedError

FIRST_ADDRESS = 10  # host 1 is .11
MAX_HOSTS = 240

RULES = """
table bridge testbed {
  set cut { type ifname; }
  set dead { type ifname; }
  set pairs { type ifname . ifname; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    # An unplugged cable further away: neighbours are still known, so nobody is told "no route to host".
    ether type arp accept
    iifname @cut drop
    oifname @cut drop
    iifname @dead drop
    oifname @dead drop
    iifname . oifname @pairs drop
  }
}
"""


def address(subnet, index):
    """10.77.N.x of a host; the operator is .1."""
    return f"10.77.{subnet}.{FIRST_ADDRESS + index if index else 1}"


def mac(subnet, index):
    """The same in every boot, so that neighbours' tables stay true, as on a real machine."""
    return f"02:cc:74:{subnet:02x}:{index >> 8:02x}:{index & 255:02x}"


def run(command, text=None):
    done = subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise TestbedError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _choosing():
    """Testbeds that start at once choose their subnets one after another, per network namespace."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _used_prefixes():
    links = json.loads(run(["ip", "-j", "-4", "addr"]))
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    used = {info["local"] for link in links for info in link.get("addr_info", [])}
    used |= {route["dst"] for route in routes}
    return {text.rsplit(".", 1)[0] for text in used if text.startswith("10.77.")}


class Switch:
    """Commands in the switch's network namespace, which lives as long as its recorded process."""

    def __init__(self, tbinit, identity):
        self.pid, start = identity
        self.enter = [tbinit, "enter", "net", self.pid, start, "--"]

    def ip(self, lines):
        run([*self.enter, "ip", "-batch", "-"], "\n".join(lines) + "\n")

    def nft(self, text):
        run([*self.enter, "nft", "-f", "-"], text)

    def set_up(self):
        self.ip(["link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                 "link set switch addrgenmode none up", "link set lo up"])
        self.nft(RULES)

    def plug_operator(self, port):
        """Chooses a subnet that is free here and takes it; returns its number."""
        with _choosing():
            used = _used_prefixes()
            first = zlib.crc32(port.encode()) % 256
            numbers = [(first + i) % 256 for i in range(256)]
            subnet = next((n for n in numbers if f"10.77.{n}" not in used), None)
            if subnet is None:
                raise TestbedError("all of 10.77.0.0/16 is in use on this machine")
            run(["ip", "link", "add", "name", port, "address", mac(subnet, 0), "type", "veth", "peer",
                 "name", "h0", "netns", self.pid])
            run(["ip", "addr", "add", address(subnet, 0) + "/24", "dev", port])
            run(["ip", "link", "set", port, "up"])
        self.ip(["link set h0 master switch addrgenmode none up"])
        return subnet

    def plug(self, subnet, pids):
        """A cable for each host: pids is {index: pid of a process in the host's network namespace}."""
        lines = []
        for index, pid in pids.items():
            lines += [f"link add name h{index} type veth peer name eth0 address {mac(subnet, index)} "
                      f"netns {pid}",
                      f"link set h{index} master switch addrgenmode none up"]
        self.ip(lines)

    def unplug(self, index):
        subprocess.run([str(p) for p in [*self.enter, "ip", "link", "del", f"h{index}"]],
                       stderr=subprocess.DEVNULL)

    def drop(self, index):
        """No packet in or out from now on: what a host says while it is being killed is lost."""
        self.nft(f'add element bridge testbed dead {{ "h{index}" }}\n')

    def power_on(self, index):
        self.nft(f'add element bridge testbed dead {{ "h{index}" }}\n'
                 f'delete element bridge testbed dead {{ "h{index}" }}\n')

    def apply_cuts(self, cuts):
        lines = ["flush set bridge testbed cut", "flush set bridge testbed pairs"]
        for cut in cuts:
            if len(cut) == 1:
                lines.append(f'add element bridge testbed cut {{ "h{cut[0]}" }}')
            else:
                a, b = cut
                lines.append(f'add element bridge testbed pairs {{ "h{a}" . "h{b}", "h{b}" . "h{a}" }}')
        self.nft("\n".join(lines) + "\n")


def remove_port(port):
    """Takes the operator's end away, if it is there: the other end goes with it."""
    path = f"/sys/class/net/{port}"
    if os.path.exists(path):
        done = subprocess.run(["ip", "link", "del", port], capture_output=True, text=True)
        if done.returncode != 0 and os.path.exists(path):  # it also goes with the switch, by itself
            raise TestbedError(f"cannot remove the link {port}: {done.stderr.strip()}")
