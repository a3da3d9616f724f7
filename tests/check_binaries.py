#!/usr/bin/env python3
"""Holds the built executables to what they promise.

    check_binaries.py CLUSTERCTL SHIM

clusterctl needs no library but libc's family; the shim is fully static, small, contains no SSH, and
its bytes are those inside clusterctl. Prints what is wrong; exits 1 when anything is.
"""
import re
import struct
import sys

LIBC_FAMILY = re.compile(r"(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1"
                         r"|libresolv\.so\.2|ld-linux[-.a-z0-9_]*\.so\.[0-9]+)")
MAX_SHIM = 3 << 20
SSH_MARKS = [b"libssh", b"SSH-2.0", b"ssh-ed25519", b"ssh_channel"]

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 1, 2, 3, 0x6474E551
DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 1, 5, 15, 29
EXECUTABLE = 1


class Elf:
    """The program headers and dynamic section of a 64-bit ELF file of this machine's byte order."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = file.read()
        if self.data[:5] != b"\x7fELF\x02":
            raise ValueError(f"{path}: not a 64-bit ELF file")
        self.order = "<" if self.data[5] == 1 else ">"
        offset = self.number(32, "Q")
        size, count = self.number(54, "H"), self.number(56, "H")
        self.segments = [struct.unpack_from(self.order + "IIQQQQQQ", self.data, offset + i * size)
                         for i in range(count)]

    def number(self, offset, kind):
        return struct.unpack_from(self.order + kind, self.data, offset)[0]

    def segment(self, kind):
        return next((segment for segment in self.segments if segment[0] == kind), None)

    def interpreter(self):
        found = self.segment(PT_INTERP)
        return self.data[found[2]:found[2] + found[5]].rstrip(b"\0").decode() if found else ""

    def stack_is_executable(self):
        found = self.segment(PT_GNU_STACK)
        return found is None or bool(found[1] & EXECUTABLE)

    def dynamic(self):
        found = self.segment(PT_DYNAMIC)
        if not found:
            return []
        entries = list(struct.iter_unpack(self.order + "QQ", self.data[found[2]:found[2] + found[5] // 16 * 16]))
        ends = [i for i, (tag, _) in enumerate(entries) if tag == 0]
        return entries[:ends[0]] if ends else entries

    def strings(self, *tags):
        entries = self.dynamic()
        address = next((value for tag, value in entries if tag == DT_STRTAB), 0)
        table = next((segment[2] + address - segment[3] for segment in self.segments
                      if segment[0] == PT_LOAD and segment[3] <= address < segment[3] + segment[5]), 0)
        return [self.data[table + value:self.data.index(b"\0", table + value)].decode()
                for tag, value in entries if tag in tags]


def check_clusterctl(elf, shim):
    needed = elf.strings(DT_NEEDED)
    strangers = [name for name in needed if not LIBC_FAMILY.fullmatch(name)]
    if not needed and not elf.interpreter():
        yield f"{elf.path}: static; it is meant to use the system's glibc (getaddrinfo, dlopen of GSSAPI)"
    if strangers:
        yield f"{elf.path}: needs {', '.join(strangers)}; link those statically"
    if elf.strings(DT_RPATH, DT_RUNPATH):
        yield f"{elf.path}: has a library search path {elf.strings(DT_RPATH, DT_RUNPATH)}"
    if shim.data not in elf.data:
        yield f"{elf.path}: does not carry the bytes of {shim.path}"
    if elf.stack_is_executable():
        yield f"{elf.path}: its stack is executable; an assembly file lacks .note.GNU-stack"


def check_shim(elf):
    if elf.interpreter():
        yield f"{elf.path}: not static: needs the interpreter {elf.interpreter()}"
    if elf.strings(DT_NEEDED):
        yield f"{elf.path}: not static: needs {', '.join(elf.strings(DT_NEEDED))}"
    for mark in SSH_MARKS:
        if mark in elf.data:
            yield f"{elf.path}: contains {mark.decode()!r}: SSH code has no place in the shim"
    if len(elf.data) >= MAX_SHIM:
        yield f"{elf.path}: {len(elf.data)} bytes, {MAX_SHIM} are allowed"
    if elf.stack_is_executable():
        yield f"{elf.path}: its stack is executable"


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    clusterctl, shim = Elf(sys.argv[1]), Elf(sys.argv[2])
    problems = [*check_clusterctl(clusterctl, shim), *check_shim(shim)]
    for problem in problems:
        print(problem)
    print(f"clusterctl: {len(clusterctl.data)} bytes, needs {' '.join(clusterctl.strings(DT_NEEDED))}")
    print(f"shim: {len(shim.data)} bytes, {'static' if not shim.interpreter() else 'dynamic'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
