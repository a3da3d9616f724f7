"""The example services as real processes on free loopback ports.

Run with BUILD_DIR naming the build directory:
    BUILD_DIR=build/release python3 -m unittest tests/e2e/test_sudoku.py
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

BUILD_DIR = os.environ.get(
    "BUILD_DIR", os.path.join(os.path.dirname(__file__), "..", "..", "build", "release"))
PUZZLE = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
ANSWER = "693784512487512936125963874932651487568247391741398625319475268856129743274836159"
UNSOLVABLE = PUZZLE[:-1] + "5"
START_SECONDS = 20


def program(name, version=None):
    directory = name if version is None else f"{name}-{version}"
    return os.path.join(BUILD_DIR, "examples", directory, "bin", name)


class Process:
    """A service; its ports are read from its start-up line."""

    def __init__(self, name, *args, version="1.0.0", **popen):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [program(name, version), *args], stdout=subprocess.PIPE, stderr=self.errors,
            text=True, **popen)
        self.line = self.process.stdout.readline()
        self.ports = {kind: int(port) for kind, port in re.findall(r"(\w+) \S+:(\d+)", self.line)}

    @property
    def port(self):
        return self.ports["main"]

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=15):
        return self.process.wait(timeout)

    def log(self):
        self.errors.seek(0)
        return self.errors.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class ServiceTest(unittest.TestCase):
    def start(self, name, *args, **kwargs):
        process = Process(name, *args, **kwargs)
        self.addCleanup(process.close)
        self.assertIn(" ready: ", process.line, process.log())
        return process

    def solver(self, *args, **kwargs):
        return self.start("sudoku-solver", "--listen", "127.0.0.1", "--port", "0",
                          "--admin-port", "0", *args, **kwargs)

    def web(self, *args, **kwargs):
        return self.start("web-server", "--listen", "127.0.0.1", "--port", "0", *args, **kwargs)

    def file(self, text):
        handle = tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False)
        self.addCleanup(os.unlink, handle.name)
        with handle:
            handle.write(text)
        return handle.name

    def replace(self, path, text):
        """In one step: a service may be reading it at any time."""
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def start_with_sockets(self, names, *command, pid_script="$$", **env):
        """A program with passed sockets that listen; pid_script is what sh calls LISTEN_PID."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
        for passed in sockets:
            self.addCleanup(passed.close)
        # dup2 onto 3 and 4 may overwrite one of the sockets: through high numbers first.
        high = [os.dup(passed.fileno()) for passed in sockets]
        fds = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(high))
        script = (f"export LISTEN_PID={pid_script} LISTEN_FDS={len(names)} LISTEN_FDNAMES={':'.join(names)}; "
                  f"exec {shlex.join(command)} --listen 127.0.0.1 --port 0 {fds}")
        errors = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, stderr=errors,
                                   pass_fds=high, text=True, env={**os.environ, **env})
        self.addCleanup(errors.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for fd in high:
            os.close(fd)
        return process, [s.getsockname()[1] for s in sockets]

    def connect(self, port):
        connection = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.addCleanup(connection.close)
        return connection

    def until(self, condition, what):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)

    def load(self, *args):
        return subprocess.Popen([program("sudoku-load"), "-o", "json", *args],
                                stdout=subprocess.PIPE, text=True)

    def summary(self, load):
        with load:
            output, _ = load.communicate(timeout=60)
        summary = json.loads(output)
        self.assertEqual(summary["format"], 1)
        self.assertEqual(load.returncode, 0 if summary["failed"] == 0 else 1)
        return summary


def read_all(connection):
    data = b""
    while True:
        part = connection.recv(65536)
        if not part:
            return data
        data += part


def read_lines(connection, count):
    data = b""
    while data.count(b"\r\n") < count:
        part = connection.recv(65536)
        if not part:
            break
        data += part
    return data.decode().split("\r\n")[:-1]


def get(port, path):
    """(status, text)"""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=15) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def get_json(port, path):
    return json.loads(get(port, path)[1])


class Solver(ServiceTest):
    def test_protocol(self):
        connection = self.connect(self.solver().port)
        connection.sendall(f"a:{PUZZLE}\r\n{PUZZLE}\r\nb:{UNSOLVABLE}\r\n".encode())
        self.assertEqual(read_lines(connection, 3), [f"a:{ANSWER}", ANSWER, "b:NoSolution"])

    def test_lines_in_pieces(self):
        connection = self.connect(self.solver().port)
        for byte in f"piece:{PUZZLE}\r\n".encode():
            connection.sendall(bytes([byte]))
        self.assertEqual(read_lines(connection, 1), [f"piece:{ANSWER}"])

    def test_pipelining_answers_all_in_order(self):
        connection = self.connect(self.solver().port)
        count = 5000
        requests = "".join(f"{i}:{PUZZLE}\r\n" for i in range(count)).encode()
        sender = threading.Thread(target=connection.sendall, args=(requests,))
        sender.start()
        self.assertEqual(read_lines(connection, count), [f"{i}:{ANSWER}" for i in range(count)])
        sender.join()

    def test_half_closed_client_gets_its_answers(self):
        connection = self.connect(self.solver().port)
        connection.sendall(f"{PUZZLE}\r\n".encode() * 100)
        connection.shutdown(socket.SHUT_WR)
        self.assertEqual(read_all(connection), f"{ANSWER}\r\n".encode() * 100)

    def test_bad_requests_are_refused_and_closed(self):
        solver = self.solver()
        for bad in (PUZZLE[1:], PUZZLE + "0", "x" + PUZZLE[1:], "", ":" + PUZZLE, PUZZLE + "\n",
                    "i" * 65 + ":" + PUZZLE, "GET / HTTP/1.1"):
            with self.subTest(bad=bad):
                connection = self.connect(solver.port)
                connection.sendall(f"{PUZZLE}\r\n{bad}\r\n{PUZZLE}\r\n".encode())
                self.assertEqual(read_all(connection), f"{ANSWER}\r\nBad Request!\r\n".encode())
        self.assertEqual(get_json(solver.ports["admin"], "/stats")["requests"]["bad"], 8)

    def test_huge_line_is_refused_in_bounded_memory(self):
        solver = self.solver()
        before = resident(solver.pid)
        connection = self.connect(solver.port)
        try:
            for _ in range(1000):
                connection.sendall(b"1" * 65536)
        except OSError:
            pass
        self.assertLess(resident(solver.pid) - before, 8 << 20)
        other = self.connect(solver.port)
        other.sendall(b"1" * 5000)
        self.assertEqual(read_all(other), b"Bad Request!\r\n")

    def test_client_that_does_not_read_costs_bounded_memory(self):
        solver = self.solver()
        before = resident(solver.pid)
        connection = self.connect(solver.port)
        connection.settimeout(1)
        sent = 0
        with self.assertRaises(TimeoutError):  # the solver stops reading
            while sent < 64 << 20:
                sent += connection.send(f"{PUZZLE}\r\n".encode() * 100)
        self.assertLess(resident(solver.pid) - before, 8 << 20)
        self.assertEqual(get(solver.ports["admin"], "/healthz")[0], 200)

    def test_admin_port(self):
        old, new = self.solver(), self.solver(version="1.1.0")
        for solver, version in ((old, "1.0.0"), (new, "1.1.0")):
            self.assertIn(f"sudoku-solver {version} ready", solver.line)
            connection = self.connect(solver.port)
            connection.sendall(f"{PUZZLE}\r\n{UNSOLVABLE}\r\n".encode())
            read_lines(connection, 2)
            admin = solver.ports["admin"]
            self.assertEqual(get(admin, "/healthz"), (200, "ok\n"))
            self.assertEqual(get(admin, "/nonsense")[0], 404)
            stats = get_json(admin, "/stats")
            self.assertEqual(stats["version"], version)
            self.assertEqual((stats["requests"]["solved"], stats["requests"]["no_solution"]),
                             (1, 1))
            self.assertEqual("latency_us" in stats, version == "1.1.0")
            self.assertIn("sudoku_solved_total 1\n", get(admin, "/metrics")[1])

    def test_configuration_is_read_again_at_sighup(self):
        conf = self.file("motd = first\nthreads = 1\n")
        solver = self.solver("--conf", conf)
        connection = self.connect(solver.port)
        admin = solver.ports["admin"]
        self.assertEqual(get_json(admin, "/stats")["motd"], "first")
        self.replace(conf, "motd = second\nthreads = 1\n")
        solver.signal(signal.SIGHUP)
        self.until(lambda: get_json(admin, "/stats")["motd"] == "second", "the conf is not reread")
        self.replace(conf, "motd = third\nthreads = x\n")
        solver.signal(signal.SIGHUP)
        self.until(lambda: f"{conf}:2: threads must be" in solver.log(), "no error was logged")
        self.assertEqual(get_json(admin, "/stats")["motd"], "second")
        connection.sendall(f"{PUZZLE}\r\n".encode())
        self.assertEqual(read_lines(connection, 1), [ANSWER])

    def test_exit_codes(self):
        def code(*args, **env):
            return subprocess.run([program("sudoku-solver", "1.0.0"), *args], timeout=15,
                                  capture_output=True, env={**os.environ, **env})
        self.assertEqual(code("--version").stdout, b"sudoku-solver 1.0.0\n")
        self.assertEqual(code("--help").returncode, 0)
        self.assertEqual(code("--prot", "1").returncode, 64)
        self.assertEqual(code().returncode, 64)
        self.assertEqual(code("--port", "x").returncode, 64)
        self.assertEqual(code(PORT_MAIN="70000").returncode, 64)
        bad = code("--port", "0", "--conf", self.file("\nx = 1\n"))
        self.assertEqual(bad.returncode, 65)
        self.assertIn(b".conf:2: unknown key", bad.stderr)
        taken = str(self.solver().port)
        self.assertEqual(code("--listen", "127.0.0.1", "--port", taken).returncode, 69)

    def test_ports_from_the_environment(self):
        solver = self.start("sudoku-solver", env={**os.environ, "PORT_MAIN": "0", "PORT_ADMIN": "0"})
        self.assertEqual(get(solver.ports["admin"], "/healthz")[0], 200)

    def test_passed_sockets(self):
        process, ports = self.start_with_sockets(["main", "admin"], program("sudoku-solver", "1.0.0"))
        line = process.stdout.readline()
        self.assertIn(f"main 127.0.0.1:{ports[0]}, admin 127.0.0.1:{ports[1]}", line)
        self.assertEqual(get(ports[1], "/healthz")[0], 200)
        process.terminate()
        process.wait(15)
        # The socket outlives the process: a client is not refused meanwhile.
        self.connect(ports[0])

    def test_sockets_passed_to_another_process_are_left_alone(self):
        process, ports = self.start_with_sockets(["main", "admin"], program("sudoku-solver", "1.0.0"), pid_script="1")
        line = process.stdout.readline()
        self.assertIn(" ready: main ", line)
        self.assertNotIn(f":{ports[0]},", line)

    def test_notifies_its_supervisor(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(path)
                listener.settimeout(15)
                solver = self.solver(env={**os.environ, "NOTIFY_SOCKET": path})
                self.assertEqual(listener.recv(100), b"READY=1")
                solver.signal(signal.SIGTERM)
                self.assertEqual(listener.recv(100), b"STOPPING=1")
                self.assertEqual(solver.wait(), 0)


class SolverStops(ServiceTest):
    def test_what_was_sent_before_sigterm_is_answered(self):
        solver = self.solver()
        count = 300
        connections = [self.connect(solver.port) for _ in range(8)]
        for connection in connections:
            connection.sendall(f"{PUZZLE}\r\n".encode() * count)
        solver.signal(signal.SIGTERM)
        for connection in connections:
            self.assertEqual(read_all(connection), f"{ANSWER}\r\n".encode() * count)
        self.assertEqual(solver.wait(), 0)

    def test_connections_not_yet_accepted_are_answered(self):
        solver = self.solver()
        solver.signal(signal.SIGSTOP)
        connections = [self.connect(solver.port) for _ in range(50)]
        for connection in connections:
            connection.sendall(f"{PUZZLE}\r\n".encode())
        solver.signal(signal.SIGTERM)
        solver.signal(signal.SIGCONT)
        for connection in connections:
            self.assertEqual(read_all(connection), f"{ANSWER}\r\n".encode())
        self.assertEqual(solver.wait(), 0)

    def test_idle_connections_do_not_hold_it_up(self):
        solver = self.solver()
        connection = self.connect(solver.port)
        solver.signal(signal.SIGTERM)
        self.assertEqual(read_all(connection), b"")
        connection.close()
        begin = time.monotonic()
        self.assertEqual(solver.wait(), 0)
        self.assertLess(time.monotonic() - begin, 3)

    def test_a_client_that_goes_on_asking_is_served_for_the_grace(self):
        solver = self.solver("--conf", self.file("shutdown_grace = 500ms\n"))
        connection = self.connect(solver.port)
        solver.signal(signal.SIGTERM)
        begin, answers = time.monotonic(), 0
        while True:
            try:
                connection.sendall(f"{PUZZLE}\r\n".encode())
            except OSError:
                break
            if not read_lines(connection, 1):
                break
            answers += 1
        connection.close()
        self.assertGreater(time.monotonic() - begin, 0.4)
        self.assertGreater(answers, 10)
        self.assertEqual(solver.wait(), 0)

    def test_silent_client_does_not_hold_it_up_for_ever(self):
        solver = self.solver("--conf", self.file("shutdown_grace = 100ms\n"))
        self.connect(solver.port)  # reads nothing, never hangs up
        busy = self.connect(solver.port)
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        busy.settimeout(0.5)
        try:
            while True:
                busy.send(f"{PUZZLE}\r\n".encode() * 100)
        except TimeoutError:
            pass
        solver.signal(signal.SIGTERM)
        self.assertEqual(solver.wait(10), 0)


class Web(ServiceTest):
    def solvers(self, count=2, **kwargs):
        solvers = [self.solver(**kwargs) for _ in range(count)]
        return solvers, ",".join(f"127.0.0.1:{solver.port}" for solver in solvers)

    def test_page(self):
        _, addresses = self.solvers(1)
        for version in ("1.0.0", "1.1.0"):
            web = self.web("--solvers", addresses, version=version)
            status, page = get(web.port, "/")
            self.assertEqual(status, 200)
            self.assertIn(f"web-server {version}", page)
            self.assertNotIn("{{", page)
            self.assertNotRegex(page, r'(src|href)="(https?:)?//')
            self.assertEqual(get(web.port, "/metrics")[0], 200 if version == "1.1.0" else 404)

    def test_solve(self):
        solvers, addresses = self.solvers(2)
        web = self.web("--solvers", addresses)
        used = set()
        for _ in range(10):
            answer = get_json(web.port, "/solve/" + PUZZLE)
            self.assertEqual(answer["solution"], ANSWER)
            self.assertGreater(answer["micros"], 0)
            used.add(answer["solver"])
        self.assertEqual(used, {f"127.0.0.1:{solver.port}" for solver in solvers})
        self.assertIsNone(get_json(web.port, "/solve/" + UNSOLVABLE)["solution"])
        for bad in ("", PUZZLE[1:], PUZZLE + "1", "x" * 81):
            self.assertEqual(get(web.port, "/solve/" + bad)[0], 400)

    def test_readiness_follows_the_solvers(self):
        solvers, addresses = self.solvers(1)
        web = self.web("--solvers", addresses)
        self.until(lambda: get(web.port, "/readyz")[0] == 200, "never ready")
        solvers[0].process.kill()
        self.until(lambda: get(web.port, "/readyz")[0] == 503, "ready without solvers")
        self.assertEqual(get(web.port, "/healthz")[0], 200)
        self.assertEqual(get(web.port, "/solve/" + PUZZLE)[0], 503)

    def test_a_client_that_waits_in_a_passed_socket_is_not_told_that_there_are_no_solvers(self):
        solver = self.solver()
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as naming:
            naming.bind(os.path.join(directory, "naming.sock"))
            naming.listen()
            naming.settimeout(15)
            process, ports = self.start_with_sockets(
                ["main"], program("web-server", "1.0.0"), "--solver-service", "sudoku-solver",
                CLUSTERCTL_NAMING=naming.getsockname())
            client = self.connect(ports[0])
            client.sendall(f"GET /solve/{PUZZLE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            connection, _ = naming.accept()
            with connection:
                self.assertEqual(json.loads(connection.makefile().readline()), {"watch": "sudoku-solver"})
                client.settimeout(0.2)
                with self.assertRaises(TimeoutError):  # it waits until it knows whom to ask
                    client.recv(1)
                client.settimeout(15)
                endpoint = {"instance": "sudoku-solver/0", "host": "h", "address": "127.0.0.1",
                            "ports": {"main": solver.port}, "version": "1.0.0", "state": "ready"}
                connection.sendall(json.dumps({"format": 1, "service": "sudoku-solver", "revision": 1, "known": True,
                                               "endpoints": [endpoint]}).encode() + b"\n")
                self.assertIn(ANSWER, read_all(client).decode())

    def test_no_solvers_at_all(self):
        web = self.web()
        self.assertEqual(get(web.port, "/healthz")[0], 200)
        self.assertEqual(get(web.port, "/readyz")[0], 503)
        self.assertEqual(get(web.port, "/solve/" + PUZZLE)[0], 503)

    def test_keep_alive_pipelining_and_limits(self):
        _, addresses = self.solvers(1)
        web = self.web("--solvers", addresses)
        connection = self.connect(web.port)
        request = f"GET /solve/{PUZZLE} HTTP/1.1\r\nHost: x\r\n\r\n"
        last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall((request * 50 + last).encode())
        answers = read_all(connection).decode()
        self.assertEqual(answers.count("HTTP/1.1 200 OK"), 51)
        self.assertEqual(answers.count(ANSWER), 50)
        for bad, status in (("GET / HTTP/1.1\r\n" + "a: b\r\n" * 5000, "431"),
                            ("GET /" + "a" * 70000, "414"), ("nonsense\r\n\r\n", "400"),
                            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab" + last, "405")):
            connection = self.connect(web.port)
            connection.sendall(bad.encode())
            self.assertEqual(read_all(connection)[:12].decode(), f"HTTP/1.1 {status}")

    def test_another_solver_is_asked_when_one_answers_nonsense_or_nothing(self):
        good, address = self.solvers(1)

        def misbehave(connection, how):
            with connection:
                data = connection.recv(4096)
                if data and how == "nonsense":
                    connection.sendall(b"nonsense\r\n")
                elif data and how == "partial":
                    connection.sendall(b"1:69378")
                elif how == "silent":
                    connection.recv(1)

        def serve(listener, how):
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=misbehave, args=(connection, how), daemon=True).start()

        for how in ("nonsense", "partial", "close", "silent"):
            with self.subTest(how=how), socket.create_server(("127.0.0.1", 0)) as listener:
                threading.Thread(target=serve, args=(listener, how), daemon=True).start()
                bad = f"127.0.0.1:{listener.getsockname()[1]}"
                conf = self.file(f"solver = {bad}\nsolver = {address}\n"
                                 "solver_timeout = 300ms\neject_for = 50ms\n")
                web = self.web("--conf", conf)
                for _ in range(20):
                    answer = get_json(web.port, "/solve/" + PUZZLE)
                    self.assertEqual(answer["solver"], f"127.0.0.1:{good[0].port}")
                    time.sleep(0.02)
                listener.shutdown(socket.SHUT_RDWR)

    def test_term_of_a_solver_under_load_loses_nothing(self):
        solvers, addresses = self.solvers(2)
        web = self.web("--solvers", addresses)
        load = self.load("--target", f"http://127.0.0.1:{web.port}", "--rate", "500",
                         "--duration", "4s")
        time.sleep(1)
        solvers[0].signal(signal.SIGTERM)
        self.assertEqual(solvers[0].wait(), 0)
        summary = self.summary(load)
        self.assertEqual(summary["failed"], 0, summary)
        self.assertEqual(summary["sent"], 2000)
        self.assertEqual(len(summary["answered_by"]), 2)

    def test_kill_of_a_solver_under_load_loses_nothing(self):
        solvers, addresses = self.solvers(2)
        web = self.web("--solvers", addresses)
        load = self.load("--target", f"http://127.0.0.1:{web.port}", "--rate", "500",
                         "--duration", "3s")
        time.sleep(1)
        solvers[1].process.kill()
        summary = self.summary(load)
        self.assertEqual(summary["failed"], 0, summary)

    def test_new_solver_list_at_sighup_under_load_loses_nothing(self):
        (first, second), _ = self.solvers(2)
        conf = self.file(f"solver = 127.0.0.1:{first.port}\n")
        web = self.web("--conf", conf)
        load = self.load("--target", f"http://127.0.0.1:{web.port}", "--rate", "500",
                         "--duration", "5s")
        for turn in range(20):
            time.sleep(0.1)
            self.replace(conf, f"solver = 127.0.0.1:{(second, first)[turn % 2].port}\n")
            web.signal(signal.SIGHUP)
        self.replace(conf, "solver = nowhere\n")  # refused: the list stays as it was
        web.signal(signal.SIGHUP)
        summary = self.summary(load)
        self.assertEqual(summary["failed"], 0, summary)
        self.assertEqual(len(summary["answered_by"]), 2)
        self.assertIn("the configuration stays as it was", web.log())

    def test_rolling_replacement_behind_the_web_server_loses_nothing(self):
        olds, _ = self.solvers(2)
        conf = self.file("".join(f"solver = 127.0.0.1:{s.port}\n" for s in olds))
        web = self.web("--conf", conf)
        load = self.load("--target", f"http://127.0.0.1:{web.port}", "--rate", "500",
                         "--duration", "6s")
        running = list(olds)
        for old in olds:
            time.sleep(0.5)
            running[running.index(old)] = self.solver(version="1.1.0")
            self.replace(conf, "".join(f"solver = 127.0.0.1:{s.port}\n" for s in running))
            web.signal(signal.SIGHUP)
            time.sleep(0.2)
            old.signal(signal.SIGTERM)
            self.assertEqual(old.wait(), 0)
        summary = self.summary(load)
        self.assertEqual(summary["failed"], 0, summary)
        self.assertEqual(len(summary["answered_by"]), 4)

    def test_term_of_the_web_server_answers_what_was_asked(self):
        _, addresses = self.solvers(1)
        web = self.web("--solvers", addresses)
        request = f"GET /solve/{PUZZLE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        connections = [self.connect(web.port) for _ in range(50)]
        for connection in connections:
            connection.sendall(request)
        web.signal(signal.SIGTERM)
        for connection in connections:
            self.assertIn(ANSWER, read_all(connection).decode())
        self.assertEqual(web.wait(), 0)

    def test_kept_connection_hears_of_the_stop(self):
        _, addresses = self.solvers(1)
        web = self.web("--solvers", addresses)
        connection = self.connect(web.port)
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(request)
        self.assertIn(b"keep-alive", connection.recv(4096))
        web.signal(signal.SIGTERM)
        self.until(lambda: "stopping" in web.log(), "SIGTERM was not heard")
        connection.sendall(request)
        self.assertIn(b"Connection: close", read_all(connection))
        self.assertEqual(web.wait(), 0)


class Load(ServiceTest):
    def test_line_protocol_and_new_connections(self):
        solver = self.solver()
        for options in ((), ("--new-connections",)):
            load = self.load("--target", f"tcp://127.0.0.1:{solver.port}", "--rate", "300",
                             "--duration", "1s", *options)
            summary = self.summary(load)
            self.assertEqual((summary["sent"], summary["ok"], summary["failed"]), (300, 300, 0))
            self.assertGreater(summary["latency_ms"]["p50"], 0)
            self.assertLessEqual(summary["latency_ms"]["p99"], summary["latency_ms"]["max"])

    def test_failures_are_counted_by_kind(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        summary = self.summary(self.load("--target", f"http://127.0.0.1:{port}", "--rate", "50",
                                         "--duration", "500ms"))
        self.assertEqual((summary["failed"], summary["failures"]["refused"]), (25, 25))
        web = self.web()
        summary = self.summary(self.load("--target", f"http://127.0.0.1:{web.port}", "--rate", "50",
                                         "--duration", "500ms"))
        self.assertEqual(summary["failures"]["http_5xx"], 25)

    def test_a_stall_shows_in_the_latency_of_all_that_it_delayed(self):
        solver = self.solver()
        load = self.load("--target", f"tcp://127.0.0.1:{solver.port}", "--rate", "100",
                         "--duration", "2s", "--connections", "1")
        time.sleep(0.5)
        solver.signal(signal.SIGSTOP)
        time.sleep(1)
        solver.signal(signal.SIGCONT)
        summary = self.summary(load)
        self.assertEqual(summary["failed"], 0)
        self.assertGreater(summary["latency_ms"]["p90"], 500)

    def test_silence_is_a_timeout(self):
        solver = self.solver()
        solver.signal(signal.SIGSTOP)
        load = self.load("--target", f"tcp://127.0.0.1:{solver.port}", "--rate", "20",
                         "--duration", "500ms", "--timeout", "300ms", "--connections", "4")
        summary = self.summary(load)
        self.assertEqual(summary["failures"]["timeout"], 10)

    def test_wrong_answers_are_found(self):
        def serve(listener):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    connection.sendall(line.split(b":")[0] + b":" + ANSWER.encode() + b"\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
            load = self.load("--target", f"tcp://127.0.0.1:{listener.getsockname()[1]}", "--rate",
                             "20", "--duration", "500ms", "--connections", "1")
            summary = self.summary(load)
        self.assertEqual(summary["failures"]["wrong_solution"], 10)

    def test_signal_ends_it_with_a_summary(self):
        solver = self.solver()
        load = self.load("--target", f"tcp://127.0.0.1:{solver.port}", "--until-signal")
        time.sleep(1)
        load.send_signal(signal.SIGINT)
        summary = self.summary(load)
        self.assertGreater(summary["ok"], 50)
        self.assertEqual(summary["failed"], 0)

    def test_usage(self):
        for args in ((), ("--target", "127.0.0.1:1"), ("--target", "tcp://127.0.0.1:1", "--rate", "0"),
                     ("--target", "tcp://127.0.0.1:1", "--duration", "5"),
                     ("--target", "tcp://127.0.0.1:1", "-o", "xml")):
            result = subprocess.run([program("sudoku-load"), *args], capture_output=True, timeout=15)
            self.assertEqual(result.returncode, 64, args)


def resident(pid):
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    unittest.main()
