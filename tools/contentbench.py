#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Content measured in the lab; 'tools/bench content' calls it.

Three sites of three servers, each site's WAN 20 Mbit/s with 40 ms to the centre: 200 MB in 2,000 files, then 1 % of the bytes
overwritten (512 times 4 KiB in 320 files). Then on loopback and one LAN: chunking against BLAKE2b alone, a transfer between two
servers, and a file of 1 GB served to curl and wrk beside Debian's nginx. The last line is one JSON object. As root.
"""
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
LAB = TOP / "cluster/lab"
STATE = TOP / ".build/bench-lab"
BIN = TOP / ".build/release"
PREFIX = "hfb"
ENV = dict(os.environ, LAB_DIR=str(STATE), LAB_PREFIX=PREFIX, LAB_BIN=str(BIN))
MB = 1_000_000


def lab(*words, **env):
    return subprocess.run([LAB, *map(str, words)], env=dict(ENV, **env), capture_output=True, text=True)


def meshctl(node, *words):
    return lab("exec", node, "meshctl", *words)


def make_files(folder):
    chance = random.Random(7)
    sizes = [chance.randint(20_000, 180_000) for _ in range(2000)]
    scale = 200 * MB / sum(sizes)
    for index, size in enumerate(sizes):
        path = folder / f"d{index % 40}" / f"f{index}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(int(size * scale)))


def overwrite(folder):
    chance = random.Random(8)
    files = sorted(folder.rglob("*.bin"))
    touched = chance.sample(files, 320)
    for number in range(512):
        path = touched[number % 320]
        with open(path, "r+b") as file:
            file.seek(chance.randrange(max(1, path.stat().st_size - 4096)))
            file.write(chance.randbytes(4096))


def wan_bytes():
    """IP bytes on the WAN lines: to the sites, and from them."""
    out, back = 0, 0
    for number in (1, 2, 3):
        base = f"/sys/class/net/w{number}/statistics/"
        names = ["tx_bytes", "tx_packets", "rx_bytes", "rx_packets"]
        text = subprocess.run(["ip", "netns", "exec", f"{PREFIX}-router", "cat", *[base + n for n in names]],
                              capture_output=True, text=True).stdout
        sent, packets, received, others = map(int, text.split())
        out += sent - 14 * packets
        back += received - 14 * others
    return out, back


def publish(folder):
    """Until all nine servers of the sites serve the release: seconds since the centre has it, and WAN bytes."""
    before = wan_bytes()
    run = meshctl("centre", "content", "publish", "bench", str(folder), "--keys", str(STATE / "keys"))
    began = time.monotonic()
    if run.returncode != 0:
        sys.exit(f"publish: {run.stderr}")
    release = run.stdout.split()[-1]
    waiting = [f"s{s}-{n}" for s in (1, 2, 3) for n in (1, 2, 3)]
    while waiting:
        if time.monotonic() - began > 400:
            sys.exit("not all servers have it: " + meshctl("centre", "content", "status").stdout)
        link = STATE / waiting[0] / "content/bench/active"
        if link.is_symlink() and os.readlink(link).endswith("/" + release):
            waiting.pop(0)
        else:
            time.sleep(0.05)
    took = time.monotonic() - began
    after = wan_bytes()
    return round(took, 1), round((after[0] - before[0]) / MB, 2), round((after[1] - before[1]) / MB, 2)


def equal(folder):
    for site in (1, 2, 3):
        for number in (1, 2, 3):
            tree = STATE / f"s{site}-{number}" / "content/bench/active"
            if subprocess.run(["diff", "-rq", str(folder), str(tree) + "/"], capture_output=True).returncode != 0:
                sys.exit(f"{tree} is not what was published")


def rollout(scratch):
    folder = scratch / "site"
    make_files(folder)
    lab("up", "3", "3")
    lab("wan", "shape", "--rtt", "40", "--rate", "20", "--sites-only")
    time.sleep(6)
    first = publish(folder)
    equal(folder)
    peak = max(hwm(node) for node in ("centre", "s1-1", "s1-2", "s1-3"))
    overwrite(folder)
    second = publish(folder)
    equal(folder)
    lab("down")
    wire = 200 * MB * 1500 / 1448 * 8 / (20 * MB)
    return {
        "first_s": first[0], "first_ratio_to_wire": round(first[0] / wire, 2), "first_wan_to_sites_mb": first[1],
        "first_wan_from_sites_mb": first[2], "edit_s": second[0], "edit_wan_to_sites_mb": second[1],
        "edit_wan_from_sites_mb": second[2], "rss_mib_peak": peak,
    }


def hwm(node):
    pid = (STATE / f"{node}.pid").read_text().strip()
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def transfer(scratch):
    """One site of two servers: the second fetches 500 MB over the LAN."""
    folder = scratch / "lan"
    folder.mkdir()
    for index in range(10):
        (folder / f"{index}.bin").write_bytes(random.Random(index).randbytes(50 * MB))
    lab("up", "1", "2", LAB_NO_SEEDS="1")
    time.sleep(3)
    lab("stop", "s1-2")
    meshctl("s1-1", "content", "publish", "lan", str(folder), "--keys", str(STATE / "keys"))
    log = STATE / "s1-2.log"
    began = time.time()
    lab("start", "s1-2")
    while "A release is complete" not in log.read_text():
        if time.time() - began > 120:
            sys.exit("the LAN transfer did not end")
        time.sleep(0.02)
    ended = time.time()
    up = next(stamp(l) for l in log.read_text().splitlines() if "Link up" in l)
    peak = max(hwm("s1-1"), hwm("s1-2"))
    lab("down")
    return round(500 / (ended - up), 1), peak


def stamp(line):
    return time.mktime(time.strptime(line[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float("0" + line[19:23])


def serving(scratch):
    """A file of 1 GB from meshd and from nginx, one after the other: by curl five times, by wrk with four connections
    three times; then a file of 4 KB by wrk."""
    folder = scratch / "serve"
    folder.mkdir()
    with open(folder / "big.bin", "wb") as file:
        for index in range(20):
            file.write(random.Random(index).randbytes(50 * MB))
    (folder / "small.bin").write_bytes(random.Random(99).randbytes(4096))
    lab("up", "1", "1", LAB_NO_SEEDS="1")
    time.sleep(2)
    meshctl("s1-1", "content", "publish", "serve", str(folder), "--keys", str(STATE / "keys"))
    time.sleep(1)
    conf = scratch / "nginx.conf"
    conf.write_text(f"""daemon on; pid {scratch}/nginx.pid; error_log {scratch}/error.log; worker_processes 1; user root;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:8088; root {folder}; }} }}
""")
    subprocess.run(["ip", "netns", "exec", f"{PREFIX}-s1-1", "nginx", "-c", str(conf)], check=True)
    base = hwm("s1-1")

    def fetch(url):
        out = lab("exec", "s1-1", "curl", "-s", "-o", "/dev/null", "-w", "%{speed_download} %{size_download}", url).stdout.split()
        if len(out) != 2 or int(out[1]) != 1000 * MB:
            sys.exit(f"{url}: {out}")
        return float(out[0])

    def pressed(url, what):
        """What wrk says of `what` a second."""
        text = lab("exec", "s1-1", "wrk", "-t", "1", "-c", "4", "-d", "5s", url).stdout
        match = re.search(rf"{what}/sec:\s*([\d.]+)([KMG]?)", text)
        if not match:
            sys.exit(f"{url}: {text}")
        return float(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]]

    mesh, nginx = "http://127.0.0.1:7373/content/serve", "http://127.0.0.1:8088"
    ours, theirs, press, small = [], [], [], []
    for _ in range(5):
        ours.append(fetch(f"{mesh}/big.bin"))
        theirs.append(fetch(f"{nginx}/big.bin"))
    for _ in range(3):
        press.append(pressed(f"{mesh}/big.bin", "Transfer") / pressed(f"{nginx}/big.bin", "Transfer"))
        small.append(pressed(f"{mesh}/small.bin", "Requests") / pressed(f"{nginx}/small.bin", "Requests"))
    grown = hwm("s1-1") - base
    subprocess.run(["nginx", "-c", str(conf), "-s", "stop"])
    lab("down")
    one, other = statistics.median(ours), statistics.median(theirs)
    return {
        "serve_ratio_nginx": round(one / other, 2), "serve_mb_per_s": round(one / MB),
        "nginx_mb_per_s": round(other / MB), "serve_wrk_ratio_nginx": round(statistics.median(press), 2),
        "small_file_wrk_ratio_nginx": round(statistics.median(small), 2), "serve_rss_grown_mib": grown,
    }


def main():
    only = sys.argv[1:] or ["chunk", "serve", "lan", "rollout"]
    lab("down")
    scratch = pathlib.Path(tempfile.mkdtemp(dir=TOP / ".build"))
    result = {}
    try:
        if "chunk" in only:
            line = subprocess.run([BIN / "meshbench", "chunk", ""], capture_output=True, text=True).stdout.splitlines()[-1]
            result.update(json.loads(line))
        if "serve" in only:
            result.update(serving(scratch))
        if "lan" in only:
            speed, peak = transfer(scratch)
            result.update(lan_mb_per_s=speed, lan_rss_mib=peak)
        if "rollout" in only:
            result.update(rollout(scratch))
        result["load"] = os.getloadavg()[0]
        print(json.dumps(result))
    finally:
        lab("down")
        shutil.rmtree(scratch, ignore_errors=True)


main()
