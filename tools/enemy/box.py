# SPDX-License-Identifier: Apache-2.0
"""Another user of the box, and a box that is taken apart."""
import os
import pathlib
import pty
import stat
import struct
import subprocess
import time

import nacl.pwhash
import nacl.secret

from bed import BIN, Server, expect, meshctl


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


def guess_the_keys_of_a_laptop(bed):
    """The folder of keys is copied from an operator's laptop, and a file of it is changed to cost the operator memory."""
    keys, right = bed.scratch / "sealed", "correct horse battery"
    asked = ("ticket", "create", "--keys", keys, "--site", "s1", "--node", "till", "--out")
    for typed, says in ((["short", "short"], "at least 8"), ([right, "another one"], "not the same")):
        code, seen = typing(typed, "mesh", "create", keys, "--name", "acme")
        expect(code == 1 and says in seen and not keys.exists(), f"{code} {seen!r}")
    code, seen = typing([right, right], "mesh", "create", keys, "--name", "acme")
    expect(code == 0 and right not in seen, f"{code} {seen!r}")
    secrets = [keys / name for name in ("root-1.key", "root-2.key", "root-3.key", "enrol.key", "revoke.key", "mesh.secret")]
    for path in secrets:
        expect(path.read_bytes().startswith(b"mesh-sealed-1\n") and bits(path) == 0o600, f"{path.name} is not sealed")
    # As the documents say, by a reader of our own.
    expect(len(opened(secrets[3], right)) == 32, "the enrol key is no seed")
    code, seen = typing(["wrong horse battery"], *asked, bed.scratch / "a.ticket")
    expect(code == 1 and "passphrase is wrong" in seen and not (bed.scratch / "a.ticket").exists(), f"{code} {seen!r}")
    code, seen = typing([right], *asked, bed.scratch / "a.ticket")
    expect(code == 0 and (bed.scratch / "a.ticket").exists(), f"{code} {seen!r}")
    # A script has no terminal, and a file.
    done = meshctl(*asked, bed.scratch / "b.ticket")
    expect(done.returncode == 1 and "MESH_PASSPHRASE_FILE" in done.stderr, done.stderr)
    told = bed.scratch / "passphrase"
    told.write_text(right + "\n")
    told.chmod(0o644)
    run = lambda: subprocess.run([BIN / "meshctl", *map(str, asked), bed.scratch / "b.ticket"], capture_output=True, text=True,
                                 stdin=subprocess.DEVNULL, env={**os.environ, "MESH_PASSPHRASE_FILE": str(told)})
    expect(run().returncode == 1, "a passphrase that all may read is taken")
    told.chmod(0o600)
    expect(run().returncode == 0, "the file is not read")
    whole = secrets[3].read_bytes()
    for offset, value, says in ((14, b"\xff\xff\xff\x7f", "more memory or time"), (18, b"\xff\xff\xff\x7f", "more memory or time"),
                                (14, b"\0\0\0\0", "no sealed secret"), (30, b"?", "passphrase is wrong")):
        secrets[3].write_bytes(whole[:offset] + value + whole[offset + len(value):])
        done = run()
        expect(done.returncode == 1 and says in done.stderr, f"{offset}: {done.returncode} {done.stderr}")
    secrets[3].write_bytes(whole[:40])
    expect("no sealed secret" in run().stderr, "a file that was cut off")


def opened(path, passphrase):
    """What is sealed in a file: Argon2id, then XSalsa20-Poly1305."""
    data = path.read_bytes()
    passes, kibibytes = struct.unpack_from("<II", data, 14)
    salt, nonce, box = data[22:38], data[38:62], data[62:]
    key = nacl.pwhash.argon2id.kdf(32, passphrase.encode(), salt, opslimit=passes, memlimit=kibibytes << 10)
    return nacl.secret.SecretBox(key).decrypt(box, nonce)


def typing(lines, *words):
    """Runs meshctl at a terminal, types a line at each question: the code, and all that was shown."""
    master, slave = pty.openpty()
    process = subprocess.Popen([BIN / "meshctl", *map(str, words)], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen, lines = b"", list(lines)
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        seen += part
        if seen.rstrip().endswith(b":") and lines:
            time.sleep(0.2)
            os.write(master, lines.pop(0).encode() + b"\n")
        if not part:
            break
    os.close(master)
    return process.wait(20), seen.decode(errors="replace")


def take_the_disk_out_of_a_box(bed):
    """A box whose keys the service manager keeps: its disk alone is no server, and gives no key away."""
    ticket = bed.ticket("till", "s1")
    vault = bed.scratch / "credentials"
    vault.mkdir(mode=0o700)
    till = Server(bed, "till", "s1", (bed.port, bed.port + 1), under=["env", f"CREDENTIALS_DIRECTORY={vault}"])
    bed.port += 2
    bed.run("join", ticket, "--data", till.data)
    bed.servers.append(till)
    names = ("node.key", "link.key", "mesh.secret")
    secrets = {name: (till.data / name).read_bytes() for name in names}
    for name in names:
        # As systemd makes them: root's, with an access list that shows as the group's right to read.
        (till.data / name).rename(vault / name)
        (vault / name).chmod(0o440)
    till.start()
    expect(till.state("till") == ["self"], "it does not start with its keys elsewhere")
    till.stop()
    for path in till.data.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            expect(not any(key in held for key in secrets.values()), f"{path.name} holds a key")
    done = subprocess.run([BIN / "meshd", "--data", till.data, "--discovery-enabled", "false"], capture_output=True, text=True, timeout=20)
    expect(done.returncode != 0 and "node.key is missing" in done.stderr + done.stdout, done.stderr + done.stdout)
    (vault / "node.key").chmod(0o444)
    done = subprocess.run(["env", f"CREDENTIALS_DIRECTORY={vault}", BIN / "meshd", "--data", till.data, "--discovery-enabled", "false"],
                          capture_output=True, text=True, timeout=20)
    expect(done.returncode != 0 and "others may read the key" in done.stderr + done.stdout, done.stderr + done.stdout)


CASES = [take_the_disk_out_of_a_box, guess_the_keys_of_a_laptop, read_the_files_of_a_server, read_a_dump_of_memory]
