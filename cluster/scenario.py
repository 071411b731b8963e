#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario on real processes in the lab; 'lab run SCENARIO' calls it.

The file is the one that the simulator runs. Here a power cut is a SIGKILL, and years are not waited for.
At the end everything is healed; all digests must agree, and every acknowledged write be at the centre.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
STATE = pathlib.Path(os.environ.get("LAB_DIR", HERE.parent / ".build/lab"))
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
POLICIES = {
    "notes": ["--audience", "all", "--writers", "any", "--merge", "register"],
    "prices": ["--audience", "all", "--writers", "central", "--merge", "register"],
    "orders": ["--audience", "site", "--writers", "site", "--merge", "log"],
    "desk": ["--audience", "site", "--writers", "site", "--merge", "register"],
}
HEAL_SECONDS = 60


def lab(*words, check=True):
    run = subprocess.run([HERE / "lab", *words], capture_output=True, text=True)
    if check and run.returncode != 0:
        sys.exit(f"lab {' '.join(words)}: {run.stderr.strip()}")
    return run


def meshctl(node, *words):
    return lab("exec", node, "meshctl", *words, check=False)


def seconds(text):
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    if not match:
        sys.exit(f"'{text}' is not a time")
    return int(match[1]) * UNITS[match[2]]


def read(path):
    topology, steps, end = ("1", "2"), [], 30.0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words or words[0] == "marks":
            continue
        if words[0] == "sites":
            topology = (words[1], words[3] if len(words) > 3 else "2")
        elif words[0] == "end":
            end = max(end, seconds(words[1]))
        elif words[0] == "at" and len(words) > 2:
            steps.append((seconds(words[1]), number, words[2:]))
        else:
            sys.exit(f"{path}:{number}: '{line}' is not understood")
    return topology, sorted(steps), end


class Run:
    def __init__(self):
        self.written = 0
        self.acknowledged = []
        self.nodes = lab("nodes").stdout.split()
        self.revoked = set()

    def perform(self, words):
        verb, rest = words[0], words[1:]
        action = getattr(self, verb, None) if verb in ACTIONS else None
        if action is None:
            sys.exit(f"'{verb}' runs only in the simulator")
        print(f"  {' '.join(words)}", flush=True)
        action(*rest)

    def write(self, node, namespace, count):
        site = node.rsplit("-", 1)[0]
        for _ in range(int(count)):
            self.written += 1
            key = f"w/{self.written}" if namespace == "orders" else f"k/{self.written % 6}"
            if meshctl(node, "put", namespace, key, f"{node} {self.written}").returncode == 0:
                self.acknowledged.append((node, namespace, site, key))

    def wan(self, what, site):
        lab("wan", what, site)

    def oneway(self, direction, site):
        lab("wan", "oneway", site, direction)

    def loss(self, part):
        lab("wan", "loss", part)

    def kill(self, node):
        lab("kill", node, check=False)

    def power(self, node, _writes="0"):
        self.kill(node)

    def stop(self, node):
        lab("stop", node, check=False)

    def start(self, node):
        lab("start", node)

    def pause(self, node):
        lab("pause", node)

    def resume(self, node):
        lab("resume", node)

    def wipe(self, node):
        self.kill(node)
        for file in STATE.joinpath(node).glob("mesh.sqlite*"):
            file.unlink()

    def image(self, node):
        shutil.rmtree(STATE / f"{node}.image", ignore_errors=True)
        shutil.copytree(
            STATE / node, STATE / f"{node}.image",
            ignore=lambda folder, names: [n for n in names if n.endswith(".sock")])

    def restore(self, node):
        self.kill(node)
        shutil.rmtree(STATE / node)
        shutil.copytree(STATE / f"{node}.image", STATE / node)

    def revoke(self, node, through):
        """What the other knows of the node stands; it goes on running, and links with nobody."""
        done = meshctl(through, "revoke", node, "--keys", str(STATE / "keys"), "--confirm", node)
        if done.returncode != 0:
            sys.exit(f"revoke {node}: {done.stderr}")
        self.revoked.add(node)

    @property
    def members(self):
        return [node for node in self.nodes if node not in self.revoked]

    def digests(self):
        """Each scope's roots, by the members that hold it; None while one does not answer."""
        scopes = {}
        for node in self.members:
            answer = meshctl(node, "digest", "-o", "json")
            if answer.returncode != 0:
                return None
            for scope in json.loads(answer.stdout)["digests"]:
                scopes.setdefault(scope["scope"], {})[node] = scope["root"]
        return scopes

    def converge(self):
        lab("wan", "loss", "0")
        for site in {node.rsplit("-", 1)[0] for node in self.nodes}:
            lab("wan", "heal", site)
        for node in self.nodes:
            lab("resume", node, check=False)
            if meshctl(node, "digest").returncode != 0:
                lab("start", node)
        begin = time.monotonic()
        while time.monotonic() - begin < HEAL_SECONDS:
            scopes = self.digests()
            if scopes and all(len(set(roots.values())) == 1 for roots in scopes.values()):
                if all(node in scopes["_mesh@all"] for node in self.members):
                    return time.monotonic() - begin
            time.sleep(0.5)
        sys.exit(f"no agreement {HEAL_SECONDS} s after the heal: {json.dumps(self.digests(), indent=1)}")

    def check(self):
        for node, namespace, site, key in self.acknowledged:
            # Of a revoked server only what was known where it was revoked stands.
            if node in self.revoked:
                continue
            where = [] if namespace in ("notes", "prices") else ["--site", site]
            if meshctl("centre", "get", namespace, key, *where).returncode != 0:
                sys.exit(f"lost: '{key}' of {namespace} of {site} was acknowledged")


ACTIONS = {
    "write", "wan", "oneway", "loss", "kill", "power", "stop", "start", "pause", "resume", "wipe",
    "image", "restore", "revoke",
}


def main():
    path = pathlib.Path(sys.argv[1])
    (sites, servers), steps, end = read(path)
    for _, number, words in steps:
        if words[0] not in ACTIONS:
            sys.exit(f"{path}:{number}: '{words[0]}' runs only in the simulator (tools/meshsim)")
    if "-" in sites or "-" in servers:
        sys.exit(f"{path}: a range of sites runs only in the simulator (tools/meshsim)")
    print(f"raising {sites} sites of {servers}", flush=True)
    lab("up", sites, servers)
    try:
        run = Run()
        for name, options in POLICIES.items():
            meshctl("centre", "namespace", "create", name, "--keys", str(STATE / "keys"), *options)
        begin = time.monotonic()
        for at, _, words in steps:
            time.sleep(max(0, begin + at - time.monotonic()))
            run.perform(words)
        time.sleep(max(0, begin + end - time.monotonic()))
        print("healing everything", flush=True)
        took = run.converge()
        run.check()
        print(meshctl("centre", "peers").stdout, end="")
        print(f"ok: {len(run.nodes)} servers, {len(run.acknowledged)} acknowledged writes, agreed after {took:.1f} s")
    finally:
        lab("down", check=False)


main()
