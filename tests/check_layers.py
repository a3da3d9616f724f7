#!/usr/bin/env python3
"""Holds every #include of src/ to the layers of ARCHITECTURE.md.

    check_layers.py [--root DIR] [--self-test]

Prints FILE:LINE: what is wrong, a line for each violation; exits 1 when there is one.
"""
import argparse
import pathlib
import re
import sys
import tempfile

# The table of the design ("Layers"): who may include whom beside itself.
ALLOWED = {
    "base": [],
    "model": ["base"],
    "protocol": ["base", "model"],
    "registry": ["base", "model", "protocol"],
    "shim": ["base", "model", "protocol", "registry"],
    "transport": ["base", "protocol"],
    "release": ["base", "model"],
    "ops": ["base", "model", "protocol", "registry", "transport", "release"],
    "serve": ["base", "model", "protocol", "registry", "transport", "release", "ops"],
    "cli": ["base", "model", "protocol", "registry", "transport", "release", "ops", "serve"],
    # The code behind include/clusterctl, which service authors link: nothing of ours.
    "naming": [],
}

# One header that a layer may include against the table, with the reason.
EXCEPTIONS = {
    # (including file's layer, header): reason
    ("cli", "shim/embedded.h"): "the bytes of the shim's executable, which main hands to ops to place",
}

# Libraries that only some layers may include at all.
ONLY_IN = {
    "libssh/": ["transport"],
    "CLI/": ["cli"],
    "yaml-cpp/": ["model"],
}

# Slow to compile, or a library that should stay behind an interface: .cc files only.
HEADER_BANNED = ["nlohmann/json.hpp", "CLI/", "yaml-cpp/"]
# Headers that may all the same, with the reason.
HEADER_ALLOWED = {
    ("protocol/codec.h", "nlohmann/json.hpp"): "templates that .cc files of messages include",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
HEADERS = {".h", ".hpp"}
SOURCES = HEADERS | {".cc", ".cpp", ".c", ".inc"}


class Checker:
    def __init__(self, root):
        self.root = root
        self.problems = []
        self.files = 0

    def complain(self, path, line, text):
        self.problems.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def run(self):
        source = self.root / "src"
        for entry in sorted(source.iterdir()):
            if entry.is_dir() and entry.name not in ALLOWED:
                self.complain(entry, 1, "not a layer: add it to ARCHITECTURE.md and to this script's table")
            elif entry.is_dir():
                self.check_layer(entry)
            elif entry.suffix in SOURCES:
                self.complain(entry, 1, "a source file outside of the layers' directories")
        self.check_outside("include", lambda name: name.startswith("clusterctl/"))
        self.check_outside("examples", lambda name: name.split("/")[0] not in ALLOWED)
        return self.problems

    def check_layer(self, directory):
        for path in sorted(directory.rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                self.check_file(directory.name, path)

    def check_file(self, layer, path):
        self.files += 1
        once = False
        for number, line in self.lines(path):
            once = once or line.strip() == "#pragma once"
            found = INCLUDE.match(line)
            if found:
                self.check_include(layer, path, number, found.group(1), found.group(2))
        if path.suffix in HEADERS and not once:
            self.complain(path, 1, "a header without #pragma once")

    @staticmethod
    def lines(path):
        return enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)

    def check_include(self, layer, path, number, quote, name):
        self.check_library(layer, path, number, name)
        if quote == "<":
            if name.split("/")[0] in ALLOWED and (self.root / "src" / name).exists():
                self.complain(path, number, f'<{name}>: a header of ours goes in quotes')
        elif layer == "naming" and not name.startswith(("clusterctl/", "naming/")):
            self.complain(path, number, f'"{name}": naming may include only clusterctl/ and its own')
        elif not name.startswith("clusterctl/"):
            self.check_ours(layer, path, number, name)

    def check_library(self, layer, path, number, name):
        for prefix, layers in ONLY_IN.items():
            if name.startswith(prefix) and layer not in layers:
                self.complain(path, number, f"<{name}>: only {', '.join(layers)} may use that library")
        if path.suffix not in HEADERS:
            return
        key = (path.relative_to(self.root / "src").as_posix(), name)
        for prefix in HEADER_BANNED:
            if name.startswith(prefix) and key not in HEADER_ALLOWED:
                self.complain(path, number, f"<{name}>: in .cc files only")

    def check_ours(self, layer, path, number, name):
        target = name.split("/")[0]
        if "/" not in name or target not in ALLOWED:
            self.complain(path, number, f'"{name}": write it from src/, as "{layer}/…"')
        elif target != layer and target not in ALLOWED[layer] and (layer, name) not in EXCEPTIONS:
            allowed = ", ".join(ALLOWED[layer]) or "nothing else"
            self.complain(path, number, f'"{name}": {layer} may include {allowed}, not {target}')

    def check_outside(self, directory, fine):
        for path in sorted((self.root / directory).rglob("*")):
            if path.suffix not in SOURCES or not path.is_file():
                continue
            for number, line in self.lines(path):
                found = INCLUDE.match(line)
                if found and found.group(1) == '"' and not fine(found.group(2)):
                    self.complain(path, number, f'"{found.group(2)}": {directory}/ stands apart from src/')


# ---- does it find what it should? ----

SELF_TEST = {
    # file: (content, what the complaint must contain; None: none expected)
    "src/base/a.h": ("#pragma once\n#include <vector>\n", None),
    "src/base/b.cc": ('#include "base/a.h"\n#include "model/x.h"\n', ":2: \"model/x.h\": base may include nothing else"),
    "src/model/x.h": ("#include <string>\n", "without #pragma once"),
    "src/model/y.cc": ('#include "base/a.h"\n#include <yaml-cpp/parser.h>\n', None),
    "src/model/z.h": ("#pragma once\n#include <yaml-cpp/parser.h>\n", ":2: <yaml-cpp/parser.h>: in .cc files only"),
    "src/shim/s.cc": ('#include "transport/session.h"\n', "not transport"),
    "src/shim/t.cc": ("  #  include <libssh/libssh.h>\n", "only transport"),
    "src/transport/u.h": ("#pragma once\n#include <libssh/libssh.h>\n", None),
    "src/ops/v.cc": ('#include "shim/supervisor.h"\n', "not shim"),
    "src/ops/w.cc": ('#include "shim/embedded.h"\n', "not shim"),
    "src/cli/main.cc": ('#include "shim/embedded.h"\n', None),
    "src/cli/c.cc": ('#include "ops/o.h"\n#include "serve/p.h"\n#include <CLI/CLI.hpp>\n', None),
    "src/serve/d.cc": ('#include "cli/c.h"\n', "not cli"),
    "src/protocol/codec.h": ("#pragma once\n#include <nlohmann/json.hpp>\n", None),
    "src/protocol/other.h": ("#pragma once\n#include <nlohmann/json.hpp>\n", "in .cc files only"),
    "src/protocol/fwd.h": ("#pragma once\n#include <nlohmann/json_fwd.hpp>\n", None),
    "src/release/short.cc": ('#include "elf.h"\n', "write it from src/"),
    "src/release/angle.cc": ("#include <base/a.h>\n", "in quotes"),
    "src/utils/e.cc": ("", "not a layer"),
    "src/naming/n.cc": ('#include "clusterctl/naming.h"\n', None),
    "src/naming/o.cc": ('#include "base/a.h"\n', "naming may include only"),
    "include/clusterctl/naming.h": ('#include "base/a.h"\n', "stands apart"),
    "examples/x/main.cc": ('#include "own.h"\n', None),
    "examples/x/bad.cc": ('#include "base/a.h"\n', "stands apart"),
}


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for name, (content, _) in SELF_TEST.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content, encoding="utf-8")
        problems = Checker(root).run()
    failures = []
    for name, (_, expected) in SELF_TEST.items():
        about = [p for p in problems if p.startswith((name + ":", str(pathlib.Path(name).parent) + ":"))]
        if expected is None and about:
            failures.append(f"{name}: unexpected: {about}")
        if expected is not None and not any(expected in problem for problem in about):
            failures.append(f"{name}: expected {expected!r}, got {about}")
    if len(problems) != sum(1 for _, expected in SELF_TEST.values() if expected):
        failures.append(f"{len(problems)} complaints: {problems}")
    for failure in failures:
        print(failure)
    print(f"self-test: {len(SELF_TEST)} files, {'failed' if failures else 'ok'}")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    checker = Checker(options.root)
    problems = checker.run()
    for problem in problems:
        print(problem)
    print(f"{checker.files} files checked, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
