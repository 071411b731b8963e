# SPDX-License-Identifier: Apache-2.0
"""A server of the enemy's own, written from the articles TrustDocuments, LinkProtocol, CommitFormat and RecordFormat alone."""
import base64
import hashlib
import hmac
import os
import socket
import struct
import threading

from nacl.bindings import (crypto_scalarmult,
                           crypto_aead_chacha20poly1305_ietf_decrypt as open_sealed,
                           crypto_aead_chacha20poly1305_ietf_encrypt as seal)
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey
from nacl.signing import SigningKey

NOISE = b"Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b"


def digest(*parts):
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def labelled(label, mesh, body):
    """What is signed, or hashed for an identity."""
    return label.ljust(32, b"\0") + mesh + struct.pack("<Q", len(body)) + body


def varint(number):
    out = b""
    while number > 0x7f:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def short(text):
    return bytes([len(text)]) + text


class Ticket:
    """A ticket file, taken apart."""

    def __init__(self, path):
        text = "".join(path.read_text().split()).removeprefix("mesh-ticket-1:").upper()
        data = base64.b32decode(text + "=" * (-len(text) % 8))
        assert digest(data[:-4])[:4] == data[-4:], "the ticket's own sum"
        length = struct.unpack_from("<H", data)[0]
        root, rest = data[2:2 + length], data[2 + length:]
        body_length = struct.unpack_from("<H", root)[0]
        self.mesh = digest(labelled(b"MESH1 root", bytes(32), root[2:2 + body_length]))
        self.seed, rest = rest[:32], rest[32:]
        length = struct.unpack_from("<H", rest)[0]
        self.signed = rest[:2 + length + 32 + 64]
        rest = rest[2 + length + 32 + 64:]
        self.epoch, self.secret = struct.unpack_from("<I", rest)[0], rest[4:36]


class Identity:
    """A box that joined with a ticket: its keys and its certificate."""

    def __init__(self, ticket, node=None):
        self.ticket, self.mesh = ticket, ticket.mesh
        self.node, self.link = node or SigningKey.generate(), PrivateKey.generate()
        self.id = bytes(self.node.verify_key)
        body = self.id + bytes(self.link.public_key) + ticket.signed
        signed = labelled(b"MESH1 nodecert", self.mesh, body)
        self.certificate = struct.pack("<H", len(body)) + body + SigningKey(ticket.seed).sign(signed).signature \
            + self.node.sign(signed).signature


class Cipher:
    def __init__(self, key):
        self.key, self.count = key, 0

    def _nonce(self):
        self.count += 1
        return bytes(4) + struct.pack("<Q", self.count - 1)

    def seal(self, text, data=b""):
        return seal(text, data, self._nonce(), self.key)

    def open(self, text, data=b""):
        return open_sealed(text, data, self._nonce(), self.key)

    def rekey(self):
        self.key = seal(bytes(32), b"", bytes(4) + b"\xff" * 8, self.key)[:32]


class Handshake:
    """The dialler's side of the handshake (Noise, revision 34)."""

    def __init__(self, identity, prologue, psk):
        self.identity = identity
        self.hash = NOISE.ljust(64, b"\0")
        self.chain, self.cipher = self.hash, None
        self.mix_hash(prologue)
        self.psk, self.ephemeral = psk, PrivateKey.generate()

    def mix_hash(self, data):
        self.hash = hashlib.blake2b(self.hash + data).digest()

    def kdf(self, material, count):
        secret = hmac.new(self.chain, material, hashlib.blake2b).digest()
        out, last = [], b""
        for number in range(1, count + 1):
            last = hmac.new(secret, last + bytes([number]), hashlib.blake2b).digest()
            out.append(last)
        return out

    def mix_key(self, material):
        self.chain, key = self.kdf(material, 2)
        self.cipher = Cipher(key[:32])

    def seal(self, text):
        sealed = self.cipher.seal(text, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed):
        text = self.cipher.open(sealed, self.hash)
        self.mix_hash(sealed)
        return text

    def first(self):
        self.chain, mixed, key = self.kdf(self.psk, 3)
        self.mix_hash(mixed)
        self.cipher = Cipher(key[:32])
        public = bytes(self.ephemeral.public_key)
        self.mix_hash(public)
        self.mix_key(public)
        return public + self.seal(b"")

    def second(self, message):
        """Takes the listener's message: what it says of itself."""
        theirs = message[:32]
        self.mix_hash(theirs)
        self.mix_key(theirs)
        self.their_ephemeral = theirs
        self.mix_key(crypto_scalarmult(bytes(self.ephemeral), self.their_ephemeral))
        static = self.open(message[32:80])
        self.mix_key(crypto_scalarmult(bytes(self.ephemeral), static))
        return self.open(message[80:])

    def third(self, payload):
        sealed = self.seal(bytes(self.identity.link.public_key))
        self.mix_key(crypto_scalarmult(bytes(self.identity.link), self.their_ephemeral))
        return sealed + self.seal(payload)

    def split(self):
        mine, theirs = self.kdf(b"", 2)
        return Cipher(mine[:32]), Cipher(theirs[:32])


class Closed(Exception):
    """The server has closed the link."""


class Link:
    """A link to a server; `change` is asked to change each message of the handshake on its way out."""

    def __init__(self, identity, port, secret=None, certificate=None, change=lambda number, message: message, source="127.0.0.1",
                 offers=0):
        self.line = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.lock, self.heard, self.error = threading.Lock(), [], None
        ticket = identity.ticket
        mine = b"MSH1" + bytes([1, 1]) + struct.pack("<IH", ticket.epoch, offers)
        self.line.sendall(change(0, mine))
        theirs = self._take(12)
        key = secret or ticket.secret
        psk = hashlib.blake2b(b"", digest_size=32, key=key, salt=struct.pack("<QQ", 1, 0), person=b"MESHnpsk".ljust(16, b"\0")).digest()
        noise = Handshake(identity, b"MESH1 link".ljust(32, b"\0") + identity.mesh + mine + theirs, psk)
        self._say(change(1, noise.first()))
        length = struct.unpack(">H", self._take(2))[0]
        said = noise.second(self._take(length))
        self.peer = said[2:2 + struct.unpack_from("<H", said)[0]]
        own = certificate or identity.certificate
        self._say(change(3, noise.third(struct.pack("<H", len(own)) + own + short(b"enemy") + b"\0")))
        self.out, self.inward = noise.split()
        self.frames = 0

    def _take(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.line.recv(count - len(data))
            except OSError as error:
                raise Closed() from error
            if not part:
                raise Closed()
            data += part
        return data

    def _say(self, message):
        try:
            self.line.sendall(struct.pack(">H", len(message)) + message)
        except OSError as error:
            raise Closed() from error

    def send(self, kind, fields=b""):
        """One message, in as many frames as it needs."""
        message = bytes([kind]) + fields
        with self.lock:
            for start in range(0, len(message), 60_000):
                part = message[start:start + 60_000]
                sealed = self.out.seal(bytes([start + 60_000 < len(message)]) + part)
                self._say(sealed)
                self.frames += 1
                if self.frames % 65_536 == 0:
                    self.out.rekey()
                    self.out.count = 0

    def receive(self):
        """The next message: its type and fields."""
        message = b""
        while True:
            try:
                text = self.inward.open(self._take(struct.unpack(">H", self._take(2))[0]))
            except CryptoError as error:
                raise Closed() from error
            message += text[1:]
            if not text[0]:
                return message[0], message[1:]

    def is_up(self):
        """Whether a ping is answered."""
        try:
            self.send(1, struct.pack("<Q", 77))
            while True:
                kind, fields = self.receive()
                if kind == 3:
                    return fields == struct.pack("<Q", 77)
                self.answer(kind, fields)
        except Closed:
            return False

    def answer(self, kind, fields):
        if kind == 1:
            self.send(3, fields)

    def attend(self):
        """Answers pings in the background until the link ends, and keeps what else is heard."""
        def run():
            try:
                while True:
                    kind, fields = self.receive()
                    self.heard.append(kind)
                    self.answer(kind, fields)
            except (Closed, OSError, ValueError):
                self.error = "closed"
        self.line.settimeout(None)
        threading.Thread(target=run, daemon=True).start()
        return self

    def close(self):
        try:
            self.line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.line.close()


def scope(namespace, site=None):
    return short(namespace) + (b"\1" + short(site) if site else b"\0")


def policy_name(mesh, namespace, policy):
    return digest(labelled(b"MESH1 policy", mesh, short(namespace) + policy))


def root_of(ids):
    """RFC 6962's shape."""
    if len(ids) == 1:
        return ids[0]
    left = 1
    while left * 2 < len(ids):
        left *= 2
    return digest(b"\1", root_of(ids[:left]), root_of(ids[left:]))


class Writer:
    """One life of an identity in one scope, that signs whatever it is told to."""

    def __init__(self, identity, where, policy, life=None, node=None):
        self.identity, self.where, self.policy = identity, where, policy
        self.life = life if life is not None else struct.unpack("<Q", os.urandom(8))[0]
        self.node, self.last, self.previous = node or identity.id, 0, bytes(32)

    @property
    def author(self):
        return self.node + struct.pack("<Q", self.life)

    def record(self, key, body, seen=(), kind=1, stamp=1 << 40):
        """A record twice: with its authors written out, which is what is hashed, and what stands of the context."""
        head = bytes([kind]) + struct.pack("<Q", stamp) + struct.pack("<H", len(key)) + key + b"\0"
        tail = short(b"text/plain") + struct.pack("<I", len(body)) + body + b"\0"
        whole = head + varint(len(seen)) + b"".join(author + varint(place) for author, place in seen) + tail
        return whole, (head, list(seen), tail)

    def commit(self, records, first=None, previous=None, inherits=(), forge=lambda header: header, signer=None):
        """A commit as it goes over a link but for its table of authors, which the message has."""
        first = self.last + 1 if first is None else first
        ids = [digest(labelled(b"MESH1 record", self.identity.mesh, whole)) for whole, _ in records]
        header = self.where + self.author + struct.pack("<QH", first, len(records)) \
            + (self.previous if previous is None else previous) + root_of(ids) + self.policy \
            + varint(len(inherits)) + b"".join(struct.pack("<Q", life) + varint(through) for life, through in inherits) + b"\0"
        signed = labelled(b"MESH1 commit", self.identity.mesh, header)
        signature = (signer or self.identity.node).sign(signed).signature
        self.last, self.previous = first + len(records) - 1, digest(signed)
        return first, forge(header), signature, [parts for _, parts in records]

    def message(self, commits, after=None, through=None):
        """The fields of a message of commits, all records present."""
        authors = []
        for *_, records in commits:
            for _, seen, _ in records:
                authors += [author for author, _ in seen if author not in authors]
        out = self.where + self.author
        out += struct.pack("<QQ", commits[0][0] - 1 if after is None else after, self.last if through is None else through)
        out += varint(len(authors)) + b"".join(authors) + varint(len(commits))
        for _, header, signature, records in commits:
            count = len(records)
            bitmap = bytearray((count + 7) // 8)
            for index in range(count):
                bitmap[index // 8] |= 1 << index % 8
            out += struct.pack("<H", len(header)) + header + signature + bytes(bitmap) + struct.pack("<H", 0)
            for head, seen, tail in records:
                text = head + varint(len(seen)) + b"".join(varint(authors.index(author)) + varint(place) for author, place in seen) + tail
                out += struct.pack("<I", len(text)) + text
        return out
