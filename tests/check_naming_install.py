"""Installs the naming client into a directory and builds a C and a C++ program on it, as its users do: by pkg-config
and by find_package. BUILD_DIR names the build directory."""

import os
import shutil
import subprocess
import tempfile
import unittest

BUILD_DIR = os.path.abspath(os.environ.get("BUILD_DIR", "build/release"))

C = """#include <clusterctl/naming_c.h>
#include <clusterctl/ready.h>
#include <stdio.h>
int main(void) {
  clusterctl_naming *naming = clusterctl_naming_open("/nonexistent/run/naming.sock");
  if (clusterctl_naming_watch(naming, "web", NULL, NULL) != 0) return 1;
  puts(clusterctl_naming_error(naming));
  clusterctl_naming_close(naming);
  return clusterctl_ready();
}
"""

CXX = """#include <clusterctl/naming.h>
#include <cstdio>
int main() {
  clusterctl::NamingOptions options;
  options.socket = "/nonexistent/run/naming.sock";
  clusterctl::NamingThread naming(options);
  naming.watch("web", [](const clusterctl::Service& service) { std::puts(service.name.c_str()); });
  return naming.waitFor("web", std::chrono::milliseconds(1)) ? 1 : 0;
}
"""

CMAKE = """cmake_minimum_required(VERSION 3.16)
project(user LANGUAGES CXX)
find_package(clusterctl-naming REQUIRED)
add_executable(user main.cc)
target_link_libraries(user PRIVATE clusterctl::naming)
"""


class InstallTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="cctl-install-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.prefix = os.path.join(self.dir, "usr")
        # Only the library: the rest of the build may not be there yet.
        self.run_("cmake", "--install", os.path.join(BUILD_DIR, "src", "naming"), "--prefix", self.prefix)

    def run_(self, *command, **options):
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def put(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def find(self, name):
        for directory, _, files in os.walk(self.prefix):
            if name in files:
                return os.path.join(directory, name)
        raise AssertionError(f"{name} was not installed")

    def test_a_c_program_by_pkg_config(self):
        if shutil.which("pkg-config") is None:
            self.skipTest("pkg-config is not installed")
        environment = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(self.find("clusterctl-naming.pc"))}
        flags = self.run_("pkg-config", "--cflags", "--libs", "clusterctl-naming", env=environment).split()
        program = os.path.join(self.dir, "user")
        self.run_("cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", self.put("main.c", C), *flags, "-o", program)
        self.assertEqual(self.run_(program), "/nonexistent/run/naming.sock: No such file or directory\n")

    def test_a_cxx_program_by_find_package(self):
        self.put("main.cc", CXX)
        self.put("CMakeLists.txt", CMAKE)
        build = os.path.join(self.dir, "build")
        self.run_("cmake", "-S", self.dir, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_("cmake", "--build", build)
        self.run_(os.path.join(build, "user"))


if __name__ == "__main__":
    unittest.main()
