# SPDX-License-Identifier: Apache-2.0
"""A thief has keys of the mesh itself; the operator takes them out of use."""
import hashlib
import shutil
import struct

from nacl.signing import SigningKey

from bed import expect, meshctl, until
from keys import mesh
from liar import Liar

TEXT = {"Content-Type": "text/plain"}


def message(mesh_id, body):
    """What is signed of a root document, from the article TrustDocuments."""
    return b"MESH1 root".ljust(32, b"\0") + mesh_id + struct.pack("<Q", len(body)) + body


def serves(server, words):
    """Whether a server that begins anew says so much of its root document."""
    def holds():
        try:
            return words in server.admin("GET", "/v1/root")[2]
        except OSError:
            return False
    return until(holds)


class Root:
    """The first version of a mesh's root document, read by a reader of our own, and versions made to follow it."""

    def __init__(self, bed):
        self.first = (bed.keys / "root").read_bytes()
        length = struct.unpack_from("<H", self.first)[0]
        body = self.first[2:2 + length]
        self.mesh = hashlib.blake2b(message(bytes(32), body), digest_size=32).digest()
        place = 4
        name_length = body[place]
        self.name = body[place + 1:place + 1 + name_length]
        place += 1 + name_length + 8
        self.threshold, place = body[place], place + 1
        self.keys = []
        for _ in ("root", "enrol", "revoke"):
            count, place = body[place], place + 1
            self.keys.append([body[place + 32 * index:place + 32 * index + 32] for index in range(count)])
            place += 32 * count
        expect(body[place:] == b"\0", "the first version has an extension")
        self.signers = [SigningKey((bed.keys / f"root-{number}.key").read_bytes()) for number in (1, 2, 3)]

    def second(self, enrol, honours=(), signers=None, mesh_id=None, previous=None):
        """A second version and its list, as they are carried."""
        listed = b"".join(sorted(honours))
        roots, _, revoke = self.keys
        body = struct.pack("<I", 2) + bytes([len(self.name)]) + self.name + struct.pack("<Q", 1) + bytes([self.threshold])
        for keys in (roots, [bytes(enrol.verify_key)], revoke):
            body += bytes([len(keys)]) + b"".join(keys)
        body += b"\1\1" + (previous or self.mesh) + hashlib.blake2b(listed, digest_size=32).digest()
        signed = message(mesh_id or self.mesh, body)
        signatures = []
        for key in self.signers if signers is None else signers:
            public = bytes(key.verify_key)
            index = roots.index(public) if public in roots else 0
            signatures.append((index, key.sign(signed).signature))
        part = bytes([len(signatures)]) + b"".join(bytes([index]) + one for index, one in sorted(signatures))
        chain = self.first + struct.pack("<H", len(body)) + body + part + part
        return struct.pack("<I", len(chain)) + chain + struct.pack("<I", len(listed)) + listed


def forge_a_root_document(bed):
    """Documents that too few root keys have signed, or that do not follow, are handed to a server."""
    centre, _ = mesh(bed)
    root, enrol = Root(bed), SigningKey.generate()
    one, stranger = root.signers[:1], [SigningKey.generate() for _ in range(3)]
    lies = {
        "signed by one root key of three": root.second(enrol, signers=one),
        "signed by nobody": root.second(enrol, signers=[]),
        "signed by strangers": root.second(enrol, signers=stranger),
        "one root key twice": root.second(enrol, signers=one * 2),
        "of another mesh": root.second(enrol, mesh_id=bytes(32)),
        "after another first": root.second(enrol, previous=bytes(32)),
        "with another list": root.second(enrol, honours=[bytes(32)])[:-32] + b"\1" * 32,
        "cut off": root.second(enrol)[:-9],
        "nothing": b"",
    }
    for what, lie in lies.items():
        status, _, body = centre.admin("PUT", "/v1/root", lie)
        expect(status == 422, f"a document {what} is answered {status}: {body[:200]}")
    # One by two root keys, made by this reader of the article, is taken; another second version is not, any more.
    status, _, body = centre.admin("PUT", "/v1/root", root.second(enrol, signers=root.signers[:2]))
    expect(status == 202, f"a good one is answered {status}: {body[:200]}")
    expect(serves(centre, b'"version":2'), "the server does not serve by it")
    status, _, _ = centre.admin("PUT", "/v1/root", root.second(SigningKey.generate()))
    expect(status == 422, f"a fork of the document is answered {status}")


def mint_with_a_stolen_key(bed):
    """With a copy of the enrol key a thief makes members, before it is retired and after."""
    centre, till = mesh(bed)
    expect(till.http("PUT", "/v1/records/notes/price", b"4", TEXT)[0] == 201, "the till cannot write")
    stolen = bed.scratch / "stolen"
    shutil.copytree(bed.keys, stolen)
    for key in stolen.glob("root-*.key"):
        key.unlink()
    honest, bed.keys = bed.keys, stolen
    thief = bed.server("thief", "s1", seed=centre.ports[0])
    expect(until(lambda: thief.http("GET", "/v1/records/notes/price")[2] == b"4"), "the thief is no member")
    expect(thief.http("PUT", "/v1/records/notes/price", b"0", TEXT)[0] in (200, 201), "the thief cannot write")
    expect(until(lambda: till.http("GET", "/v1/records/notes/price")[2] == b"0"), "the till does not get it")
    bed.keys = honest
    done = centre.ctl("keys", "rotate", "enrol", "--keys", honest, "--confirm", "enemy")
    expect(done.returncode == 0 and "s1/thief" in done.stdout.partition("! servers that do not")[2], done.stdout + done.stderr)
    for server in (centre, till):
        # Where the thief was its site's gateway, the till takes over first.
        expect(until(lambda: server.http("GET", "/v1/records/notes/price")[2] == b"4", seconds=90),
               f"{server.name} shows the thief's value")
    expect(until(lambda: thief.http("PUT", "/v1/records/notes/price", b"1", TEXT)[0] == 403), "the thief's server takes writes")
    expect(until(lambda: centre.state("till") == ["alive"]), "the till is out")
    bed.keys = stolen
    late = bed.server("late", "s1", seed=centre.ports[0])
    bed.keys = honest
    fresh = bed.server("fresh", "s1", seed=centre.ports[0])
    expect(until(lambda: fresh.http("GET", "/v1/records/notes/price")[2] == b"4"), "a box by the new key does not join")
    expect("alive" not in centre.state("late") and late.http("GET", "/v1/records/notes/price")[0] == 404, "a box by the old key joined")


def forge_a_ticket_of_a_known_serial(bed):
    """With the stolen key a thief signs another ticket under the serial of one that nobody has used."""
    centre, _ = mesh(bed)
    bed.ticket("spare", "s2")
    serial = next(line.split()[0] for line in (bed.keys / "tickets").read_text().splitlines() if line.split()[3] == "spare")
    done = centre.ctl("keys", "rotate", "enrol", "--keys", bed.keys, "--dry-run")
    expect("s2/spare" in done.stdout.partition("nobody has used")[2], done.stdout + done.stderr)
    # The ticket that the thief makes takes the place of the note's other: what it is called is not what it says.
    stolen = bed.scratch / "stolen"
    shutil.copytree(bed.keys, stolen)
    lines = (bed.keys / "tickets").read_text().splitlines()
    honest, bed.keys = bed.keys, stolen
    thief = bed.server("thief", "s2", seed=centre.ports[0])
    expect(until(lambda: centre.state("thief") == ["alive"]), "the thief is no member")
    minted = (stolen / "tickets").read_text().splitlines()[-1].split()
    bed.keys = honest
    # Under one serial the note has the honest ticket's hash, and the thief's certificate another.
    (honest / "tickets").write_text("".join(f"{line}\n" for line in lines).replace(serial, minted[0]))
    done = centre.ctl("keys", "rotate", "enrol", "--keys", honest, "--dry-run")
    expect("s2/thief" in done.stdout.partition("! servers that do not")[2], done.stdout + done.stderr)
    expect(done.returncode == 0 and thief.name, done.stderr)


def revoke_with_a_stolen_key(bed):
    """With a copy of the revoke key a thief revokes the till; the operator leaves that out and has the till back."""
    centre, till = mesh(bed)
    stolen = bed.scratch / "stolen"
    shutil.copytree(bed.keys, stolen)
    done = centre.ctl("revoke", "s1/till", "--keys", stolen, "--confirm", "till", "--erase", "--keep-ticket", "--reason", "a thief")
    expect(done.returncode == 0 and until(lambda: centre.state("till") == ["revoked"]), done.stderr)
    done = centre.ctl("keys", "rotate", "revoke", "--keys", bed.keys, "--dry-run")
    name = next(line.split()[0] for line in done.stdout.splitlines() if "a thief" in line)
    done = centre.ctl("keys", "rotate", "revoke", "--keys", bed.keys, "--except", "00000000", "--confirm", "enemy")
    expect(done.returncode == 1 and "00000000" in done.stderr, done.stdout + done.stderr)
    done = centre.ctl("keys", "rotate", "revoke", "--keys", bed.keys, "--except", name, "--confirm", "enemy")
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(serves(centre, b'"version":2'), "the server does not serve by it")
    expect(until(lambda: till.http("PUT", "/v1/records/notes/b", b"2", TEXT)[0] in (200, 201), seconds=90), "the till takes no writes")
    expect(until(lambda: centre.http("GET", "/v1/records/notes/b")[2] == b"2", seconds=90), "the centre does not get them")


def hide_a_server_from_a_rotation(bed):
    """The server that is asked shows no certificate of the till, whose writes would go with the old key."""
    centre, _ = mesh(bed)
    liar = Liar(centre)
    till = next(peer["id"] for peer in centre.peers() if peer["node"] == "till")
    liar.edits("/v1/certificates", lambda view: view.update(certificates=[one for one in view["certificates"] if till not in one]))
    done = meshctl("keys", "rotate", "enrol", "--keys", bed.keys, "--url", liar.url)
    unused = done.stdout.partition("nobody has used")[2]
    expect("s1/till" in unused, f"it is not said that the till would be out: {done.stdout}")
    expect(done.returncode == 1 and not (bed.keys / "enrol-2.key").exists(), "something was made without being confirmed")
    liar.close()


def swap_the_root_document_of_a_rotation(bed):
    """The server that is asked says that it is of another mesh, and of a later version."""
    centre, _ = mesh(bed)
    for change in (dict(mesh_id="00" * 32), dict(version=7), dict(version=0)):
        liar = Liar(centre)
        liar.edits("/v1/root", lambda view: view.update(change))
        done = meshctl("keys", "rotate", "enrol", "--keys", bed.keys, "--url", liar.url, "--confirm", "enemy")
        expect(done.returncode == 1 and "nothing was done" in done.stderr, f"{change}: {done.stdout}{done.stderr}")
        expect(not (bed.keys / "enrol-2.key").exists(), "a key was made")
        liar.close()


def invent_a_secret(bed):
    """A change of the mesh's secret comes without an enrol key's signature, and over the network."""
    centre, _ = mesh(bed)
    body = b"\1" + struct.pack("<I", 2) + bytes(32) + b"\0"
    mesh_id = Root(bed).mesh
    key = SigningKey.generate()
    signed = b"MESH1 secret".ljust(32, b"\0") + mesh_id + struct.pack("<Q", len(body)) + body
    document = struct.pack("<H", len(body)) + body + bytes(key.verify_key) + key.sign(signed).signature
    expect(centre.admin("PUT", "/v1/secret", document)[0] == 422, "a stranger's secret is taken")
    enrol = SigningKey((bed.keys / "enrol.key").read_bytes())
    document = struct.pack("<H", len(body)) + body + bytes(enrol.verify_key) + enrol.sign(signed).signature
    expect(centre.http("PUT", "/v1/secret", document)[0] == 403, "a secret is taken over the network")
    expect(centre.admin("PUT", "/v1/secret", document)[0] == 202, "one that this reader of the article made is refused")
    expect(serves(centre, b'"secret_epoch":2'), "the server does not serve by it")


CASES = [forge_a_root_document, mint_with_a_stolen_key, forge_a_ticket_of_a_known_serial, revoke_with_a_stolen_key, hide_a_server_from_a_rotation,
         swap_the_root_document_of_a_rotation, invent_a_secret]
