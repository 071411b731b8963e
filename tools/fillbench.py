#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An empty server next to one that holds very many records; 'tools/bench fill' calls it.

BENCH_RECORDS records of 300 bytes (a million) are imported into one server. Another of its site begins with nothing, and takes
all of them over one link. The last line is one JSON object: records a second, CPU of both, and the most that each had resident.
"""
import json
import os
import sys
import time
import urllib.error
import urllib.request

from benchbed import Bed, cpu_seconds, memory_mib, say

RECORDS = int(os.environ.get("BENCH_RECORDS", "1000000"))


def held(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/digest/rec@all") as answer:
            digests = json.load(answer)["digests"]
    except urllib.error.HTTPError:
        # Nothing of the namespace is there yet.
        return 0
    return digests[0]["records"] if digests else 0


def main():
    load = os.getloadavg()[0]
    with Bed("fill") as bed:
        bed.mesh()
        bed.join("full", "hq", "--central")
        bed.join("empty", "hq")
        full = bed.meshd("full", 17473, 17474)
        bed.meshctl("namespace", "create", "rec", "--audience", "all", "--writers", "any", "--merge", "register",
                    "--keys", bed.folder / "keys", "--data", bed.folder / "full")
        rows = bed.rows(RECORDS)
        began = time.monotonic()
        bed.meshctl("import", "rec", rows, "--key", "key", "--batch", "1000", "--data", bed.folder / "full")
        imported = time.monotonic() - began
        say(f"imported at {RECORDS / imported:.0f}/s")
        time.sleep(2)
        before = cpu_seconds(full.pid)
        began = time.monotonic()
        empty = bed.meshd("empty", 17475, 17476, "--mesh-seeds", "127.0.0.1:17474")
        while held(17475) < RECORDS:
            if time.monotonic() - began > 600:
                sys.exit(f"{held(17475)} of {RECORDS} after ten minutes")
            time.sleep(0.25)
        took = time.monotonic() - began
        print(json.dumps({
            "records": RECORDS, "load_before": load, "seconds": round(took, 2), "records_per_s": round(RECORDS / took),
            "giver_cpu_s": round(cpu_seconds(full.pid) - before, 2), "taker_cpu_s": round(cpu_seconds(empty.pid), 2),
            "giver_rss_mib_most": round(memory_mib(full.pid, "VmHWM"), 1), "taker_rss_mib_most": round(memory_mib(empty.pid, "VmHWM"), 1),
            "import_rows_per_s": round(RECORDS / imported), "database_bytes_each_record": round(
                sum(path.stat().st_size for path in (bed.folder / "full").iterdir() if path.name.startswith("mesh.sqlite")) / RECORDS)}))


main()
