# SPDX-License-Identifier: Apache-2.0
"""What a server, or whoever wrote a record, has an operator's terminal and memory do."""
import os
import pty
import subprocess

from bed import BIN, expect, until
from liar import Liar

# Clears the screen, sets the title, reverses what follows, hides a character.
POISON = "\x1b[2J\x1b]0;owned\x07\u202etxt\u200b\x9b31m"


def at_terminal(*words):
    """Runs meshctl with a terminal as its output: the code, and all that reached it."""
    master, slave = pty.openpty()
    process = subprocess.Popen([BIN / "meshctl", *map(str, words)], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(master)
    return process.wait(20), seen.decode(errors="replace")


def is_clean(text):
    return not any(ord(c) < 32 and c not in "\r\n" or 0x7f <= ord(c) < 0xa0 or c in "\u202e\u200b" for c in text)


def write_to_the_terminal(bed):
    """Values, reasons and names carry control sequences, and characters that reorder or hide text."""
    centre = bed.server("centre", "hq", "--central")
    till = bed.server("till", "s1", seed=centre.ports[0])
    done = centre.ctl("namespace", "create", "--keys", centre.bed.keys, "notes", "--audience", "all", "--writers", "any", "--merge", "register")
    expect(done.returncode == 0, done.stderr)
    put = centre.http("PUT", "/v1/records/notes/a", POISON.encode(), {"Content-Type": "text/plain"})
    expect(put[0] == 201, put)
    code, seen = at_terminal("get", "notes", "a", "--data", centre.data)
    expect(code == 0 and "owned" in seen and is_clean(seen), repr(seen))
    # A program gets the bytes as they are.
    expect(centre.ctl("get", "notes", "a").stdout == POISON, "a pipe gets other bytes")
    expect(until(lambda: centre.state("till") == ["alive"]), "the till is not there")
    done = centre.ctl("revoke", "s1/till", "--keys", bed.keys, "--confirm", "till", "--erase", "--reason", POISON)
    expect(done.returncode == 0, done.stderr)
    liar = Liar(centre)

    def rename(view):
        for peer in view["peers"]:
            peer["node"] = peer["site"] = POISON
        view["trouble"] = [POISON]
    liar.edits("/v1/peers", rename)
    for words in (("why", "till", "--data", centre.data), ("trust", "list", "--data", centre.data),
                  ("peers", "--url", liar.url), ("peers", "--url", liar.url, "-o", "json"),
                  ("peers", "--url", liar.url, "-o", "name")):
        code, seen = at_terminal(*words)
        expect("owned" in seen and is_clean(seen), f"{words}: {seen!r}")
    till.stop()


def say_impossible_numbers(bed):
    """A server answers with numbers that no integer holds."""
    centre = bed.server("centre", "hq", "--central")
    folder = bed.scratch / "menu"
    folder.mkdir()
    (folder / "index.html").write_text("menu\n")
    done = centre.ctl("content", "publish", "menu", folder, "--keys", bed.keys)
    expect(done.returncode == 0, done.stderr)
    liar = Liar(centre)

    def grow(value):
        """Makes every number as large as its kind allows; ages get what no integer holds."""
        if isinstance(value, dict):
            return {name: grow(one) if not isinstance(one, (int, float)) or isinstance(one, bool)
                    else 1e300 if isinstance(one, float) or name.endswith(("Seconds", "Second"))
                    else (1 << 64) - 1 if name in ("frontier", "bytesHere", "bytesAll", "createdMs") else one
                    for name, one in value.items()}
        return [grow(one) for one in value] if isinstance(value, list) else value
    liar.edits("/v1", lambda view: view.update(grow(view)))
    for words in (("peers",), ("peers", "-o", "wide"), ("status",), ("digest",), ("content", "status"),
                  ("content", "list"), ("discovery",), ("trust", "list")):
        code, seen = at_terminal(*words, "--url", liar.url)
        expect(0 <= code < 128, f"{words} ended with {code}: {seen[-300:]}")


CASES = [write_to_the_terminal, say_impossible_numbers]
