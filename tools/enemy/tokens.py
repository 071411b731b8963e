# SPDX-License-Identifier: Apache-2.0
"""An app's token, a foreign page, and a ticket that lies about."""
import json
import os

from bed import expect, meshctl


def read_what_is_the_meshs(bed):
    """The token of an app asks for peers, digests, namespaces and metrics."""
    centre = bed.server("centre", "hq", "--central")
    for name in ("notes", "wages"):
        done = centre.ctl("namespace", "create", name, "--audience", "all", "--writers", "any", "--merge", "register")
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


CASES = [read_what_is_the_meshs, join_with_a_ticket_that_others_read]
