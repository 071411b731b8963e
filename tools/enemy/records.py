# SPDX-License-Identifier: Apache-2.0
"""Records that somebody signs who may."""
import json

from bed import expect, until

TEXT = {"Content-Type": "text/plain"}


def write_an_entry_that_is_there(bed):
    """A server signs another entry under the key of a receipt that was acknowledged elsewhere."""
    centre = bed.server("centre", "hq", "--central")
    done = centre.ctl("namespace", "create", "--keys", centre.bed.keys, "receipts", "--audience", "all", "--writers", "any", "--merge", "log")
    expect(done.returncode == 0, done.stderr)
    tills = [bed.server(f"till-{number}", "s1", seed=centre.ports[0]) for number in (1, 2)]
    path = "/v1/records/receipts/2026/1"
    for till in tills:
        expect(until(lambda: till.http("GET", path)[0] == 404 and b"receipts" in till.http("GET", "/v1/namespaces")[2]),
               "the namespace does not come")
    centre.stop()
    for till in tills:
        till.stop()
    # Each writes while it is alone; the one who means harm comes later, or earlier by its clock.
    words = [b"ten", b"nothing"]
    for till, word in zip(tills, words):
        till.start()
        expect(till.http("PUT", path, word, TEXT)[0] == 201, "an entry is not taken")
        expect(till.http("PUT", path, b"again", TEXT)[0] == 409, "an entry is written twice")
        till.stop()
    centre.start()
    servers = [centre, *tills]
    for till in tills:
        till.start()

    def listed(server, accept="application/json"):
        body = server.http("GET", "/v1/records/receipts", headers={"Accept": accept})[2].decode()
        rows = [json.loads(line) for line in body.splitlines()] if "nd" in accept else json.loads(body)["records"]
        return sorted((row["text"], row.get("twin")) for row in rows)

    both = sorted((word.decode(), True) for word in words)
    for server in servers:
        expect(until(lambda: listed(server) == both), f"{server.name} lists {listed(server)}")
        expect(listed(server, "application/x-ndjson") == both, f"{server.name} streams {listed(server, 'application/x-ndjson')}")
        feed = server.http("GET", "/v1/changes?namespace=receipts&follow=false", headers={"Accept": "application/x-ndjson"})[2]
        told = {json.loads(line).get("text") for line in feed.decode().splitlines() if line}
        expect({word.decode() for word in words} <= told, f"{server.name} tells {told}")
        expect("twin" in server.ctl("list", "receipts").stdout, "meshctl list does not say so")
    # Who read an entry reads it again.
    for till, word in zip(tills, words):
        expect(till.http("GET", path)[2] == word, f"{till.name} shows {till.http('GET', path)[2]}")


CASES = [write_an_entry_that_is_there]
