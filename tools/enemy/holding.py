# SPDX-License-Identifier: Apache-2.0
"""A server of the site that lies about who holds a write; written from the article Acknowledgements."""
import json
import struct

from bed import expect, until
from keys import mesh
from link import TEXT, centre_id, counted, member
from peer import Link, digest, labelled

COMMITS, WANT, HOLDING = 15, 60, 62


class Neighbour(Link):
    """Stands where a gateway would, and answers what it is asked as it is told to."""
    reply, ends, wanted = None, None, 0

    def answer(self, kind, fields):
        super().answer(kind, fields)
        if kind == COMMITS:
            self.note(fields)
        if kind == WANT and self.reply:
            self.wanted += 1
            log, through, whose = fields[:-9], fields[-9:-1], fields[-1]
            if log in self.ends and self.ends[log][0] == through:
                for word in self.reply(log, through, self.ends[log][1], whose):
                    self.send(HOLDING, word)

    def note(self, fields):
        """The name of the commit with which a message of one commit ends its log."""
        place = 1 + fields[0]
        place += 1 + (1 + fields[place + 1] if fields[place] else 0) + 40
        log, through = fields[:place], fields[place + 8:place + 16]
        rest = fields[place + 16:]
        authors, rest = rest[0], rest[1 + 40 * rest[0]:]
        if authors < 0x80 and rest[0] == 1:
            length = struct.unpack_from("<H", rest, 1)[0]
            self.ends = {**(self.ends or {}), log: (through, digest(labelled(b"MESH1 commit", self.mesh, rest[3:3 + length])))}


def say_that_others_hold_a_write(bed):
    """The line to the centre is down, and a stolen server of the site says in the centre's name that it holds a write."""
    centre, till = mesh(bed)
    centre_name = centre_id(centre)
    centre.stop()
    thief = member(bed, site="s1")
    Neighbour.mesh = thief.mesh
    link = Neighbour(thief, till.ports[0])
    link.ends = {}
    link.attend()

    def put(ack):
        status, _, body = till.http("PUT", f"/v1/records/notes/a?ack={ack}&wait=1s", b"2", TEXT)
        return status, json.loads(body)["durable_on"]

    def word(holder, commit, signer, log, through):
        body = holder + log + bytes(8) + through + commit
        return body + signer.sign(labelled(b"MESH1 holding", thief.mesh, body)).signature

    # It counts for itself, as any server would: the articles say enough.
    link.reply = lambda log, through, commit, whose: [word(thief.id, commit, thief.node, log, through)]
    expect(until(lambda: put("site:2")[0] == 200), "an honest word does not count")
    # What it counts for is in its certificate.
    expect(put("central") == (202, ["s1/till", "s1/enemy"]), f"it passes for the centre: {put('central')}")
    expect(put("site:3")[0] == 202, "it counts twice")
    # In the centre's name.
    link.reply = lambda log, through, commit, whose: [word(centre_name, commit, thief.node, log, through)]
    before = counted(till, "holding_forged")
    status, holders = put("central")
    expect(status == 202 and holders == ["s1/till"], f"a word that the centre did not sign counts: {status} {holders}")
    expect(counted(till, "holding_forged") > before, "it was not seen")
    expect(link.wanted >= 4, "it was not asked")
    # Three such, and the link is closed.
    put("central")
    put("central")
    expect(until(lambda: link.error == "closed"), "the link stands")
    # Of something else in that place.
    link = Neighbour(thief, till.ports[0])
    link.ends = {}
    link.attend()
    link.reply = lambda log, through, commit, whose: [word(thief.id, bytes(32), thief.node, log, through)]
    expect(put("site:2") == (202, ["s1/till"]), "a word about another commit counts")
    expect(until(lambda: counted(till, "holding_other") > 0), "it was not seen")
    link.close()


CASES = [say_that_others_hold_a_write]
