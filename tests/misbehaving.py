"""A server that misbehaves in the ways that tests ask for."""

import http.server
import re
import threading
import time

import numpy as np

CONTENT = np.random.default_rng(0).bytes(300_000)
SIZE = len(CONTENT)
WRONG = CONTENT[:150_000] + bytes([CONTENT[150_000] ^ 1]) + CONTENT[150_001:]


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every path; a path's requests take one of its tricks each, and then the last."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tricks, self.requests, self.released = {}, [], threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def address(self, path, *tricks):
        """The address of a path that behaves so."""
        self.tricks[f"/{path}"] = list(tricks or [whole])
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def ranges(self):
        return [header for _, header in self.requests]

    def handle_error(self, request, client_address):
        pass  # clients hang up, by intent


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        tricks = self.server.tricks[self.path]
        self.server.requests.append((self.path, self.headers.get("Range")))
        (tricks.pop(0) if len(tricks) > 1 else tricks[0])(self)

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args):
        pass


def whole(handler, content=CONTENT):
    """A good server: honours ranges."""
    header = handler.headers.get("Range")
    if not header:
        return handler.answer(content)
    start = int(re.fullmatch(r"bytes=(\d+)-", header)[1])
    if start >= len(content):
        return handler.answer(b"", 416)
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return handler.answer(content[start:], 206, Content_Range=span)


def wrong_byte(handler):
    whole(handler, WRONG)


def too_long(handler):
    handler.answer(CONTENT + b"more")


def ignores_range(handler):
    handler.answer(CONTENT)


def cut(handler):
    """Closes the connection after two thirds."""
    handler.answer(CONTENT[:200_000], length=SIZE)


def stalls(handler):
    """Says nothing more after two thirds."""
    cut(handler)
    handler.server.released.wait(5)


def claims_more(handler):
    handler.answer(CONTENT, length=SIZE + 1000)


def claims_less(handler):
    """A client that believes the length gets less than there is."""
    handler.answer(CONTENT[:140_000])


def lies_about_range(handler):
    handler.answer(CONTENT[10:], 206, Content_Range=f"bytes 10-{SIZE - 1}/{SIZE}")


def slow(handler):
    handler.answer(b"", length=SIZE)
    for start in range(0, SIZE, 20_000):
        handler.wfile.write(CONTENT[start : start + 20_000])
        time.sleep(0.05)


def status(code):
    return lambda handler: handler.answer(b"", code)
