"""The sudoku example under load: open-loop load on it, and a real nginx and HAProxy before its web servers that follow
them through the views of their host."""

import json
import os
import signal
import subprocess
import urllib.request

from harness import BUILD_DIR, wait_for

NGINX = """
user root; worker_processes 1; pid /run/nginx-t.pid; error_log /var/log/nginx-t.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3;
  uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;
  include /opt/clusterctl/registry/views/web.conf;
  server {{ listen 8080; location / {{ proxy_pass http://web; proxy_next_upstream {next_upstream}; }} }}
}}
"""

HAPROXY = """
global
  stats socket /run/haproxy-t.sock mode 600 level admin
  pidfile /run/haproxy-t.pid
defaults
  mode http
  retries {retries}
  timeout connect 2s
  timeout client 10s
  timeout server 10s
frontend front
  bind :8081
  default_backend web
backend web
  balance roundrobin
  server-template web 1-6 127.0.0.1:9 disabled
"""

VIEWS = """
  - {{nginx: web.conf, service: web-server, upstream: web, hosts: host{host},
     reload: [/usr/sbin/nginx, -c, /etc/nginx-t.conf, -s, reload]}}
  - {{haproxy: /run/haproxy-t.sock, service: web-server, backend: web, servers: "web[1-6]", hosts: host{host}}}
"""


def example(*parts):
    return os.path.join(BUILD_DIR, "examples", *parts)


def add_releases(cluster):
    for service in ("sudoku-solver", "web-server"):
        for version in ("1.0.0", "1.1.0"):
            cluster.run("release", "add", service, version, example(f"{service}-{version}"))


def url_of(endpoint):
    return f"http://{endpoint['address']}:{endpoint['ports']['main']}"


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Load:
    """sudoku-load from this machine, until ended: requests fall due whatever becomes of the ones before, and every
    answer is checked."""

    def __init__(self, targets, *options, rate=60):
        self.process = subprocess.Popen(
            [example("sudoku-load", "bin", "sudoku-load"), "--target", ",".join(targets), "--rate", str(rate),
             "--until-signal", "--timeout", "20s", "-o", "json", *options], stdout=subprocess.PIPE, text=True)

    def end(self):
        """Its summary."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Front:
    """nginx and HAProxy on a host; VIEWS with that host must be in cluster.yaml. With `strict` they send a request
    to one server only: whoever takes it must answer it."""

    def __init__(self, cluster, host, strict=False):
        self.bed, self.host = cluster.bed, host
        self.put("/etc/nginx-t.conf", NGINX.format(next_upstream="off" if strict else "error timeout"))
        self.put("/etc/haproxy-t.cfg", HAPROXY.format(retries=0 if strict else 3))
        self.nginx, self.haproxy = (f"http://{self.bed.addr(host)}:{port}" for port in (8080, 8081))

    def put(self, path, text):
        with open(str(self.bed.live_root(self.host)) + path, "w") as file:
            file.write(text)

    def start(self):
        self.bed.exec(self.host, "/usr/sbin/nginx", "-c", "/etc/nginx-t.conf")
        self.start_haproxy()
        wait_for(lambda: self.answers(self.nginx), what="nginx")
        wait_for(lambda: self.answers(self.haproxy), what="HAProxy to be filled")

    def start_haproxy(self):
        self.bed.exec(self.host, "/usr/sbin/haproxy", "-D", "-f", "/etc/haproxy-t.cfg")

    def end(self, *programs):
        for name in programs or ("nginx", "haproxy"):
            self.bed.exec(self.host, "pkill", "-x", name, check=False)

    @staticmethod
    def answers(url):
        try:
            return fetch(url + "/healthz") == "ok\n"
        except OSError:
            return False
