"""What is on the disk of a test host: its own /etc, users, keys, homes and empty /opt, /var, /tmp.

Programs (/usr, and /bin, /lib … of it) are the machine's, mounted read-only at boot by tbinit.
"""

import os
import pathlib
import shutil
import subprocess
import uuid

from . import net

USERS = (
    {"user": "root", "uid": 0, "home": "/root", "sudo": True, "about": "key login"},
    {"user": "deploy", "uid": 1000, "home": "/home/deploy", "sudo": True,
     "about": "plain login, sudo without a password"},
    {"user": "plain", "uid": 1001, "home": "/home/plain", "sudo": False, "about": "no sudo at all"},
)

# Of the machine's /etc: what programs in /usr rely on. Everything else is written here.
COPIED = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "login.defs", "os-release",
          "debian_version", "protocols", "services", "rpc", "terminfo", "python3", "python3.11", "perl",
          "ssl/openssl.cnf", "java-17-openjdk", "gai.conf", "inputrc", "shells", "localtime")

DIRECTORIES = {
    "dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "tmp": 0o1777, "usr": 0o755, "mnt": 0o755,
    "opt": 0o755, "srv": 0o755, "home": 0o755, "root": 0o700, "var": 0o755, "var/tmp": 0o1777,
    "var/log": 0o755, "var/lib": 0o755, "var/lib/sudo": 0o700, "var/cache": 0o755, "var/mail": 0o755,
    "var/spool": 0o755, "var/spool/cron": 0o755, "etc": 0o755, "etc/cron.d": 0o755,
    "etc/network": 0o755, "etc/pam.d": 0o755, "etc/ssh": 0o755, "etc/ssl": 0o755,
    "etc/sudoers.d": 0o750, "var/usr-local": 0o755, "var/usr-local/bin": 0o755,
    "var/usr-local/sbin": 0o755, "var/usr-local/lib": 0o755, "var/usr-local/share": 0o755,
    "var/usr-local/etc": 0o755, "var/usr-local/src": 0o755, "var/usr-local/include": 0o755,
}

FILES = {
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"
                         "services: files\nprotocols: files\n",
    "etc/profile": "export PATH\n",
    "etc/environment": "",
    "etc/resolv.conf": "",
    "etc/fstab": "",
    "etc/motd": "",
    "etc/crontab": "SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin\n",
    "etc/pam.d/other": "auth required pam_deny.so\naccount required pam_unix.so\n"
                       "password required pam_deny.so\nsession required pam_permit.so\n",
    "etc/pam.d/cron": "auth required pam_permit.so\naccount required pam_unix.so\n"
                      "session required pam_permit.so\n",
    "etc/pam.d/sudo": "auth required pam_unix.so\naccount required pam_unix.so\n"
                      "session required pam_permit.so\n",
    "etc/pam.d/su": "auth sufficient pam_rootok.so\nauth required pam_unix.so\n"
                    "account required pam_unix.so\nsession required pam_permit.so\n",
}
SAME_AS = {"etc/pam.d/sudo-i": "etc/pam.d/sudo", "etc/pam.d/su-l": "etc/pam.d/su",
           "etc/pam.d/runuser": "etc/pam.d/su", "etc/pam.d/runuser-l": "etc/pam.d/su"}

SUDOERS = """Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
deploy ALL=(ALL:ALL) NOPASSWD: ALL
"""

SSHD_CONFIG = """Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxStartups 1000:30:2000
PerSourceMaxStartups none
Subsystem sftp /usr/lib/openssh/sftp-server
"""


def make_key(path, comment):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
                   check=True, stdin=subprocess.DEVNULL)


def sshd_config(forward, lines):
    """First value wins in sshd_config, so what a host has of its own comes first."""
    own = [f"AllowStreamLocalForwarding {'yes' if forward else 'no'}", *lines]
    return "\n".join(own) + "\n" + SSHD_CONFIG


def network_batch(subnet, index):
    return (f"link set lo up\naddr add {net.address(subnet, index)}/24 brd + dev eth0\n"
            f"link set eth0 up\n")


def hosts_file(subnet, count):
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{net.address(subnet, 0)} operator"]
    lines += [f"{net.address(subnet, i)} host{i}" for i in range(1, count + 1)]
    return "\n".join(lines) + "\n"


def _system_entries(path, own_names):
    """Lines of the machine's passwd or group for system ids: the setgid programs in /usr need them."""
    entries = []
    for line in pathlib.Path(path).read_text().splitlines():
        name, _, number = line.split(":")[:3]
        if name not in own_names and (int(number) < 1000 or int(number) in (65533, 65534)):
            entries.append(line)
    return entries


def _write_accounts(etc):
    names = {user["user"] for user in USERS}
    passwd = _system_entries("/etc/passwd", names)
    group = [line.rsplit(":", 1)[0] + ":" for line in _system_entries("/etc/group", names)]
    for user in USERS:
        passwd.insert(0, f"{user['user']}:x:{user['uid']}:{user['uid']}::{user['home']}:/bin/bash")
        group.insert(0, f"{user['user']}:x:{user['uid']}:")
    shadow = [f"{line.split(':')[0]}:*:19000:0:99999:7:::" for line in passwd]
    _write(etc / "passwd", "\n".join(passwd) + "\n")
    _write(etc / "group", "\n".join(group) + "\n")
    _write(etc / "shadow", "\n".join(shadow) + "\n", 0o600)
    _write(etc / "sudoers", SUDOERS, 0o440)


def _group_id(name):
    for line in pathlib.Path("/etc/group").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split(":")[2])
    return 0


def _write(path, text, mode=0o644, owner=0):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        os.fchown(file.fileno(), owner, owner)
        file.write(text)


def _make_dir(path, mode, owner=0, group=None):
    path.mkdir(exist_ok=True)
    os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)


def _copy_machine_files(etc):
    for name in COPIED:
        source, target = pathlib.Path("/etc") / name, etc / name
        if source.is_symlink():
            os.symlink(os.readlink(source), target)
        elif source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
        elif source.exists():
            shutil.copy2(source, target)


def _link_programs(root):
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        source = pathlib.Path("/") / name
        if source.is_symlink():
            os.symlink(os.readlink(source), root / name)
        elif source.is_dir():
            (root / name).mkdir()
    os.symlink("/run", root / "var/run")
    os.symlink("/run/lock", root / "var/lock")
    os.symlink("/proc/self/mounts", root / "etc/mtab")


def make_template(root, client_key, subnet, count):
    """All that is the same on every host, to be copied onto each disk."""
    root.mkdir()
    for name, mode in DIRECTORIES.items():
        _make_dir(root / name, mode)
    _make_dir(root / "var/spool/cron/crontabs", 0o1730, 0, _group_id("crontab"))
    _copy_machine_files(root / "etc")
    _link_programs(root)
    for name, text in FILES.items():
        _write(root / name, text)
    for name, other in SAME_AS.items():
        _write(root / name, FILES[other])
    _write_accounts(root / "etc")
    _write(root / "etc/hosts", hosts_file(subnet, count))
    for user in USERS:
        home = root / user["home"].lstrip("/")
        _make_dir(home, 0o700 if user["uid"] == 0 else 0o755, user["uid"])
        _make_dir(home / ".ssh", 0o700, user["uid"])
        _write(home / ".ssh/authorized_keys", client_key, 0o600, user["uid"])


def fill(disk, template, subnet, index, forward, sshd_lines):
    """Lays a new host's disk; returns its public host key line ("ssh-ed25519 AAAA…")."""
    subprocess.run(["cp", "-a", f"{template}/.", str(disk)], check=True)
    etc = disk / "etc"
    _write(etc / "hostname", f"host{index}\n")
    _write(etc / "machine-id", uuid.uuid4().hex + "\n", 0o444)
    _write(etc / "network/testbed.batch", network_batch(subnet, index))
    _write(etc / "ssh/sshd_config", sshd_config(forward, sshd_lines))
    make_key(etc / "ssh/ssh_host_ed25519_key", f"root@host{index}")
    return public_host_key(disk)


def public_host_key(disk):
    text = (disk / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    return " ".join(text.split()[:2])
