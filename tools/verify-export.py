#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""verify-export.py FILE [--mesh ID]: verifies a file of 'meshctl export NS --signed' with nothing of this project.

Written from the articles RecordFormat, CommitFormat and TrustDocuments alone, on PyNaCl. Checks every certificate
up to the root document, every commit's signature and Merkle proof, and prints what is proven. Exit 1 at the first
thing that is not. With --mesh the root document must be that mesh's, else the file proves itself only.
"""
import hashlib
import json
import sys

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey


class Refused(Exception):
    pass


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Refused("truncated")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, count):
        return int.from_bytes(self.take(count), "little")

    def short(self):
        return self.take(self.number(1))

    def medium(self):
        return self.take(self.number(2))

    def long(self):
        return self.take(self.number(4))

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 63:
                raise Refused("a number that is too long")

    def finish(self):
        if self.at != len(self.data):
            raise Refused(f"{len(self.data) - self.at} bytes too many")


def blake(data):
    return hashlib.blake2b(data, digest_size=32).digest()


def message(label, mesh, body):
    return label.encode().ljust(32, b"\0") + mesh + len(body).to_bytes(8, "little") + body


def verify(key, signature, data, what):
    try:
        VerifyKey(key).verify(data, signature)
    except BadSignatureError:
        raise Refused(f"the signature of {what} does not verify") from None


def audience(reader):
    kind = reader.number(1)
    if kind == 0:
        return "@all"
    if kind in (1, 2):
        return ("@site/" if kind == 1 else "@group/") + reader.short().decode()
    if kind == 0xFF:
        return "*"
    raise Refused("an unknown audience")


def read_root(data):
    reader = Reader(data)
    body = reader.medium()
    signatures = [(reader.number(1), reader.take(64)) for _ in range(reader.number(1))]
    reader.finish()
    fields = Reader(body)
    fields.number(4)
    name = fields.short().decode()
    fields.number(8)
    threshold = fields.number(1)
    roots = [fields.take(32) for _ in range(fields.number(1))]
    enrol = [fields.take(32) for _ in range(fields.number(1))]
    signed = message("MESH1 root", bytes(32), body)
    for index, signature in signatures:
        verify(roots[index], signature, signed, "the root document")
    if len({index for index, _ in signatures}) < max(1, threshold):
        raise Refused("the root document has too few signatures")
    return blake(signed), name, enrol


def read_certificate(data, mesh, enrol):
    reader = Reader(data)
    body, by_ticket, by_node = reader.medium(), reader.take(64), reader.take(64)
    fields = Reader(body)
    node, _link = fields.take(32), fields.take(32)
    ticket, enrol_key, by_enrol = fields.medium(), fields.take(32), fields.take(64)
    fields.finish()
    if enrol_key not in enrol:
        raise Refused("a ticket was issued by a key that the root document does not name")
    verify(enrol_key, by_enrol, message("MESH1 ticket", mesh, ticket), "a ticket")
    fields = Reader(ticket)
    ticket_key, _serial = fields.take(32), fields.take(16)
    site, name, _central = fields.short().decode(), fields.short().decode(), fields.number(1)
    for _ in range(fields.number(1)):
        fields.short()
    for _ in range(fields.number(1)):
        fields.number(1), fields.short(), audience(fields)
    signed = message("MESH1 nodecert", mesh, body)
    if fields.number(1):
        # The operator's word for it.
        fingerprint, key, by_operator = reader.medium(), reader.take(32), reader.take(64)
        if fingerprint != blake(signed) or key not in enrol:
            raise Refused(f"{name}'s certificate has no approval of its own")
        verify(key, by_operator, message("MESH1 approve", mesh, fingerprint), f"the approval of {name}")
    fields.finish()
    reader.finish()
    verify(ticket_key, by_ticket, signed, f"{name}'s certificate")
    verify(node, by_node, signed, f"{name}'s certificate")
    return node, f"{name}@{site}"


def root_of(present, ids, hashes, low, count):
    """The Merkle root of count leaves from low on: absent subtrees give one hash, the tree is RFC 6962's."""
    if not any(present[low:low + count]):
        return next(hashes)
    if count == 1:
        return next(ids)
    left = 1 << ((count - 1).bit_length() - 1)
    first = root_of(present, ids, hashes, low, left)
    return blake(b"\x01" + first + root_of(present, ids, hashes, low + left, count - left))


def expand(record, authors, used):
    """The record as it was hashed: on the wire its context names authors by their places in a table."""
    reader = Reader(record)
    reader.number(1), reader.number(8), reader.medium(), reader.short()
    front, count = reader.at, reader.varint()
    context = bytearray(reader.data[front:reader.at])
    for _ in range(count):
        place = reader.varint()
        if place > used[0]:
            raise Refused("authors of contexts out of order")
        used[0] = max(used[0], place + 1)
        start = reader.at
        context += authors[place]
        reader.varint()
        context += reader.data[start:reader.at]
    return record[:front] + bytes(context) + record[reader.at:]


def read_header(header, mesh):
    """Everything that is signed of a commit; a life says in its first commit what it inherits."""
    fields = Reader(header)
    scope = fields.short().decode() + audience(fields)
    author, life = fields.take(32), fields.number(8)
    first, count = fields.number(8), fields.number(2)
    previous, root, policy = fields.take(32), fields.take(32), fields.take(32)
    inherits = [(fields.number(8), fields.varint()) for _ in range(fields.varint())]
    if inherits and first != 1 or (first == 1) != (previous == bytes(32)):
        raise Refused("a header that contradicts itself")
    if any(life == earlier for earlier, _ in inherits):
        raise Refused("a life that inherits itself")
    tags = []
    for _ in range(fields.number(1)):
        tags.append(fields.number(1))
        fields.medium()
    if any(tag < 128 for tag in tags):
        raise Refused("a field of a newer version that may not be passed over")
    fields.finish()
    return scope, author, first, count, root, policy


def read_commit(data, mesh, nodes):
    reader = Reader(data)
    authors = [reader.take(40) for _ in range(reader.varint())]
    header, signature = reader.medium(), reader.take(64)
    scope, author, first, count, root, _policy = read_header(header, mesh)
    bits = reader.take((count + 7) // 8)
    present = [bits[i // 8] >> i % 8 & 1 == 1 for i in range(count)]
    hashes = [reader.take(32) for _ in range(reader.number(2))]
    used = [0]
    records = [expand(reader.long(), authors, used) for _ in range(sum(present))]
    reader.finish()
    if used[0] != len(authors):
        raise Refused("an author that no context names")
    if author not in nodes:
        raise Refused("a commit's author has no certificate in the file")
    where = f"commit {first} of {nodes[author]} in {scope}"
    verify(author, signature, message("MESH1 commit", mesh, header), where)
    ids = iter([blake(message("MESH1 record", mesh, record)) for record in records])
    rest = iter(hashes)
    try:
        proven = root_of(present, ids, rest, 0, count) == root
    except StopIteration:
        proven = False
    if not proven or next(ids, None) or next(rest, None):
        raise Refused(f"the records of {where} are not those that were signed")
    return len(records)


def main():
    wanted = sys.argv[3] if len(sys.argv) > 3 and sys.argv[2] == "--mesh" else None
    mesh, enrol, nodes, commits, records = None, [], {}, 0, 0
    with open(sys.argv[1], encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                if entry["kind"] == "mesh":
                    mesh, name, enrol = read_root(bytes.fromhex(entry["root"]))
                    if wanted and mesh.hex() != wanted:
                        raise Refused(f"the file is of the mesh {mesh.hex()}")
                    print(f"mesh {name} {mesh.hex()}")
                elif mesh is None:
                    raise Refused("the root document does not come first")
                elif entry["kind"] == "certificate":
                    node, title = read_certificate(bytes.fromhex(entry["bytes"]), mesh, enrol)
                    nodes[node] = title
                elif entry["kind"] == "commit":
                    records += read_commit(bytes.fromhex(entry["bytes"]), mesh, nodes)
                    commits += 1
                else:
                    raise Refused("an unknown kind of line")
            except (Refused, ValueError, KeyError, IndexError) as error:
                print(f"{sys.argv[1]}:{number}: refused: {error}")
                return 1
    if commits == 0:
        print(f"{sys.argv[1]}: refused: it holds no commit")
        return 1
    print(f"verified: {commits} commits, {records} records, {len(nodes)} authors")
    return 0


sys.exit(main())
