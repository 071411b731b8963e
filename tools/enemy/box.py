# SPDX-License-Identifier: Apache-2.0
"""Another user of the box, and a box that is taken apart."""
import os
import pathlib
import stat
import subprocess

from bed import BIN, expect, meshctl


def bits(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def read_the_files_of_a_server(bed):
    """The database, its log and the keys were made readable by a copy or a careless hand; the directory is."""
    centre = bed.server("centre", "hq", "--central")
    centre.http("GET", "/healthz")
    for path in sorted(centre.data.iterdir()):
        if stat.S_ISREG(os.lstat(path).st_mode):
            expect(bits(path) & 0o077 == 0, f"{path.name} is made with mode {bits(path):o}")
    centre.stop()
    for name in ("mesh.sqlite", "mesh.sqlite-ballast", "certificate"):
        os.chmod(centre.data / name, 0o666)
    centre.start()
    for name in ("mesh.sqlite", "mesh.sqlite-wal", "mesh.sqlite-shm", "mesh.sqlite-ballast", "certificate"):
        expect(bits(centre.data / name) & 0o077 == 0, f"{name} has mode {bits(centre.data / name):o}")
    centre.stop()
    os.chmod(centre.data, 0o755)
    done = subprocess.run([BIN / "meshd", "--data", centre.data], capture_output=True, text=True, timeout=20)
    expect(done.returncode == 1 and "chmod go-rw" in done.stderr, f"{done.returncode} {done.stderr}")
    # A web server passes through to content.
    os.chmod(centre.data, 0o711)
    centre.start()


def read_a_dump_of_memory(bed):
    """The process ends badly; another process of its user looks into its memory."""
    centre = bed.server("centre", "hq", "--central")
    limits = pathlib.Path(f"/proc/{centre.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    expect(core.split()[4:6] == ["0", "0"], core)
    # A process that may not be dumped is root's in /proc, whoever runs it.
    if os.geteuid() == 0:
        user = 65_534
        data = bed.scratch / "nobodys"
        ticket = bed.ticket("till", "s1")
        expect(meshctl("join", ticket, "--data", data).returncode == 0, "join")
        for path in [data, *data.iterdir()]:
            os.chown(path, user, user)
        os.chmod(bed.scratch, 0o755)
        process = subprocess.Popen(
            [BIN / "meshd", "--data", data, "--mesh-listen", "127.0.0.1:0", "--http-listen", "none", "--discovery-enabled",
             "false"], user=user, group=user, stderr=subprocess.PIPE, text=True, env={})
        try:
            line = ""
            while "ready" not in line:
                line = process.stderr.readline()
                expect(line, "it does not start as another user")
            expect(os.stat(f"/proc/{process.pid}/mem").st_uid == 0, "its memory is its user's to read")
        finally:
            process.terminate()
            process.wait(20)


CASES = [read_the_files_of_a_server, read_a_dump_of_memory]
