#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One central server with very many links; 'tools/bench links' calls it.

BENCH_LINKS servers (2,000), each the only one of its site, link with one. They are real engines in one other process
(tools/meshbench/Crowd.swift), and do what idle servers do. Measured is the one server: CPU over a minute in which nothing
is written (BENCH_SECONDS, 60), memory, how long its list of peers takes, and what a write costs before it knows them and
once it knows them all, though none is linked any more. The last line is one JSON object.
"""
import json
import os
import subprocess
import sys
import time
import urllib.request

from benchbed import BIN, Bed, cpu_seconds, memory_mib, puts, say

LINKS = int(os.environ.get("BENCH_LINKS", "2000"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    return 0.0


def main():
    load = os.getloadavg()[0]
    with Bed("links") as bed:
        bed.mesh()
        bed.join("one", "hq", "--central")
        bed.join("crowd", "crowd")
        one = bed.meshd("one", 17473, 17474)
        time.sleep(5)
        alone = memory_mib(one.pid)
        bed.meshctl("namespace", "create", "rec", "--audience", "site", "--writers", "any", "--merge", "register",
                    "--keys", bed.folder / "keys", "--data", bed.folder / "one")
        _, strange = puts(bed, one, "http://127.0.0.1:17473", 1, 5, "alone")
        began = time.monotonic()
        crowd = bed.start(BIN / "meshbench", "crowd", bed.folder / "crowd", bed.folder / "keys", "17474", LINKS, log="crowd.log")
        while metric(17473, "mesh_links") < LINKS:
            if time.monotonic() - began > 600:
                sys.exit(f"{metric(17473, 'mesh_links')} links: {(bed.folder / 'crowd.log').read_text()[-500:]}")
            time.sleep(0.5)
        took = time.monotonic() - began
        say(f"{LINKS} links after {took:.0f} s")
        time.sleep(30)
        before, began = cpu_seconds(one.pid), time.monotonic()
        time.sleep(SECONDS)
        idle = (cpu_seconds(one.pid) - before) / (time.monotonic() - began)
        still = metric(17473, "mesh_links")
        before, began = cpu_seconds(one.pid), time.monotonic()
        listed = subprocess.run([str(BIN / "meshctl"), "peers", "-o", "json", "--data", str(bed.folder / "one")],
                                capture_output=True, text=True)
        peers = json.loads(listed.stdout) if listed.returncode == 0 else []
        rows = peers if isinstance(peers, list) else next(value for value in peers.values() if isinstance(value, list))
        listed_s, listed_cpu, rss = time.monotonic() - began, cpu_seconds(one.pid) - before, memory_mib(one.pid)
        bed.end(crowd)
        time.sleep(30)
        _, known = puts(bed, one, "http://127.0.0.1:17473", 1, 5, "known")
        print(json.dumps({
            "links": LINKS, "load_before": load, "links_at_the_end": still, "linked_after_s": round(took, 1),
            "idle_core_percent": round(100 * idle, 2), "rss_mib": round(rss, 1),
            "rss_mib_most": round(memory_mib(one.pid, "VmHWM"), 1), "rss_mib_without_links": round(alone, 1),
            "peers_listed": len(rows), "peers_s": round(listed_s, 2), "peers_cpu_s": round(listed_cpu, 2),
            "put_cpu_ms_before": round(strange, 3), "put_cpu_ms_with_all_known": round(known, 3)}))


main()
