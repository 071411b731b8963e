#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One server as an app uses it, over HTTP; 'tools/bench http' calls it.

Durable writes of 300 bytes, one and 64 in flight, beside nats-server with an fsync for each write and without; reads beside nginx
and beside our own /healthz; lists; the feed; 'meshctl import' beside SQLite's own. Each is measured five times, in turn, in the
same run; the figures are medians. CPU is the server's own, from /proc. A peer that cannot be had is left out with a word. The
last line is one JSON object.
"""
import json
import os
import subprocess
import sys
import time

from benchbed import BIN, Bed, cpu_seconds, have, median, memory_mib, nats_server, puts, say, wrk

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "3"))
ROWS = int(os.environ.get("BENCH_ROWS", "300000"))
HTTP, MESH, NGINX, NATS = 17473, 17474, 17480, 17422
BASE = f"http://127.0.0.1:{HTTP}"

# Runs apart, in the venv that has the client: durable publishes of 300 bytes, so many in flight.
NATS_CLIENT = """
import asyncio, sys, time, nats
async def main(port, flight, seconds, turn):
    nc = await nats.connect(f"nats://127.0.0.1:{port}")
    js = nc.jetstream()
    await js.add_stream(name="S", subjects=["s.>"], max_msgs_per_subject=1)
    count, stop = 0, time.monotonic() + seconds
    async def one(worker):
        nonlocal count
        number = 0
        while time.monotonic() < stop:
            await js.publish(f"s.{turn}.{worker}.{number}", b"x" * 300, timeout=20)
            number += 1
            count += 1
    began = time.monotonic()
    await asyncio.gather(*[one(worker) for worker in range(flight)])
    print(count, time.monotonic() - began)
    await nc.close()
asyncio.run(main(*map(int, sys.argv[1:])))
"""


class Figures:
    def __init__(self):
        self.all = {}

    def add(self, name, value):
        self.all.setdefault(name, []).append(value)


def start_server(bed):
    bed.mesh()
    bed.join("one", "hq", "--central")
    server = bed.meshd("one", HTTP, MESH)
    for name in ["rec", "few", *[f"rows{r}" for r in range(ROUNDS)]]:
        bed.meshctl("namespace", "create", name, "--audience", "all", "--writers", "any", "--merge", "register",
                    "--keys", bed.folder / "keys", "--data", bed.folder / "one")
    lines = [json.dumps({"op": "put", "key": f"k{n:03d}", "text": "x" * 300}) for n in range(100)]
    body = '{"namespace":"few","writes":[' + ",".join(lines) + "]}"
    curl("-XPOST", f"{BASE}/v1/batch", "-H", "Content-Type: application/json", "-d", body)
    return server


def curl(*words):
    run = subprocess.run(["curl", "-sS", "-f", *words], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"curl {words[0]}: {run.stderr}")
    return run.stdout


def writes(bed, server, figures, turn):
    for flight in (1, 64):
        rate, cpu = puts(bed, server, BASE, flight, SECONDS, f"{turn}-{flight}")
        figures.add(f"put_{flight}_per_s", rate)
        figures.add(f"put_{flight}_cpu_ms", cpu)


def nats(bed, venv, figures, turn, name, setting):
    folder = bed.folder / f"nats-{name}-{turn}"
    folder.mkdir()
    conf = folder / "conf"
    conf.write_text(f'listen: 127.0.0.1:{NATS}\njetstream {{ store_dir: "{folder}"\n{setting} }}\n')
    client = bed.folder / "client.py"
    client.write_text(NATS_CLIENT)
    server = bed.start(venv / "bin/nats-server", "-c", conf)
    time.sleep(1)
    for flight in (1, 64):
        before = cpu_seconds(server.pid)
        run = subprocess.run([venv / "bin/python", client, str(NATS), str(flight), str(SECONDS), str(flight)],
                             capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"the client of NATS: {run.stderr}")
        count, took = map(float, run.stdout.split())
        figures.add(f"{name}_put_{flight}_per_s", count / took)
        figures.add(f"{name}_put_{flight}_cpu_ms", 1000 * (cpu_seconds(server.pid) - before) / count)
    bed.end(server)


def nginx(bed):
    if not have("nginx"):
        return say("nginx is not here: left out")
    (bed.folder / "www").mkdir()
    (bed.folder / "www/one").write_text("x" * 300)
    bed.folder.chmod(0o755)
    conf = bed.folder / "nginx.conf"
    conf.write_text(
        f"user root; worker_processes 1; daemon off; pid {bed.folder}/npid; error_log {bed.folder}/nerr;"
        f"events {{worker_connections 512;}} http {{ access_log off; server {{ listen 127.0.0.1:{NGINX};"
        f" root {bed.folder}/www; }} }}")
    return bed.start("nginx", "-c", conf)


def reads(server, other, figures):
    before = cpu_seconds(server.pid)
    rate, count = wrk(f"{BASE}/v1/records/few/k000", 16, SECONDS)
    figures.add("get_per_s", rate)
    figures.add("get_cpu_ms", 1000 * (cpu_seconds(server.pid) - before) / count)
    if other:
        peer, _ = wrk(f"http://127.0.0.1:{NGINX}/one", 16, SECONDS)
        figures.add("nginx_per_s", peer)
        figures.add("get_to_nginx", rate / peer)
    figures.add("healthz_per_s", wrk(f"{BASE}/healthz", 16, SECONDS)[0])
    figures.add("list_100_per_s", wrk(f"{BASE}/v1/records/few?limit=100", 16, SECONDS)[0])


def make_rows(bed):
    path = bed.folder / "rows.csv"
    with open(path, "w") as file:
        file.write("sku,name,price,stock,text\n")
        for n in range(ROWS):
            file.write(f'{n:08d},"Jeans, size {n % 60}",{n % 9000},{n % 50},{"long words about it " * 9}\n')
    return path


def imports(bed, figures, rows, turn):
    size = rows.stat().st_size
    began = time.monotonic()
    words = ["import", f"rows{turn}", str(rows), "--key", "sku", "--data", str(bed.folder / "one")]
    ctl = subprocess.Popen([str(BIN / "meshctl"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    most = 0
    while ctl.poll() is None:
        try:
            most = max(most, memory_mib(ctl.pid, "VmHWM"))
        except (OSError, AttributeError):
            pass
        time.sleep(0.02)
    if ctl.returncode != 0:
        sys.exit(f"meshctl import: {ctl.stderr.read()}")
    took = time.monotonic() - began
    figures.add("import_rows_per_s", ROWS / took)
    figures.add("import_mb_per_s", size / took / 1e6)
    figures.add("import_rss_mib", most)
    if have("sqlite3"):
        began = time.monotonic()
        path = bed.folder / f"rows{turn}.db"
        subprocess.run(["sqlite3", path, ".mode csv", f".import {rows} rows"], check=True, capture_output=True)
        figures.add("sqlite_import_rows_per_s", ROWS / (time.monotonic() - began))
        path.unlink()


def feed(figures):
    """All changes so far, read once."""
    began = time.monotonic()
    run = subprocess.Popen(["curl", "-sSN", f"{BASE}/v1/changes?follow=false", "-H", "Accept: application/x-ndjson"],
                           stdout=subprocess.PIPE)
    count = sum(chunk.count(b"\n") for chunk in iter(lambda: run.stdout.read(1 << 20), b""))
    figures.add("changes_per_s", count / (time.monotonic() - began))


def main():
    load = os.getloadavg()
    figures = Figures()
    with Bed("http") as bed:
        server = start_server(bed)
        other, venv = nginx(bed), nats_server()
        if not venv:
            say("nats-server is not to be had: left out")
        rows = make_rows(bed)
        for turn in range(ROUNDS):
            say(f"turn {turn + 1} of {ROUNDS}")
            writes(bed, server, figures, turn)
            if venv:
                nats(bed, venv, figures, turn, "nats_fsync", "sync_interval: always")
                nats(bed, venv, figures, turn, "nats", "")
            reads(server, other, figures)
            imports(bed, figures, rows, turn)
        feed(figures)
        time.sleep(5)
        figures.add("rss_after_mib", memory_mib(server.pid))
    print(json.dumps({"rounds": ROUNDS, "load_before": load[0], **{name: median(values) for name, values in figures.all.items()}}))


main()
