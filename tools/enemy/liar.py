# SPDX-License-Identifier: Apache-2.0
"""A server that an operator asks and that lies: it passes requests on to a true one and changes answers."""
import http.server
import json
import threading


class Liar:
    """Speaks HTTP on a free port of loopback; `lies` are functions (path, status, body) -> (status, body) or None."""

    def __init__(self, server):
        self.server, self.lies, self.asked = server, [], []
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                liar.asked.append((self.command, self.path, body))
                kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Accept")}
                status, headers, text = liar.server.admin(self.command, self.path, body, kept)
                for lie in liar.lies:
                    status, text = lie(self.path, status, text) or (status, text)
                self.send_response(status)
                self.send_header("Content-Type", headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def swaps(self, beginning, path):
        """What is asked under a path that begins so is answered with what stands under another."""
        self.lies.append(
            lambda asked, *_: self.server.admin("GET", path)[0::2] if asked.startswith(beginning) else None)

    def edits(self, beginning, change):
        """The JSON that is asked under a path that begins so is changed in place."""
        def lie(asked, status, body):
            if not asked.startswith(beginning) or status != 200:
                return None
            try:
                value = json.loads(body)
            except ValueError:
                return None
            change(value)
            return status, json.dumps(value).encode()
        self.lies.append(lie)

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()
