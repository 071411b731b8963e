# SPDX-License-Identifier: Apache-2.0
"""A server lies to an operator whose command holds keys."""
import json

from bed import expect, meshctl, until
from liar import Liar


def mesh(bed):
    """The centre, and a till of another site that has written something."""
    centre = bed.server("centre", "hq", "--central")
    till = bed.server("till", "s1", seed=centre.ports[0])
    done = centre.ctl("namespace", "create", "--keys", centre.bed.keys, "notes", "--audience", "all", "--writers", "any", "--merge", "register")
    expect(done.returncode == 0, done.stderr)
    expect(until(lambda: till.http("PUT", "/v1/records/notes/a", b"1", {"Content-Type": "text/plain"})[0] == 201),
           "the till cannot write")
    expect(until(lambda: centre.http("GET", "/v1/records/notes/a")[0] == 200), "the centre does not get it")
    return centre, till


def revoke(bed, liar, *more):
    return meshctl("revoke", "s1/till", "--keys", bed.keys, "--url", liar.url, "--confirm", "till", *more)


def revoke_the_centre(bed):
    """The server answers a request to revoke the till with the centre's certificate and plan."""
    centre, _ = mesh(bed)
    liar = Liar(centre)
    liar.swaps("/v1/certificates/", "/v1/certificates/hq%2Fcentre")
    liar.swaps("/v1/revocations/", "/v1/revocations/hq%2Fcentre")
    done = revoke(bed, liar)
    expect(done.returncode == 1 and "hq/centre" in done.stderr, done.stdout + done.stderr)
    expect(not any(method == "POST" for method, *_ in liar.asked), "something was signed")
    expect(centre.state("centre") == ["self"], "the centre was revoked")


def revoke_by_a_plan_of_another(bed):
    """The certificate is the till's, and the plan says that it is the centre's identity."""
    centre, till = mesh(bed)
    liar = Liar(centre)
    other = next(peer["id"] for peer in centre.peers() if peer["node"] == "centre")
    liar.edits("/v1/revocations/", lambda plan: plan.update(id=other, node="till"))
    done = revoke(bed, liar)
    expect(done.returncode == 0, done.stderr)
    expect(centre.state("centre") == ["self"], "the centre was revoked")
    expect(until(lambda: centre.state("till") == ["revoked"]), "the till was not revoked")


def revoke_without_cuts(bed):
    """The plan says that nothing the till wrote is known."""
    centre, till = mesh(bed)
    liar = Liar(centre)
    liar.edits("/v1/revocations/", lambda plan: plan.update(logs=[]))
    done = revoke(bed, liar)
    expect(done.returncode == 1 and "--erase" in done.stderr, done.stdout + done.stderr)
    expect(not any(method == "POST" for method, *_ in liar.asked), "something was signed")
    expect(centre.state("till") == ["alive"], "the till was revoked")
    done = revoke(bed, liar, "--erase")
    expect(done.returncode == 0 and until(lambda: centre.state("till") == ["revoked"]), done.stderr)


def revoke_by_a_changed_certificate(bed):
    """One bit of the till's certificate is changed."""
    centre, _ = mesh(bed)
    liar = Liar(centre)

    def flip(view):
        text = view["certificates"][0]
        view["certificates"] = [text[:80] + ("0" if text[80] != "0" else "1") + text[81:]]
    liar.edits("/v1/certificates/", flip)
    done = revoke(bed, liar)
    expect(done.returncode == 1 and "verify" in done.stderr, done.stdout + done.stderr)


def replace_with_the_centres_rights(bed):
    """The server says that the till is a central server; then it shows the centre's certificate."""
    centre, till = mesh(bed)
    liar = Liar(centre)

    def promote(view):
        for peer in view["peers"]:
            peer["role"] = "central"
    liar.edits("/v1/peers", promote)
    made = bed.scratch / "new.ticket"
    ask = ("replace", "s1/till", "--keys", bed.keys, "--out", made, "--url", liar.url, "--confirm", "till")
    done = meshctl(*ask)
    expect(done.returncode == 0 and "edge" in done.stdout, done.stdout + done.stderr)
    bed.run("join", made, "--data", bed.scratch / "box")
    till.stop()
    till.data = bed.scratch / "box"
    till.start()
    expect(until(lambda: any(peer["role"] == "edge" and peer["state"] == "alive" for peer in centre.peers()
                             if peer["node"] == "till")), "the new box is no edge server")
    liar.swaps("/v1/certificates/", "/v1/certificates/hq%2Fcentre")
    made.unlink(missing_ok=True)
    done = meshctl(*ask)
    expect(done.returncode == 1 and "hq/centre" in done.stderr and not made.exists(), done.stdout + done.stderr)


def publisher(bed):
    """The centre with two releases each of the channels menu and film."""
    centre = bed.server("centre", "hq", "--central")
    for channel in ("menu", "film"):
        folder = bed.scratch / channel
        folder.mkdir()
        for number in (1, 2):
            (folder / "index.html").write_text(f"{channel} {number}\n")
            done = centre.ctl("content", "publish", channel, folder, "--keys", bed.keys)
            expect(done.returncode == 0, done.stderr)
    return centre


def roll_back_to_another_channel(bed):
    """The server answers with releases of another channel, and with another manifest in its list."""
    centre = publisher(bed)
    views = {one["channel"]: one for one in json.loads(centre.admin("GET", "/v1/content")[2])["channels"]}
    manifest = views["film"]["releases"][-1]["manifest"]
    for swapped in ("/v1/content/latest/menu", "/v1/content/releases/menu"):
        liar = Liar(centre)
        liar.swaps(swapped, swapped.replace("menu", "film") + ("/1.2" if "releases" in swapped else ""))
        done = meshctl("content", "rollback", "menu", "1.2", "--keys", bed.keys, "--url", liar.url)
        expect(done.returncode == 1 and "'film'" in done.stderr, done.stdout + done.stderr)
        done = meshctl("content", "publish", "menu", bed.scratch / "menu", "--keys", bed.keys, "--url", liar.url)
        expect("releases" in swapped or done.returncode == 1, done.stdout + done.stderr)
        liar.close()
    liar = Liar(centre)

    def swap(view):
        for channel in view.get("channels", []):
            for release in channel["releases"]:
                release["manifest"] = manifest
    liar.edits("/v1/content", swap)
    done = meshctl("content", "rollback", "menu", "1.2", "--keys", bed.keys, "--url", liar.url)
    expect(done.returncode == 0, done.stderr)
    expect(until(lambda: centre.http("GET", "/content/menu/index.html")[2] == b"menu 1\n"), "other files are served")
    # Which release was before the latest is the server's word: it is asked for.
    done = meshctl("content", "rollback", "menu", "--keys", bed.keys, "--url", liar.url)
    expect(done.returncode == 1 and "not confirmed" in done.stderr, done.stdout + done.stderr)


def publish_what_is_not_there(bed):
    """The server asks a publisher for chunks beyond the release, and below its first."""
    centre = publisher(bed)
    (bed.scratch / "menu/index.html").write_text("menu 3\n")
    for missing in ([[0, 1 << 40]], [[-5, 2]], [[1]], [[3, 1]]):
        liar = Liar(centre)
        liar.edits("/v1/content/begin", lambda view: view.update(missing=missing))
        done = meshctl("content", "publish", "menu", bed.scratch / "menu", "--keys", bed.keys, "--url", liar.url)
        expect(done.returncode == 1 and "chunks that the release has not" in done.stderr, done.stdout + done.stderr)
        liar.close()


def hide_the_latest_release(bed):
    """The server hides releases, so that a publisher signs one number twice."""
    centre = publisher(bed)
    liar = Liar(centre)
    liar.swaps("/v1/content/latest/menu", "/v1/content/releases/menu/1.2")
    (bed.scratch / "menu/index.html").write_text("menu 3\n")
    done = meshctl("content", "publish", "menu", bed.scratch / "menu", "--keys", bed.keys, "--url", liar.url)
    expect(done.returncode == 0 and done.stdout.split()[-1] == "1.6", done.stdout + done.stderr)


CASES = [
    revoke_the_centre, revoke_by_a_plan_of_another, revoke_without_cuts, revoke_by_a_changed_certificate,
    replace_with_the_centres_rights, roll_back_to_another_channel, publish_what_is_not_there, hide_the_latest_release,
]
