# SPDX-License-Identifier: Apache-2.0
"""A small mesh on loopback for the enemy to attack: servers of the debug build, run and ended by this process."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
# Not for the servers: to them it would be a setting.
BIN = pathlib.Path(os.environ.pop("MESH_BIN", TOP / ".build/debug"))
PATIENCE = 20


class Failed(Exception):
    """The attack went through."""


def expect(holds, words):
    if not holds:
        raise Failed(words)


def until(holds, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False


def meshctl(*words, stdin=""):
    """Runs meshctl as an operator does, without a terminal."""
    return subprocess.run([BIN / "meshctl", *map(str, words)], capture_output=True, text=True, input=stdin)


class Server:
    def __init__(self, bed, name, site, ports, seed=None, options=(), under=()):
        self.bed, self.name, self.site, self.ports, self.seed = bed, name, site, ports, seed
        self.data, self.options, self.process = bed.scratch / f"{site}-{name}", options, None
        self.under = under

    def start(self):
        self.start_locked()
        if not until(lambda: self.http("GET", "/healthz")[0] == 200):
            raise Failed(f"{self.name} does not start: {self.data}.log")
        return self

    def start_locked(self):
        """Starts the process, and does not wait until it serves."""
        seeds = ["--mesh-seeds", f"127.0.0.1:{self.seed}"] if self.seed else []
        self.process = subprocess.Popen(
            [*self.under, BIN / "meshd", "--data", self.data, "--mesh-listen", f"127.0.0.1:{self.ports[0]}", *([] if "--http-listen" in self.options else ["--http-listen", f"127.0.0.1:{self.ports[1]}"]),
             "--discovery-enabled", "false", *seeds, *self.options],
            stdout=open(f"{self.data}.log", "ab"), stderr=subprocess.STDOUT)
        return self.process

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.name} does not end within 20 s") from None

    def ctl(self, *words, stdin=""):
        return meshctl(*words, "--data", self.data, stdin=stdin)

    def http(self, method, path, body=None, headers=None):
        """One request over TCP: status, headers, body; status 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[1], timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except OSError:
            return 0, {}, b""
        finally:
            connection.close()

    def admin(self, method, path, body=None, headers=None):
        """One request over the admin socket."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.data / "admin.sock"))
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def peers(self):
        return json.loads(self.admin("GET", "/v1/peers")[2])["peers"]

    def state(self, name):
        return sorted(peer["state"] for peer in self.peers() if peer["node"] == name)


class Bed:
    def __init__(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="enemy."))
        self.keys = self.scratch / "keys"
        self.servers = []
        # Below the ports that the system deals out itself.
        self.port = 10_000 + os.getpid() % 20_000
        self.run("mesh", "create", self.keys, "--name", "enemy", "--no-passphrase")

    def run(self, *words):
        done = meshctl(*words)
        if done.returncode != 0:
            raise Failed(f"meshctl {words[0]}: {done.stderr}")
        return done

    def ticket(self, name, site, *more):
        path = self.scratch / f"{site}-{name}.ticket"
        self.run("ticket", "create", "--keys", self.keys, "--site", site, "--node", name, "--out", path, *more)
        return path

    def server(self, name, site, *more, seed=None, options=(), under=(), port=None):
        """A server with a ticket of its own, running; `under` is a command that starts it, `port` that of its options."""
        ticket = self.ticket(name, site, *more)
        ports = (self.port, port or self.port + 1)
        self.port += 2
        server = Server(self, name, site, ports, seed, options, under)
        self.run("join", ticket, "--data", server.data)
        self.servers.append(server)
        return server.start()

    def close(self):
        for server in self.servers:
            server.stop()

    def end(self):
        """Leaves no process and no file behind, whatever happened."""
        for server in self.servers:
            if server.process and server.process.poll() is None:
                server.process.kill()
                server.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
