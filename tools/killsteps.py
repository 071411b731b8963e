#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a server at every system call by which it fetches, assembles, activates and collects content.

killsteps.py [--sample N]: a server that serves one release goes for a later one under strace, which kills it at the
first, second, third … call of each kind that touches files. After each death every file that is served must be of one
release, whole; the server must then start, reach the last release, and find nothing damaged. With --sample only every
Nth step is tried. Needs the debug build, strace, and loopback. Exit 1 names the step.
"""
import argparse
import filecmp
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
BIN = TOP / ".build/debug"
# What changes files: names, links, sizes, bytes, and what makes them last.
CALLS = [
    "rename", "renameat", "renameat2", "symlink", "symlinkat", "link", "linkat", "unlink", "unlinkat", "rmdir",
    "mkdir", "mkdirat", "ftruncate", "chmod", "fchmod", "fchmodat", "syncfs", "fsync", "fdatasync", "pwrite64", "write",
]
# The database and the sockets write too: of these calls there is no end, so only so many are tried.
MOST = {"pwrite64": 60, "write": 40, "fdatasync": 30}
PATIENCE = 20
# Two releases, and the files of the way back that was signed with the older one.
KEPT = 3


class Server:
    def __init__(self, name, data, ports, seed=None):
        self.name, self.data, self.ports, self.seed, self.process = name, data, ports, seed, None

    def start(self, *wrapper):
        seeds = ["--mesh-seeds", f"127.0.0.1:{self.seed}"] if self.seed else []
        self.process = subprocess.Popen(
            [*wrapper, BIN / "meshd", "--data", self.data, "--mesh-listen", f"127.0.0.1:{self.ports[0]}",
             "--http-listen", f"127.0.0.1:{self.ports[1]}", "--store-volatile", "--discovery-enabled", "false",
             "--content-keep", "2", *seeds],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def ctl(self, *words):
        return subprocess.run([BIN / "meshctl", *map(str, words), "--data", self.data], capture_output=True, text=True)


def served(data):
    return data / "content/menu/active"


def release(data):
    try:
        return os.readlink(served(data)).split("/")[-1]
    except OSError:
        return None


def write(folder, number):
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "img").mkdir(parents=True)
    (folder / "index.html").write_text(f"release {number}\n")
    (folder / "same.txt").write_text("the same in all\n" * 2000)
    (folder / "empty").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    for name in ("a", "b"):
        (folder / "img" / name).write_bytes(os.urandom(60_000) + bytes([number]))


def is_whole(data, folders):
    """Whether what is served is one of the published folders, byte by byte."""
    tree = served(data)
    return any(is_same(folder, tree) for folder in folders)


def is_same(one, other):
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*") if p.is_file())
    if names != sorted(str(p.relative_to(other)) for p in other.rglob("*") if p.is_file()):
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def until(holds, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


class Bed:
    def __init__(self, scratch):
        self.scratch = scratch
        # Below the ports that the system deals out itself.
        self.base = 10_000 + os.getpid() % 20_000
        run = lambda *words: subprocess.run([BIN / "meshctl", *map(str, words)], check=True, capture_output=True)
        run("mesh", "create", scratch / "keys", "--name", "killsteps", "--no-passphrase")
        for name, more in (("centre", ["--central"]), ("b", [])):
            run("ticket", "create", "--keys", scratch / "keys", "--site", f"site-{name}", "--node", name, "--out",
                scratch / f"{name}.ticket", *more)
            run("join", scratch / f"{name}.ticket", "--data", scratch / name)
        self.centre = Server("centre", scratch / "centre", (self.base, self.base + 1))
        self.folders = [scratch / f"release-{number}" for number in range(4)]

    def publish(self, number):
        write(self.folders[number], number)
        done = self.centre.ctl("content", "publish", "menu", self.folders[number], "--keys", self.scratch / "keys")
        if done.returncode != 0:
            sys.exit(done.stderr)
        return done.stdout.split()[-1]

    def prepare(self):
        """A server that serves the third of four releases and is off, while the centre has the fourth."""
        self.centre.start()
        until(lambda: self.centre.ctl("peers").returncode != 69)
        server = Server("b", self.scratch / "b", (self.base + 2, self.base + 3), self.base)
        server.start()
        for number in range(3):
            last = self.publish(number)
            if not until(lambda: release(server.data) == last):
                sys.exit("the server does not get what is published")
        server.stop()
        self.last = self.publish(3)
        return server.data

    def attempt(self, template, call, number):
        """Returns whether the server died at that step."""
        data = self.scratch / "victim"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(template, data, symlinks=True, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
        server = Server("b", data, (self.base + 2, self.base + 3), self.base)
        server.start("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e",
                     f"inject={call}:signal=KILL:when={number}")
        died = until(lambda: server.process.poll() is not None or self.is_done(data), PATIENCE)
        died = died and server.process.poll() is not None
        if not died:
            subprocess.run(["pkill", "-KILL", "-f", f"meshd --data {data}"])
            server.process.wait(20)
        step = f"{call} {number}"
        if not is_whole(data, self.folders):
            sys.exit(f"{step}: what is served is of no one release")
        server.start()
        if not until(lambda: self.is_done(data)):
            sys.exit(f"{step}: after it the last release is not reached: {server.ctl('content', 'status').stdout}")
        if not is_same(self.folders[3], served(data)):
            sys.exit(f"{step}: the last release is not what was published")
        until(lambda: server.ctl("peers").returncode != 69)
        verified = server.ctl("content", "verify", "menu")
        if verified.returncode != 0:
            sys.exit(f"{step}: what is served does not verify: {verified.stdout}{verified.stderr}")
        server.stop()
        return died

    def is_done(self, data):
        trees = data / "content/menu/trees"
        return release(data) == self.last and sum(1 for _ in trees.iterdir()) <= KEPT


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=1)
    every = parser.parse_args().sample
    steps, deaths = 0, 0
    with tempfile.TemporaryDirectory(prefix="mesh-killsteps-") as scratch:
        bed = Bed(pathlib.Path(scratch))
        template = bed.prepare()
        try:
            for call in CALLS:
                number, died, before = 1 + CALLS.index(call) % every, True, deaths
                while died and number <= MOST.get(call, 1000):
                    died = bed.attempt(template, call, number)
                    steps, deaths = steps + 1, deaths + died
                    number += every
                print(f"{call}: killed {deaths - before} times", flush=True)
        finally:
            bed.centre.stop()
            subprocess.run(["pkill", "-KILL", "-f", f"meshd --data {scratch}"])
    if deaths == 0:
        sys.exit("strace killed nobody: nothing was shown")
    print(f"ok: killed at {deaths} steps, {steps - deaths} runs to the end")


main()
