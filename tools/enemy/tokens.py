# SPDX-License-Identifier: Apache-2.0
"""An app's token, a foreign page, and a ticket that lies about."""
import base64
import json
import os
import struct
import time

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

from bed import expect, meshctl, until
from peer import Closed, Identity, Link, Ticket, Writer, digest, labelled, policy_name, scope


def read_what_is_the_meshs(bed):
    """The token of an app asks for peers, digests, namespaces and metrics."""
    centre = bed.server("centre", "hq", "--central")
    for name in ("notes", "wages"):
        done = centre.ctl("namespace", "create", "--keys", centre.bed.keys, name, "--audience", "all", "--writers", "any", "--merge", "register")
        expect(done.returncode == 0, done.stderr)
        centre.http("PUT", f"/v1/records/{name}/a", b"1", {"Content-Type": "text/plain"})
    tokens = {}
    for name, grant in (("app", "notes:r"), ("watch", "_mesh:r")):
        path = bed.scratch / f"{name}.token"
        done = centre.ctl("token", "create", "--name", name, "--allow", grant, "--out", path)
        expect(done.returncode == 0, done.stderr)
        tokens[name] = {"Authorization": f"Bearer {path.read_text().strip()}"}
    for path in ("/v1/peers", "/v1/status", "/metrics", "/v1/digest/wages@all", "/v1/digest/_mesh@all"):
        status, _, body = centre.http("GET", path, headers=tokens["app"])
        expect(status == 403, f"{path}: {status} {body[:200]}")
    seen = json.loads(centre.http("GET", "/v1/digest", headers=tokens["app"])[2])
    expect({one["scope"] for one in seen["digests"]} == {"notes@all"}, seen)
    seen = json.loads(centre.http("GET", "/v1/namespaces", headers=tokens["app"])[2])
    expect({one["name"] for one in seen["namespaces"]} == {"notes"}, seen)
    for path in ("/v1/peers", "/v1/status", "/metrics"):
        expect(centre.http("GET", path, headers=tokens["watch"])[0] == 200, path)
    # A page to whose name a browser was led asks from this host itself.
    expect(centre.http("GET", "/metrics", headers={"Host": "evil.example"})[0] == 403, "metrics under a foreign name")


def join_with_a_ticket_that_others_read(bed):
    """A ticket is readable by others, or a link to it is given: it is not used, and not lost."""
    ticket = bed.ticket("till", "s1")
    ticket.chmod(0o644)
    done = meshctl("join", ticket, "--data", bed.scratch / "box")
    expect(done.returncode == 1 and "chmod 600" in done.stderr and ticket.exists(), done.stderr)
    ticket.chmod(0o600)
    link = bed.scratch / "link"
    os.symlink(ticket, link)
    done = meshctl("join", link, "--data", bed.scratch / "box")
    expect(done.returncode == 1 and ticket.exists() and link.is_symlink(), done.stderr)
    # What cannot be joined to does not cost the ticket.
    (bed.scratch / "file").write_text("")
    done = meshctl("join", ticket, "--data", bed.scratch / "file")
    expect(done.returncode == 1 and ticket.exists(), done.stderr)
    done = meshctl("join", ticket, "--data", bed.scratch / "box")
    expect(done.returncode == 0 and not list(bed.scratch.glob("*till.ticket*")), done.stderr)


def define_a_namespace(bed):
    """Somebody at the centre, and the token of an app, define a namespace with keys of their own; an operator does it from elsewhere."""
    centre = bed.server("centre", "hq", "--central")
    token = bed.scratch / "operator.token"
    done = centre.ctl("token", "create", "--allow", "_mesh:w", "--out", token)
    expect(done.returncode == 0, done.stderr)
    done = centre.ctl("token", "create", "--allow", "notes:w", "--out", bed.scratch / "app.token")
    expect(done.returncode == 0, done.stderr)
    url = f"http://127.0.0.1:{centre.ports[1]}"
    policy = ("--audience", "all", "--writers", "any", "--merge", "register")
    bed.run("mesh", "create", bed.scratch / "thief", "--name", "enemy", "--no-passphrase")
    done = centre.ctl("namespace", "create", "notes", "--keys", bed.scratch / "thief", *policy)
    expect(done.returncode != 0 and "not signed by an operator" in done.stderr, f"{done.returncode} {done.stderr}")
    create = lambda name, *more: meshctl("namespace", "create", name, "--keys", bed.keys, "--url", url, *more)
    done = create("notes", *policy, "--token-file", bed.scratch / "app.token")
    expect(done.returncode != 0 and "_mesh:w" in done.stderr, f"{done.returncode} {done.stderr}")
    done = create("notes", *policy, "--token-file", token)
    expect(done.returncode == 0, done.stderr)
    other = ("--audience", "site", "--writers", "site", "--merge", "log")
    done = create("notes", *other, "--token-file", token)
    expect(done.returncode != 0 and "--change" in done.stderr, f"{done.returncode} {done.stderr}")
    done = create("notes", *other, "--change", "--token-file", token)
    expect(done.returncode == 0, done.stderr)
    shown = json.loads(centre.admin("GET", "/v1/namespaces")[2])["namespaces"]
    current = [one["audience"] for one in shown if one["name"] == "notes" and one["current"]]
    expect(current == ["site"] and len(shown) == 2, f"{shown}")


def join_with_a_copy_of_a_ticket_that_asks_for_approval(bed):
    """Three boxes have one ticket: who is approved by the fingerprint that was read at it is a member, nobody else."""
    centre = bed.server("centre", "hq", "--central")
    done = centre.ctl("namespace", "create", "--keys", bed.keys, "notes", "--audience", "all", "--writers", "any", "--merge", "register")
    expect(done.returncode == 0, done.stderr)
    ticket = bed.ticket("till", "s1", "--needs-approval")
    first, second = Identity(Ticket(ticket)), Identity(Ticket(ticket))
    policy = policy_name(first.mesh, b"notes", b"\0\3\1\0")

    def shut_out(identity, certificate=None):
        """Whether what an identity says on its link is not heard."""
        try:
            link = Link(identity, centre.ports[0], certificate=certificate)
        except (Closed, CryptoError):
            return True
        who = Writer(identity, scope(b"notes"), policy)
        try:
            link.send(15, who.message([who.commit([who.record(b"stolen", b"x")])]))
            return not link.is_up()
        except Closed:
            return True
        finally:
            link.close()

    def word(key, certificate):
        """What an operator signs of a certificate, by the article TrustDocuments."""
        length = struct.unpack_from("<H", certificate)[0]
        print_ = digest(labelled(b"MESH1 nodecert", first.mesh, certificate[2:2 + length]))
        signature = key.sign(labelled(b"MESH1 approve", first.mesh, print_)).signature
        return print_, struct.pack("<H", 32) + print_ + bytes(key.verify_key) + signature

    expect(shut_out(first) and shut_out(second), "a box that waits is heard")
    mine = SigningKey.generate()
    expect(shut_out(first, first.certificate + word(mine, first.certificate)[1]), "by a key of its own")
    till = type(centre)(bed, "till", "s1", (bed.port, bed.port + 1), centre.ports[0])
    bed.port += 2
    joined = bed.run("join", ticket, "--data", till.data)
    shown = joined.stdout.split("fingerprint: ")[1].split()[0]
    print_, _ = word(mine, (till.data / "certificate").read_bytes())
    expect(shown.replace("-", "") == base64.b32encode(print_).decode().lower()[:20], f"the fingerprint {shown}")
    bed.servers.append(till)
    till.start()
    expect(until(lambda: centre.ctl("approve", "--keys", bed.keys).stdout.count("s1/till") == 3), "not all are shown")
    expect(shown in till.ctl("peers").stdout, "the till does not show its fingerprint")
    done = centre.ctl("approve", "--keys", bed.keys, "aaaa-bbbb-cccc-dddd-eeee")
    expect(done.returncode == 4, done.stdout + done.stderr)
    done = centre.ctl("approve", "--keys", bed.keys, shown.upper())
    expect(done.returncode == 0 and "2 more wait with a copy" in done.stdout, done.stdout + done.stderr)
    expect(until(lambda: centre.state("till") == ["alive"], 60), "the till that was approved has no link")
    expect(until(lambda: till.http("PUT", "/v1/records/notes/a", b"1", {"Content-Type": "text/plain"})[0] == 201), "it cannot write")
    expect(until(lambda: centre.http("GET", "/v1/records/notes/a")[0] == 200), "what it wrote does not arrive")
    # Its approval is no secret, and of no use to another.
    whole = (till.data / "certificate").read_bytes()
    for thief in (first, second):
        expect(shut_out(thief), "a box with a copy is heard")
        expect(shut_out(thief, thief.certificate + whole[-130:]), "with the till's approval")
        expect(shut_out(thief, whole), "with the till's certificate")
    expect(centre.http("GET", "/v1/records/notes/stolen")[0] == 404, "what a box with a copy wrote is shown")
    expect(centre.state("till") == ["alive"], centre.state("till"))


def join_twice_with_one_ticket(bed):
    """A copy of a till's ticket joins as well, and after the till is revoked again and again."""
    centre = bed.server("centre", "hq", "--central")
    ticket = bed.ticket("till", "s1")
    copies = []
    for number in range(3):
        copies.append(bed.scratch / f"copy{number}.ticket")
        copies[-1].write_bytes(ticket.read_bytes())
        copies[-1].chmod(0o600)

    def box(number, path):
        server = type(centre)(bed, "till", f"box{number}", (bed.port, bed.port + 1), centre.ports[0])
        bed.port += 2
        bed.run("join", path, "--data", server.data)
        bed.servers.append(server)
        return server.start()

    till = box(0, ticket)
    expect(until(lambda: centre.state("till") == ["alive"]), "the till has no link")
    thief = box(1, copies[0])
    expect(until(lambda: "joined with the ticket of till" in centre.ctl("peers").stdout), "the centre does not say so")
    expect(until(lambda: "joined with the ticket of this one" in thief.ctl("peers").stdout), "the second does not say so")
    # The copy can be revoked by its identity, and the till stays.
    ids = {peer["id"] for peer in thief.peers() if peer["state"] == "self"}
    done = centre.ctl("revoke", ids.pop(), "--keys", bed.keys, "--erase", "--keep-ticket", "--confirm", "till")
    expect(done.returncode == 0, done.stderr)
    expect(until(lambda: "joined with the ticket" not in centre.ctl("peers").stdout), "the centre goes on about it")
    centre.stop()
    centre.start()
    time.sleep(4)
    expect("alive" in centre.state("till"), f"after a restart the centre sees {centre.state('till')}")
    linked = json.loads(thief.admin("GET", "/v1/peers")[2])["peers"]
    expect(not [peer for peer in linked if peer["state"] == "alive"], f"the second is linked: {linked}")
    ids = {peer["id"] for peer in till.peers() if peer["state"] == "self"}
    done = centre.ctl("revoke", ids.pop(), "--keys", bed.keys, "--erase", "--confirm", "till")
    expect(done.returncode == 0, done.stderr)
    late = box(2, copies[1])
    time.sleep(4)
    for server in (till, thief, late):
        linked = json.loads(server.admin("GET", "/v1/peers")[2])["peers"]
        expect(not [peer for peer in linked if peer["state"] == "alive"], f"{server.site} is linked: {linked}")
    shown = late.ctl("peers").stdout
    expect("revoked" in shown, f"a box that joined with the revoked ticket says {shown}")


def alive(server, name):
    return server.state(name) == ["alive"]


def join_with_a_ticket_that_was_cancelled(bed):
    """A ticket that nobody used was copied, lies in a drawer for weeks, and is cancelled; a used one is not."""
    centre = bed.server("centre", "hq", "--central")
    till = bed.server("till", "s1", seed=centre.ports[0])
    bed.ticket("spare", "s1")
    expect(until(lambda: alive(centre, "till")), "the till does not link")
    asked = ("--keys", bed.keys, "--data", centre.data)
    listed = {line.split()[1]: line.split() for line in meshctl("ticket", "list", *asked, "--no-headers").stdout.splitlines()}
    expect(listed["s1/spare"][3] == "unused" and listed["s1/till"][3] == "used", f"{listed}")
    done = meshctl("ticket", "cancel", listed["s1/till"][0], *asked, "--yes")
    expect(done.returncode == 1 and "is used" in done.stderr, f"a used ticket is cancelled: {done.stderr}")
    done = meshctl("ticket", "cancel", "--older-than", "14", *asked, "--yes")
    expect(done.returncode == 0 and "no ticket" in done.stderr, f"a new ticket is cancelled: {done.stderr}")
    done = meshctl("ticket", "cancel", listed["s1/spare"][0], *asked, stdin="no\n")
    expect(done.returncode == 1 and "not confirmed" in done.stderr, f"it does not ask: {done.stderr}")
    done = meshctl("ticket", "cancel", listed["s1/spare"][0], *asked, stdin="cancel\n")
    expect(done.returncode == 0, f"{done.stderr}")
    expect("cancelled" in meshctl("ticket", "list", *asked).stdout, "it is not shown as cancelled")
    ports = (bed.port, bed.port + 1)
    bed.port += 2
    thief = type(centre)(bed, "spare", "s1", ports, centre.ports[0])
    bed.run("join", bed.scratch / "s1-spare.ticket", "--data", thief.data)
    bed.servers.append(thief)
    thief.start()
    expect(not until(lambda: alive(centre, "spare") or alive(till, "spare"), 5), "a cancelled ticket makes a member")
    expect(alive(centre, "till"), "the till is no member any more")


CASES = [define_a_namespace, join_with_a_copy_of_a_ticket_that_asks_for_approval, join_twice_with_one_ticket, join_with_a_ticket_that_was_cancelled, read_what_is_the_meshs, join_with_a_ticket_that_others_read]
