# SPDX-License-Identifier: Apache-2.0
"""Pages that want to use a server of the host, opened in Chromium, which nobody here wrote."""
import http.server
import os
import shutil
import signal
import subprocess
import threading
import urllib.parse

from bed import expect, until
from web import namespace, token

CHROMIUM = shutil.which("chromium")

# Tries all that a page can do with a server that it may not use; NAME tells reports of one page from another's.
SCRIPT = """
const api = 'API', say = (what, value) =>
  new Promise(done => { const i = new Image(); i.onload = i.onerror = done; i.src = 'HOME/report?who=NAME&' + new URLSearchParams({what, value}); });
const headers = AUTH;
async function attempt(what, run) { try { await say(what, await run()); } catch (e) { await say(what, 'refused'); } }
(async () => {
  await attempt('read', async () => (await fetch(api + '/v1/records/notes/secret', {headers})).text());
  await attempt('blind', async () => { await fetch(api + '/v1/records/notes/NAME-blind', {method: 'POST', mode: 'no-cors', body: 'x'}); return 'sent'; });
  await attempt('write', async () => (await fetch(api + '/v1/records/notes/NAME-write', {method: 'PUT', headers: {...headers, 'Content-Type': 'text/plain'}, body: 'x'})).status);
  await attempt('batch', async () => { await fetch(api + '/v1/batch', {method: 'POST', mode: 'no-cors',
    headers: {'Content-Type': 'text/plain'}, body: JSON.stringify({namespace: 'notes', writes: [{op: 'put', key: 'NAME-batch', text: 'x'}]})}); return 'sent'; });
  await attempt('image', () => new Promise(done => { const i = new Image(); i.onload = () => done('shown'); i.onerror = () => done('refused'); i.src = api + '/v1/records/notes/picture'; }));
  await attempt('script', () => new Promise(done => { const s = document.createElement('script'); s.onload = () => done(window.stolen || 'ran'); s.onerror = () => done('refused'); s.src = api + '/v1/records/notes/code'; document.head.append(s); }));
  await attempt('feed', () => new Promise(done => { const f = new EventSource(api + '/v1/changes?namespace=notes&since=0'); f.onmessage = f.onopen = () => { f.close(); done('told'); }; f.onerror = () => { f.close(); done('refused'); }; }));
  await attempt('frame', () => new Promise(done => { const f = document.createElement('iframe'); f.onload = () => { let t = 'refused'; try { t = f.contentDocument.body.innerText || 'refused'; } catch (e) {} done(t); }; setTimeout(() => done('refused'), 1500); f.src = api + '/v1/records/notes/page'; document.body.append(f); }));
  await say('end', 'end');
})();
"""
PICTURE = bytes.fromhex("47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b")


class Home:
    """A web server of another origin that serves pages and keeps what they report."""

    def __init__(self):
        self.pages, self.reports = {}, {}
        home = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                where = urllib.parse.urlsplit(self.path)
                if where.path == "/report":
                    said = dict(urllib.parse.parse_qsl(where.query))
                    home.reports.setdefault(said["who"], {})[said["what"]] = said.get("value", "")
                    body, kind = PICTURE, "image/gif"
                else:
                    body, kind = home.pages.get(where.path, "").encode(), "text/html"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def page(self, name, api, auth="{}"):
        script = SCRIPT.replace("API", api).replace("HOME", self.origin).replace("NAME", name).replace("AUTH", auth)
        return f"<!doctype html><html><head></head><body><script>{script}</script></body></html>"

    def visit(self, bed, name, url, seconds=15):
        """What a page reports once Chromium has opened it, until it says that it is through."""
        browser = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             f"--user-data-dir={bed.scratch}/chromium-{name}", "--remote-debugging-port=0", url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=bed.scratch, start_new_session=True)
        until(lambda: "end" in self.reports.get(name, {}), seconds)
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        return self.reports.get(name, {})


def open_pages_in_a_browser(bed):
    """A page of another origin, a stored page, a published page and an allowed one do in Chromium what they can."""
    if not CHROMIUM:
        return "left out: chromium is not installed"
    content_port, home = bed.port + 1000, Home()
    allowed = Home()
    centre = bed.server("centre", "hq", "--central",
                        options=["--content-listen", f"127.0.0.1:{content_port}", "--content-open", "true", "--http-origins", allowed.origin])
    namespace(centre)
    api = f"http://127.0.0.1:{centre.ports[1]}"
    for key, body, kind in (("secret", b"till-secret", "text/plain"), ("picture", PICTURE, "image/gif"),
                            ("code", b"window.stolen='till-secret'", "text/javascript"),
                            ("page", home.page("stored", api).encode(), "text/html")):
        expect(centre.http("PUT", f"/v1/records/notes/{key}", body, {"Content-Type": kind})[0] == 201, key)

    home.pages["/"] = home.page("foreign", api)
    folder = bed.scratch / "menu"
    folder.mkdir()
    (folder / "index.html").write_text(home.page("published", api))
    done = centre.ctl("content", "publish", "menu", folder, "--keys", bed.keys)
    expect(done.returncode == 0, done.stderr)
    content = f"http://127.0.0.1:{content_port}/content/menu/index.html"
    for name, url in (("foreign", home.origin + "/"), ("published", content), ("stored", f"{api}/v1/records/notes/page")):
        seen = home.visit(bed, name, url)
        if name == "stored":
            expect(not seen, f"a stored page ran: {seen}")
            continue
        expect(seen.get("end") == "end", f"{name}: the page did not run to its end: {seen}")
        expect(not any("secret" in text or text in ("shown", "told", "ran") for text in seen.values()), f"{name}: {seen}")
    for name in ("foreign", "published", "stored"):
        for way in ("blind", "write", "batch"):
            expect(centre.http("GET", f"/v1/records/notes/{name}-{way}")[0] == 404, f"{name} wrote by {way}")
    # The same page can do what an operator allowed its origin: the script is able to.
    bearer = token(bed, centre, "app", "notes:w")["Authorization"]
    allowed.pages["/"] = allowed.page("allowed", api, "{Authorization: '" + bearer + "'}")
    seen = allowed.visit(bed, "allowed", allowed.origin + "/")
    expect(seen.get("read") == "till-secret" and seen.get("write") == "201", f"allowed: {seen}")
    version = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True).stdout.split()
    return " ".join(version[:2])


CASES = [open_pages_in_a_browser]
