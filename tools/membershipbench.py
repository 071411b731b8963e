#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Membership measured in the lab, beside Debian's serf in the same run; 'tools/bench membership' calls it.

Three servers of one site: cold start until all know all, SIGKILL until all survivors know, idle traffic and CPU.
serf agents run in the same namespaces with mDNS discovery. Then: how long the WAN stands still when a gateway is killed, what
crosses the WAN as a site grows, and a site of thirty. The last line is one JSON object. As root.
"""
import json
import os
import pathlib
import re
import selectors
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
LAB = TOP / "cluster/lab"
STATE = TOP / ".build/bench-lab"
PREFIX = "hfb"
ENV = dict(os.environ, LAB_DIR=str(STATE), LAB_PREFIX=PREFIX, LAB_BIN=str(TOP / ".build/release"))
TICK = os.sysconf("SC_CLK_TCK")
COLD_STARTS, KILLS, IDLE_SECONDS = 5, 5, 60


def lab(*words, **env):
    return subprocess.run([LAB, *words], env=dict(ENV, **env), capture_output=True, text=True)


def meshctl(node, *words):
    return lab("exec", node, "meshctl", *words)


def peers(node):
    answer = meshctl(node, "peers", "-o", "json")
    return json.loads(answer.stdout)["peers"] if answer.returncode == 0 else []


class Holdfast:
    def __init__(self, names):
        self.names = names
        self.ids = {}

    def argv(self, host, _address):
        return ["ip", "netns", "exec", f"{PREFIX}-{host}", "env", f"MESH_DATA={STATE / host}",
                str(TOP / ".build/release/meshd")]

    def parse(self, line):
        match = re.search(rb"NOTICE member ([0-9a-f]{8}) is (alive|away)", line)
        name = match and self.names.get(match[1].decode())
        return name and ("join" if match[2] == b"alive" else "fail", name)


class Serf:
    def argv(self, host, address):
        return ["ip", "netns", "exec", f"{PREFIX}-{host}", "serf", "agent", f"-node={host}", f"-bind={address}",
                "-iface=eth0", "-profile=lan", "-log-level=info", "-discover=bench"]

    def parse(self, line):
        match = re.search(rb"serf: EventMember(Join|Failed): (\S+) ", line)
        return match and ("join" if match[1] == b"Join" else "fail", match[2].decode())


class Members:
    """Runs one agent a host, reads what each says, and stamps it on arrival."""

    def __init__(self, system, hosts):
        self.system, self.hosts = system, hosts
        self.selector, self.processes, self.known, self.failed = selectors.DefaultSelector(), {}, {}, {}

    def start(self, host):
        process = subprocess.Popen(
            self.system.argv(host, self.hosts[host]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(process.stdout.fileno(), False)
        process.rest = b""
        self.processes[host], self.known[host] = process, {host}
        self.selector.register(process.stdout, selectors.EVENT_READ, host)

    def kill(self, host):
        process = self.processes.pop(host)
        del self.known[host]
        self.selector.unregister(process.stdout)
        process.kill()
        process.wait()
        return time.monotonic()

    def until(self, done, limit):
        end = time.monotonic() + limit
        while not done():
            if time.monotonic() > end:
                return None
            for key, _ in self.selector.select(0.2):
                process = self.processes[key.data]
                now, data = time.monotonic(), process.stdout.read()
                if not data:
                    sys.exit(f"{key.data}: the agent died")
                *lines, process.rest = (process.rest + data).split(b"\n")
                for what, name in filter(None, map(self.system.parse, lines)):
                    if what == "join":
                        self.known[key.data].add(name)
                    else:
                        self.known[key.data].discard(name)
                        self.failed.setdefault(name, {})[key.data] = now
        return time.monotonic()

    def full(self):
        return self.until(lambda: all(len(k) == len(self.processes) for k in self.known.values()), 60)

    def cold_start(self):
        began = time.monotonic()
        for host in self.hosts:
            self.start(host)
        return self.full() - began

    def kill_and_see(self, host):
        self.failed.pop(host, None)
        at = self.kill(host)
        survivors = set(self.processes)
        seen = self.until(lambda: set(self.failed.get(host, {})) >= survivors, 120)
        return seen - at


def sent_bytes(host):
    path = "/sys/class/net/eth0/statistics/tx_bytes"
    return int(subprocess.run(["ip", "netns", "exec", f"{PREFIX}-{host}", "cat", path],
                              capture_output=True, text=True).stdout)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def idle(members):
    members.until(lambda: False, 5)
    pids = {host: process.pid for host, process in members.processes.items()}
    before = {host: (sent_bytes(host), cpu_seconds(pid)) for host, pid in pids.items()}
    members.until(lambda: False, IDLE_SECONDS)
    traffic = [(sent_bytes(h) - before[h][0]) / IDLE_SECONDS for h in pids]
    cpu = [(cpu_seconds(p) - before[h][1]) / IDLE_SECONDS * 100 for h, p in pids.items()]
    return round(statistics.median(traffic)), round(statistics.median(cpu), 2)


def measure(system, hosts):
    colds = []
    for _ in range(COLD_STARTS):
        members = Members(system, hosts)
        colds.append(members.cold_start())
        for host in list(members.processes):
            members.kill(host)
        time.sleep(0.5)
    members = Members(system, hosts)
    members.cold_start()
    traffic, cpu = idle(members)
    kills = []
    for index in range(KILLS):
        victim = sorted(hosts)[index % len(hosts)]
        kills.append(members.kill_and_see(victim))
        members.start(victim)
        members.full()
        members.until(lambda: False, 4)
    for host in list(members.processes):
        members.kill(host)
    return {
        "cold_start_s": [round(x, 2) for x in colds], "kill_known_s": [round(x, 2) for x in kills],
        "cold_start_median_s": round(statistics.median(colds), 3),
        "kill_known_median_s": round(statistics.median(kills), 2),
        "idle_bytes_per_s": traffic, "idle_cpu_percent": cpu,
    }


def site_of_three():
    lab("up", "1", "3", LAB_NO_SEEDS="1")
    rows = [line.split() for line in (STATE / "nodes").read_text().splitlines()]
    hosts = {row[0]: row[3] for row in rows if row[1] == "s1"}
    time.sleep(2)
    names = {peer["id"][:8]: peer["node"] for peer in peers("s1-1")}
    for node in [row[0] for row in rows]:
        lab("stop", node)
    ours = measure(Holdfast(names), hosts)
    serf = measure(Serf(), hosts)
    lab("down")
    return ours, serf


def gateway_takeover():
    """From a gateway's SIGKILL until what another server wrote after it is at the centre."""
    took = []
    lab("up", "1", "3")
    meshctl("centre", "namespace", "create", "notes", "--keys", str(STATE / "keys"), "--audience", "all", "--writers", "any", "--merge", "register")
    time.sleep(3)
    for run in range(KILLS):
        gateway = json.loads(meshctl("s1-1", "status", "-o", "json").stdout)["gateway"]
        writer = next(n for n in ("s1-1", "s1-2", "s1-3") if n != gateway)
        began = time.monotonic()
        lab("kill", gateway)
        began = max(began, time.monotonic() - 0.2)
        meshctl(writer, "put", "notes", f"after/{run}", "x")
        while meshctl("centre", "get", "notes", f"after/{run}").returncode != 0:
            if time.monotonic() - began > 60:
                sys.exit("no other gateway within a minute")
        took.append(time.monotonic() - began)
        lab("start", gateway)
        time.sleep(6)
    lab("down")
    return round(statistics.median(took), 2), round(max(took), 2)


def wan_bytes(servers):
    """What the WAN carries to and from a site while the centre writes 200 records and the site 200."""
    lab("up", "1", str(servers))
    meshctl("centre", "namespace", "create", "notes", "--keys", str(STATE / "keys"), "--audience", "all", "--writers", "any", "--merge", "register")
    time.sleep(8)

    def crossed():
        base = "/sys/class/net/w1/statistics/"
        out = subprocess.run(["ip", "netns", "exec", f"{PREFIX}-router", "cat", base + "tx_bytes", base + "rx_bytes"],
                             capture_output=True, text=True).stdout.split()
        return sum(map(int, out))

    before = crossed()
    for node, name in (("centre", "c"), (f"s1-{servers}", "s")):
        lines = "\n".join(json.dumps({"k": f"{name}/{i}", "v": "x" * 200}) for i in range(200))
        file = STATE / f"{name}.ndjson"
        file.write_text(lines + "\n")
        meshctl(node, "import", "notes", str(file), "--key", "k")
    time.sleep(12)
    answer = crossed() - before
    lab("down")
    return answer


def thirty():
    lab("up", "1", "30")
    time.sleep(10)
    names = {peer["id"][:8]: peer["node"] for peer in peers("s1-1")}
    took = []
    for victim in ("s1-7", "s1-13", "s1-29"):
        ident = next(i for i, n in names.items() if n == victim)
        others = [n for n in names.values() if n.startswith("s1-") and n != victim]
        offsets = {n: (STATE / f"{n}.log").stat().st_size for n in others}
        began = time.monotonic()
        lab("kill", victim)
        waiting = set(others)
        while waiting and time.monotonic() - began < 60:
            for node in list(waiting):
                with open(STATE / f"{node}.log") as log:
                    log.seek(offsets[node])
                    if f"member {ident} is away" in log.read():
                        waiting.discard(node)
            time.sleep(0.05)
        took.append(time.monotonic() - began)
        lab("start", victim)
        time.sleep(5)
    links = [sum(p["path"].startswith("lan ") for p in peers(n)) for n in ("s1-1", "s1-15", "s1-30")]
    complete = all(sum(p["state"] in ("alive", "self") for p in peers(n)) == 31 for n in ("s1-1", "s1-15", "s1-30"))
    lab("down")
    return {"kill_known_all_s": [round(x, 1) for x in took], "links": links, "all_alive": complete}


def main():
    lab("down")
    try:
        ours, serf = site_of_three()
        print(json.dumps({"holdfast": ours, "serf": serf}, indent=1), flush=True)
        median, most = gateway_takeover()
        wan = {str(n): wan_bytes(n) for n in (2, 6)}
        result = {
            "holdfast": ours, "serf": serf,
            "cold_start_ratio": round(ours["cold_start_median_s"] / serf["cold_start_median_s"], 2),
            "kill_known_ratio": round(ours["kill_known_median_s"] / serf["kill_known_median_s"], 2),
            "gateway_takeover_median_s": median, "gateway_takeover_most_s": most,
            "wan_bytes_by_servers": wan, "site_of_30": thirty(), "load": os.getloadavg()[0],
        }
        print(json.dumps(result))
    finally:
        lab("down")


main()
