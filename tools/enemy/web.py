# SPDX-License-Identifier: Apache-2.0
"""Pages in a browser of the host, and clients of the HTTP API that take all that they can get."""
import json
import os
import socket
import threading
import time

from bed import expect, until

TEXT = {"Content-Type": "text/plain"}


def namespace(server, name="notes"):
    done = server.ctl("namespace", "create", "--keys", server.bed.keys, name, "--audience", "all", "--writers", "any", "--merge", "register")
    expect(done.returncode == 0, done.stderr)


def token(bed, server, name, grant="notes:w"):
    path = bed.scratch / f"{name}.token"
    done = server.ctl("token", "create", "--name", name, "--allow", grant, "--out", path)
    expect(done.returncode == 0, done.stderr)
    return {"Authorization": f"Bearer {path.read_text().strip()}"}


def cpu_seconds(server):
    fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(server):
    for line in open(f"/proc/{server.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def show_a_stored_page(bed):
    """A record that is a page is opened in the host's browser, and pages of other origins ask this server."""
    centre = bed.server("centre", "hq", "--central")
    namespace(centre)
    path = "/v1/records/notes/page"
    centre.http("PUT", path, b"<script>fetch('/v1/records/notes/page')</script>", {"Content-Type": "text/html"})
    status, headers, _ = centre.http("GET", path)
    fields = {name.lower(): value for name, value in headers.items()}
    expect(status == 200 and "sandbox" in fields.get("content-security-policy", ""), fields)
    expect(fields.get("content-disposition") == "attachment", fields)
    expect(fields.get("x-content-type-options") == "nosniff", fields)
    expect(fields.get("cross-origin-resource-policy") == "same-origin", fields)
    foreign = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
               {"Sec-Fetch-Site": "same-site"}, {"Host": "evil.example"}]
    for method, body in (("GET", None), ("PUT", b"x"), ("DELETE", None)):
        for page in foreign:
            status, headers, _ = centre.http(method, path, body, TEXT | page)
            expect(status == 403 and "Access-Control-Allow-Origin" not in headers, f"{method} {page}: {status}")
    asked = {"Access-Control-Request-Method": "PUT", "Origin": "http://evil.example"}
    expect(centre.http("OPTIONS", path, None, asked)[0] == 403, "a foreign page's preflight")
    # What a proxy passes on comes from loopback, and not from this host.
    for proxy in ({"X-Forwarded-For": "192.0.2.7"}, {"Forwarded": "for=192.0.2.7"}, {"Via": "1.1 proxy"}):
        expect(centre.http("GET", path, headers=proxy)[0] == 401, proxy)


def use_what_an_operator_allowed(bed):
    """A server whose operator allows one origin, wants tokens on loopback and gives content a port of its own."""
    page, port = "http://menu.example:8080", bed.port + 1000
    options = ["--http-origins", page, "--http-loopback", "token", "--content-listen", f"127.0.0.1:{port}"]
    centre = bed.server("centre", "hq", "--central", options=options)
    namespace(centre)
    app, path = token(bed, centre, "app"), "/v1/records/notes/a"
    expect(centre.http("GET", path)[0] == 401, "a program of the host without a token")
    asked = {"Access-Control-Request-Method": "PUT", "Origin": page, "Access-Control-Request-Headers": "authorization"}
    status, headers, _ = centre.http("OPTIONS", path, None, asked)
    expect(status == 204 and headers.get("Access-Control-Allow-Origin") == page, f"{status} {headers}")
    status, headers, _ = centre.http("PUT", path, b"1", TEXT | app | {"Origin": page, "Sec-Fetch-Site": "cross-site"})
    expect(status == 201 and headers.get("Access-Control-Allow-Origin") == page, f"{status} {headers}")
    expect(centre.http("PUT", path, b"1", TEXT | app | {"Origin": page + "0"})[0] == 403, "an origin like the allowed one")
    content = type(centre)(bed, "centre", "hq", (0, port))
    expect(until(lambda: content.http("GET", "/healthz")[0] == 200), "content's own port")
    expect(content.http("GET", path, headers=app)[0] == 404, "the API on content's port")
    expect(centre.http("GET", "/content/menu/", headers=app)[0] == 404, "content on the API's port")


def connect(server):
    line = socket.create_connection(("127.0.0.1", server.ports[1]), timeout=10)
    line.settimeout(10)
    return line


def ask(line, method, path, headers=None, body=b""):
    """One request by hand; the answer's status line and headers."""
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    line.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = line.recv(65_536)
        if not part:
            break
        answer += part
    return answer.decode("latin-1")


def own_address():
    """An address of this host that is not loopback; nothing is sent."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    except OSError:
        return None
    finally:
        probe.close()


def answer_of(address, port):
    """How /healthz is answered at an address; nothing where the connection comes to nothing."""
    try:
        with socket.create_connection((address, port), timeout=10) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return line.recv(65_536).decode("latin-1")
    except OSError:
        return ""


def take_all_descriptors(bed):
    """One host opens more connections than the server has descriptors; another host asks, a neighbour links."""
    port = bed.port + 900
    centre = bed.server("centre", "hq", "--central", under=["prlimit", "--nofile=640:640"],
                        options=["--http-listen", f"0.0.0.0:{port}", "--http-plaintext"], port=port)
    lines, refused = [], 0
    for _ in range(900):
        try:
            lines.append(connect(centre))
        except OSError:
            break
    end = time.monotonic() + 5
    while not refused and time.monotonic() < end:
        answer = answer_of("127.0.0.1", port)
        refused += " 503 " in answer and "Retry-After" in answer
    expect(refused, "nobody was turned away")
    expect(centre.process.poll() is None, "the server ended")
    other = own_address()
    if other:
        expect(until(lambda: " 200 " in answer_of(other, port), 5), "another host is not served")
    shown = centre.ctl("peers")
    expect("centre" in shown.stdout, f"the admin socket: {shown.returncode} {shown.stdout} {shown.stderr}")
    till = bed.server("till", "s1", seed=centre.ports[0])
    expect(until(lambda: centre.state("till") == ["alive"]), "no neighbour can link")
    # Connections that bring no request are closed.
    begin = cpu_seconds(centre)
    expect(until(lambda: " 200 " in answer_of("127.0.0.1", port), 30), "never served again")
    expect(cpu_seconds(centre) - begin < 10, "the server was busy with what did nothing")
    expect(till.process.poll() is None and centre.process.poll() is None, "a server ended")
    for line in lines:
        line.close()


def send_a_batch_of_100_000(bed):
    """A batch of 100,000 writes costs no more than reading it."""
    centre = bed.server("centre", "hq", "--central")
    namespace(centre)
    one = json.dumps({"op": "put", "key": "k", "text": "x"})
    body = '{"namespace": "notes", "writes": [' + ", ".join([one] * 80_000) + "]}"
    begin = cpu_seconds(centre)
    status, _, answer = centre.http("POST", "/v1/batch", body, {"Content-Type": "application/json"})
    spent = cpu_seconds(centre) - begin
    expect(status == 400 and b"1000" in answer, f"{status} {answer[:200]}")
    expect(spent < 3, f"{spent:.1f} s of CPU")


def withhold_bodies(bed):
    """A hundred requests bring most of a large body and never its end."""
    centre = bed.server("centre", "hq", "--central")
    namespace(centre)
    app = token(bed, centre, "app")
    before, lines = rss_mib(centre), []
    head = "POST /v1/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 3900000\r\n\r\n"
    for _ in range(100):
        line = connect(centre)
        line.setblocking(False)
        lines.append(line)
    answers = b""
    left = {line: head.encode() + b" " * 3_800_000 for line in lines}
    end, most = time.monotonic() + 8, before
    while left and time.monotonic() < end:
        for line in list(left):
            try:
                left[line] = left[line][line.send(left[line][:262_144]):]
            except BlockingIOError:
                continue
            except OSError:
                left[line] = b""
            if not left[line]:
                del left[line]
        most = max(most, rss_mib(centre))
        status = centre.http("PUT", "/v1/records/notes/a", b"1", TEXT | app)[0]
        expect(status in (200, 201), f"an app with a token is answered {status}")
    for line in lines:
        try:
            answers += line.recv(65_536)
        except OSError:
            pass
    expect(b" 503 " in answers and b"Retry-After" in answers, f"nobody was turned away: {answers[:200]}")
    expect(len(lines) - answers.count(b"HTTP/1.1 503") >= 5, "no body was taken at all")
    expect(most - before < 192, f"{most - before:.0f} MiB more for bodies that never ended")
    expect(centre.http("PUT", "/v1/records/notes/a", b"1", TEXT | app)[0] in (200, 201), "an app with a token")
    for line in lines:
        line.close()


def open_300_feeds(bed):
    """One app opens 300 feeds; another app opens one."""
    centre = bed.server("centre", "hq", "--central")
    namespace(centre)
    greedy, other = token(bed, centre, "greedy"), token(bed, centre, "other")
    lines, answers = [], []
    for _ in range(300):
        lines.append(connect(centre))
        answers.append(ask(lines[-1], "GET", "/v1/changes?since=now", greedy)[9:12])
    expect(answers.count("200") >= 100 and "503" in answers, {code: answers.count(code) for code in answers})
    expect(" 200 " in ask(connect(centre), "GET", "/v1/changes?since=now", other), "no feed for another app")
    told = centre.admin("GET", "/metrics")[2].decode()
    expect(f'http_feed_over_limit"}} {answers.count("503")}' in told, "what was turned away is not counted")


def keep_all_threads_busy(bed):
    """Sixteen clients keep a server busy with batches and lists; its neighbours go on taking it for alive."""
    centre = bed.server("centre", "hq", "--central")
    namespace(centre)
    till = bed.server("till", "s1", seed=centre.ports[0])
    expect(until(lambda: till.state("centre") == ["alive"] and centre.state("till") == ["alive"]), "no link")
    writes = [{"op": "put", "key": f"k{index}", "text": "x" * 900} for index in range(1000)]
    batch, stop, done = json.dumps({"namespace": "notes", "writes": writes}), threading.Event(), []

    def work(number):
        while not stop.is_set():
            if number % 2:
                done.append(centre.http("POST", "/v1/batch", batch, {"Content-Type": "application/json"})[0])
            else:
                done.append(centre.http("GET", "/v1/records/notes?limit=1000")[0])

    clients = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(16)]
    begin = cpu_seconds(centre)
    for client in clients:
        client.start()
    seen, end = set(), time.monotonic() + float(os.environ.get("ENEMY_BUSY_SECONDS", "15"))
    while time.monotonic() < end:
        seen.update(till.state("centre"))
        time.sleep(0.2)
    stop.set()
    for client in clients:
        client.join(30)
    expect(done.count(200) > 0 and cpu_seconds(centre) - begin > 5, f"the server was not busy: {done[:20]}")
    expect(seen == {"alive"}, f"its neighbour took it for {sorted(seen)}")
    told = till.admin("GET", "/metrics")[2].decode() + centre.admin("GET", "/metrics")[2].decode()
    lines = [line for line in told.splitlines() if "refuted" in line and not line.endswith(" 0")]
    expect(not lines, f"it was suspected: {lines}")


CASES = [show_a_stored_page, use_what_an_operator_allowed, take_all_descriptors, send_a_batch_of_100_000, withhold_bodies,
         open_300_feeds, keep_all_threads_busy]
