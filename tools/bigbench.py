#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One server that holds very many records; 'tools/bench big' calls it.

BENCH_RECORDS records of 300 bytes (ten million) are imported. Then the server begins anew, and is asked what users and operators
ask: whether it is there, a key, a list, its status, its digest. Beside it the same is asked of a server with a thousandth of the
records: a ratio near one says that nothing walks them all. The last line is one JSON object.
"""
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request

from benchbed import BIN, Bed, cpu_seconds, memory_mib, say

RECORDS = int(os.environ.get("BENCH_RECORDS", "10000000"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))
ASKED = 50


def fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.read()


def milliseconds(body):
    times = []
    for number in range(ASKED):
        began = time.monotonic()
        body(number)
        times.append(1000 * (time.monotonic() - began))
    return round(statistics.median(times), 2)


def questions(bed, name, port, records):
    """Median milliseconds of each question; what meshctl itself takes to start is in `meshctl_status`."""
    step = max(1, records // ASKED)

    def status(_):
        # It ends with 2 where it has trouble to tell.
        run = subprocess.run([str(BIN / "meshctl"), "status", "--data", str(bed.folder / name)], capture_output=True, text=True)
        if not run.stdout:
            sys.exit(run.stderr)

    return {
        "get_ms": milliseconds(lambda n: fetch(port, f"/v1/records/rec/{n * step % records:08d}")),
        "list_100_ms": milliseconds(lambda n: fetch(port, f"/v1/records/rec?limit=100&after={n * step % records:08d}")),
        "digest_ms": milliseconds(lambda _: fetch(port, "/v1/digest")),
        "meshctl_status_ms": milliseconds(status)}


def fill(bed, name, server, records):
    """Rows a second, and the most that meshctl had resident."""
    rows = bed.rows(records)
    began = time.monotonic()
    client = bed.start(BIN / "meshctl", "import", "rec", rows, "--key", "key", "--batch", "1000", "--data", bed.folder / name,
                       log="import.log")
    most = 0
    while client.poll() is None:
        try:
            most = max(most, memory_mib(client.pid, "VmHWM"))
        except (OSError, AttributeError):
            pass  # It has just ended.
        time.sleep(0.2)
    if client.returncode != 0:
        sys.exit((bed.folder / "import.log").read_text()[-2000:])
    took = time.monotonic() - began
    rows.unlink()
    say(f"{name}: {records} imported at {records / took:.0f}/s")
    return {
        "import_rows_per_s": round(records / took), "import_rss_mib": round(most, 1),
        "rss_mib_after_import": round(memory_mib(server.pid), 1), "rss_mib_most": round(memory_mib(server.pid, "VmHWM"), 1)}


def idle(server):
    """Per cent of a core, and what is resident at the end."""
    before, began = cpu_seconds(server.pid), time.monotonic()
    time.sleep(SECONDS)
    return {
        "idle_core_percent": round(100 * (cpu_seconds(server.pid) - before) / (time.monotonic() - began), 2),
        "idle_rss_mib": round(memory_mib(server.pid), 1)}


def bytes_each(bed, name, records):
    files = [path for path in (bed.folder / name).iterdir() if path.name.startswith("mesh.sqlite")]
    return round(sum(path.stat().st_size for path in files) / records)


def measure(bed, name, records, http, mesh):
    bed.join(name, name, "--central")
    server = bed.meshd(name, http, mesh)
    bed.meshctl("namespace", "create", "rec", "--audience", "all", "--writers", "any", "--merge", "register",
                "--keys", bed.folder / "keys", "--data", bed.folder / name)
    result = fill(bed, name, server, records)
    result |= {f"after_import_{key}": value for key, value in idle(server).items()}
    began = time.monotonic()
    bed.end(server)
    result["stop_s"] = round(time.monotonic() - began, 2)
    began = time.monotonic()
    server = bed.meshd(name, http, mesh)
    result["start_s"] = round(time.monotonic() - began, 2)
    result["rss_mib_at_start"] = round(memory_mib(server.pid), 1)
    result |= questions(bed, name, http, records)
    result |= idle(server)
    result["database_bytes_each_record"] = bytes_each(bed, name, records)
    bed.end(server)
    return result


def main():
    load = os.getloadavg()[0]
    with Bed("big") as bed:
        bed.mesh()
        small = measure(bed, "small", RECORDS // 1000, 17475, 17476)
        say(json.dumps(small))
        big = measure(bed, "big", RECORDS, 17473, 17474)
        print(json.dumps({"records": RECORDS, "load_before": load, **big, "of_a_thousandth": small}))


main()
