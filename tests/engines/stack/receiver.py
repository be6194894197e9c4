"""An HTTP server that stores the requests posted to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Posted(NamedTuple):
    path: str
    headers: Message
    body: bytes


@dataclass
class Receiver:
    url: str
    #: Requests that were accepted.
    taken: list[Posted] = field(default_factory=list)
    #: Number of requests to refuse, and the refused requests.
    refuse: int = 0
    refused: int = 0

    def wait_for(self, enough: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.time() + seconds
        while not enough():
            assert time.time() < deadline, f"{len(self.taken)} requests were taken, and they are not enough"
            time.sleep(0.2)


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            refused = receiver.refuse > 0
            if refused:
                receiver.refuse, receiver.refused = receiver.refuse - 1, receiver.refused + 1
            else:
                receiver.taken.append(Posted(self.path, self.headers, body))
            self.send_response(503 if refused else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
