#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A mesh as apps use it: three sites of three servers and a centre, each site's line 20 Mbit/s with 40 ms to the centre;
'tools/bench mesh' calls it. As root.

Writes a second at a site, one and 64 in flight; how long until a write is seen at the same site, at the centre and at another
site; how long until one is acknowledged as on two servers of the site, and as with the centre; how long a site takes to be in step after a cut of a minute in which both sides wrote, and what went over the line. NATS
JetStream runs in the same lab afterwards: three copies a site, leaf nodes, no fsync. Values are 300 hexadecimal digits. The last
line is one JSON object.
"""
import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time

from benchbed import BIN, TOP, median, nats_server, say

LAB = TOP / "cluster/lab"
STATE = TOP / ".build/bench-mesh"
PREFIX = "hfm"
ENV = dict(os.environ, LAB_DIR=str(STATE), LAB_PREFIX=PREFIX, LAB_BIN=str(BIN))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
CUTS = int(os.environ.get("BENCH_CUTS", "2"))
CUT_SECONDS = int(os.environ.get("BENCH_CUT_SECONDS", "60"))
CUT_RECORDS = int(os.environ.get("BENCH_CUT_RECORDS", "10000"))
SAMPLES = 100
NODES = ["centre"] + [f"s{site}-{number}" for site in (1, 2, 3) for number in (1, 2, 3)]
WRITER, SAME, OTHER = "s1-1", "s1-2", "s2-1"
libc = ctypes.CDLL(None, use_errno=True)


def lab(*words):
    run = subprocess.run([LAB, *words], env=ENV, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"lab {' '.join(words)}: {run.stdout}{run.stderr}")
    return run.stdout


def address(node):
    site, number = (0, 1) if node == "centre" else (int(node[1]), int(node[3]))
    return f"10.77.{site}.{number}"


@contextlib.contextmanager
def inside(node):
    """Sockets that are made in here belong to the node's network for good."""
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{PREFIX}-{node}", os.O_RDONLY)
    if libc.setns(there, 0x40000000) != 0:
        sys.exit(f"cannot enter the network of {node}: root?")
    try:
        yield
    finally:
        libc.setns(home, 0x40000000)
        os.close(home)
        os.close(there)


def value(key):
    return hashlib.shake_128(key.encode()).hexdigest(150).encode()


def line_bytes():
    """IP bytes on the first site's line: to it, and from it."""
    base = "/sys/class/net/w1/statistics/"
    names = ["tx_bytes", "tx_packets", "rx_bytes", "rx_packets"]
    text = subprocess.run(["ip", "netns", "exec", f"{PREFIX}-router", "cat", *[base + name for name in names]],
                          capture_output=True, text=True, check=True).stdout
    sent, packets, received, others = map(int, text.split())
    return sent - 14 * packets, received - 14 * others


class Connection:
    """A connection of HTTP that stays, made inside a node's network."""

    @classmethod
    async def open(cls, node):
        self = cls()
        # Nothing is awaited inside: another task would take this network for its own.
        with inside(node):
            link = socket.create_connection(("127.0.0.1", 7373))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader, self.writer = await asyncio.open_connection(sock=link, limit=1 << 24)
        return self

    async def ask(self, method, path, body=b"", fields=""):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:7373\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        self.writer.write(head.encode() + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        data = b""
        if b"content-length:" in head:
            data = await self.reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r")[0]))
        if int(head.split(b" ")[1]) >= 300:
            raise RuntimeError(f"{method} {path}: {head[:80]} {data[:200]}")
        return data


class Holdfast:
    """Our own: every write is on disk before it is acknowledged."""

    async def start(self):
        self.tasks, self.one = [], {}
        subprocess.run([BIN / "meshctl", "namespace", "create", "rec", "--audience", "all", "--writers", "any", "--merge", "register",
                        "--keys", STATE / "keys", "--data", STATE / "centre"], check=True, capture_output=True)
        await asyncio.sleep(4)
        for node in NODES:
            self.one[node] = await Connection.open(node)
        self.free = {WRITER: [], "centre": []}

    async def put(self, node, key):
        connection = self.free[node].pop() if self.free[node] else await Connection.open(node)
        await connection.ask("PUT", f"/v1/records/rec/{key}", value(key))
        self.free[node].append(connection)

    async def put_durably(self, key, ack):
        """Whether the write was acknowledged as that, in time."""
        answer = await self.one[WRITER].ask("PUT", f"/v1/records/rec/{key}?ack={ack}&wait=5s", value(key))
        return json.loads(answer)["reached"]

    async def watch(self, node, _, seen):
        connection = await Connection.open(node)
        connection.writer.write(
            b"GET /v1/changes?namespace=rec&since=now HTTP/1.1\r\nHost: 127.0.0.1:7373\r\nAccept: application/x-ndjson\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")

        async def follow():
            while line := await connection.reader.readline():
                if line.startswith(b"{"):
                    seen(json.loads(line)["key"])
        self.tasks.append(asyncio.create_task(follow()))

    async def count(self, node):
        digests = json.loads(await self.one[node].ask("GET", "/v1/digest/rec@all"))["digests"]
        return digests[0]["records"] if digests else 0

    async def stop(self):
        for task in self.tasks:
            task.cancel()


class Nats:
    """JetStream: a cluster of three with three copies at each site, leaf nodes to a hub that gathers all, and a mirror of that at
    each site. Acknowledged writes of a site are in the page caches of two of three servers."""

    def __init__(self, venv):
        self.venv = venv

    async def start(self):
        sys.path.insert(0, str(next((self.venv / "lib").glob("python*/site-packages"))))
        import nats
        from nats.js.api import ExternalStream, StreamConfig, StreamSource
        self.all, self.processes = {}, []
        for node in NODES:
            folder = STATE / f"nats-{node}"
            folder.mkdir()
            place = node.split("-")[0]
            text = f'server_name: {node}\nlisten: "0.0.0.0:4222"\njetstream {{ store_dir: "{folder}", domain: {place} }}\n'
            if node == "centre":
                text += 'leafnodes { listen: "0.0.0.0:7422" }\n'
            else:
                mates = ", ".join(f'"nats://{address(other)}:6222"' for other in NODES if other.split("-")[0] == place)
                text += f'cluster {{ name: {place}, listen: "{address(node)}:6222", routes: [{mates}] }}\n'
                text += f'leafnodes {{ reconnect: 1, remotes: [ {{ url: "nats://{address("centre")}:7422" }} ] }}\n'
            (folder / "conf").write_text(text)
            self.processes.append(subprocess.Popen(
                ["ip", "netns", "exec", f"{PREFIX}-{node}", self.venv / "bin/nats-server", "-c", folder / "conf"],
                stdout=subprocess.DEVNULL, stderr=open(folder / "log", "w")))
        await asyncio.sleep(8)
        for node in NODES:
            with inside(node):
                self.all[node] = await nats.connect(f"nats://{address(node)}:4222", allow_reconnect=False)
        places = ["centre", "s1", "s2", "s3"]

        async def add(place, config):
            node = place if place == "centre" else place + "-1"
            config.num_replicas = 1 if place == "centre" else 3
            for attempt in range(30):
                try:
                    return await self.all[node].jetstream().add_stream(config)
                except Exception:
                    if attempt == 29:
                        raise
                    await asyncio.sleep(1)
        for place in places:
            await add(place, StreamConfig(name=f"REC_{place}", subjects=[f"rec.{place}.>"], max_msgs_per_subject=1))
        sources = [StreamSource(name=f"REC_{place}", external=None if place == "centre" else ExternalStream(api=f"$JS.{place}.API"))
                   for place in places]
        await add("centre", StreamConfig(name="ALL", sources=sources, max_msgs_per_subject=1))
        for place in places[1:]:
            await add(place, StreamConfig(name="ALL", mirror=StreamSource(name="ALL", external=ExternalStream(api="$JS.centre.API"))))
        await asyncio.sleep(3)

    async def put(self, node, key):
        await self.all[node].jetstream().publish(f"rec.{node.split('-')[0]}.{key}", value(key), timeout=20)

    async def count(self, node):
        info = await self.all[node].jetstream().stream_info("ALL")
        return info.state.messages

    async def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)


async def in_step(system, want=None, limit=240):
    """Waits until all nodes count the same, or so many; seconds that it took."""
    began, before = time.monotonic(), None
    while time.monotonic() - began < limit:
        counts = [await system.count(node) for node in NODES]
        same = len(set(counts)) == 1
        if (want is None and same and counts == before) or (want is not None and min(counts) >= want):
            return time.monotonic() - began
        before = counts
        await asyncio.sleep(0.05 if want else 1)
    sys.exit(f"not in step after {limit} s: {dict(zip(NODES, counts))}")


async def throughput(system, name, figures, turn):
    for flight in (1, 64):
        count, stop = 0, time.monotonic() + SECONDS

        async def write(worker):
            nonlocal count
            number = 0
            while time.monotonic() < stop:
                await system.put(WRITER, f"t{turn}.{flight}.{worker}.{number}")
                number += 1
                count += 1
        began = time.monotonic()
        await asyncio.gather(*[write(worker) for worker in range(flight)])
        figures.setdefault(f"{name}_{flight}_per_s", []).append(count / (time.monotonic() - began))
        await in_step(system)


async def visibility(system, figures):
    seen, news = {}, asyncio.Event()
    for node in (SAME, "centre", OTHER):
        def note(key, node=node):
            seen.setdefault((node, key), time.monotonic())
            news.set()
        await system.watch(node, WRITER, note)
    await asyncio.sleep(1)
    for number in range(SAMPLES):
        key, began = f"seen.{number}", time.monotonic()
        await system.put(WRITER, key)
        while not all((node, key) in seen for node in (SAME, "centre", OTHER)):
            news.clear()
            await asyncio.wait_for(news.wait(), 20)
        for node, name in ((SAME, "same"), ("centre", "centre"), (OTHER, "other")):
            figures.setdefault(f"visible_{name}_ms", []).append(1000 * (seen[(node, key)] - began))
        await asyncio.sleep(0.01)


async def acknowledgements(system, figures):
    for ack, name in (("site:2", "site_2"), ("central", "central")):
        for number in range(SAMPLES):
            began = time.monotonic()
            if not await system.put_durably(f"ack.{name}.{number}", ack):
                sys.exit(f"ack={ack} was not reached in 5 s")
            figures.setdefault(f"ack_{name}_ms", []).append(1000 * (time.monotonic() - began))
            await asyncio.sleep(0.01)


async def catch_up(system, figures, turn):
    await in_step(system)
    before = await system.count("centre")
    lab("wan", "cut", "s1")
    began = time.monotonic()

    async def write(node, worker):
        for number in range(worker, CUT_RECORDS, 32):
            await system.put(node, f"cut{turn}.{node}.{number}")
    await asyncio.gather(*[write(node, worker) for node in (WRITER, "centre") for worker in range(32)])
    await asyncio.sleep(max(0, CUT_SECONDS - (time.monotonic() - began)))
    bytes_before = line_bytes()
    lab("wan", "heal", "s1")
    figures.setdefault("catchup_s", []).append(await in_step(system, before + 2 * CUT_RECORDS))
    there, back = (after - then for after, then in zip(line_bytes(), bytes_before))
    figures.setdefault("wan_bytes_to_site", []).append(there)
    figures.setdefault("wan_bytes_from_site", []).append(back)


async def measure():
    figures = {}
    system = Holdfast()
    await system.start()
    for turn in range(ROUNDS):
        say(f"round {turn + 1} of {ROUNDS}")
        await throughput(system, "put", figures, turn)
    await visibility(system, figures)
    await acknowledgements(system, figures)
    for turn in range(CUTS):
        say(f"cut {turn + 1} of {CUTS}")
        await catch_up(system, figures, turn)
    await system.stop()
    venv = nats_server()
    if not venv:
        say("nats-server is not to be had: left out")
        return figures
    for node in NODES:
        lab("stop", node)
    peer = Nats(venv)
    try:
        await peer.start()
        for turn in range(ROUNDS):
            say(f"NATS, round {turn + 1} of {ROUNDS}")
            await throughput(peer, "nats", figures, turn)
    finally:
        await peer.stop()
    return figures


def main():
    if os.geteuid() != 0:
        sys.exit("the lab's lines need root")
    load = os.getloadavg()[0]
    subprocess.run([LAB, "down"], env=ENV, capture_output=True)
    lab("up", "3", "3")
    try:
        lab("wan", "shape", "--rtt", "40", "--rate", "20", "--sites-only")
        time.sleep(6)
        figures = asyncio.run(measure())
    finally:
        subprocess.run([LAB, "down"], env=ENV, capture_output=True)
    result = {name: median(values) for name, values in figures.items()}
    if "wan_bytes_to_site" in figures:
        result["wan_bytes_each_way"] = [statistics.median(figures["wan_bytes_to_site"]), statistics.median(figures["wan_bytes_from_site"])]
    result["payload_bytes"] = 300 * CUT_RECORDS
    print(json.dumps({"rounds": ROUNDS, "load_before": load, **result}))


main()
