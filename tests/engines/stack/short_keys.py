"""A store whose credentials end after seconds: MinIO, which grants no less than 15 minutes, behind a proxy."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
# As AWS words it. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


class ShortKeys:
    """The state of the proxy: the end of each credential that MinIO made, and who came with which."""

    def __init__(self, endpoint: str, life_seconds: float) -> None:
        self.upstream = urlsplit(endpoint).netloc
        self.life_seconds = life_seconds
        self.endpoint = ""
        # Seconds since the epoch, by access key.
        self.ends: dict[str, float] = {}
        # The vended keys of the requests that were let through, in their order, and of those that were refused.
        self.used: list[str] = []
        self.refused: list[str] = []

    def distinct(self) -> int:
        """Returns how many vended credentials were used until now."""
        return len(set(self.used))

    def wait_for_end(self, key: str) -> None:
        time.sleep(max(0, self.ends[key] + 1 - time.time()))

    def admits(self, authorization: str) -> bool:
        """Checks that the credential of a request goes on. Keys of users have no end."""
        found = re.search(r"Credential=([^/]+)/", authorization)
        key = found[1] if found else ""
        if key not in self.ends:
            return True
        ended = time.time() > self.ends[key]
        (self.refused if ended else self.used).append(key)
        return not ended

    def shortened(self, answer: bytes) -> bytes:
        """Returns an answer to `AssumeRole` with an earlier end of the credentials."""
        key = re.search(rb"<AccessKeyId>([^<]+)<", answer)
        if key is None:
            return answer
        # The end has whole seconds.
        end = int(time.time() + self.life_seconds)
        self.ends[key[1].decode()] = end
        text = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return re.sub(rb"<Expiration>[^<]+<", f"<Expiration>{text}<".encode(), answer)


def handler(keys: ShortKeys) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def forward(self) -> None:
            body = self.body()
            if not keys.admits(self.headers.get("authorization", "")):
                self.answer(400, [("content-type", "application/xml")], EXPIRED)
                return
            upstream = http.client.HTTPConnection(keys.upstream, timeout=60)
            # The host stays as it was, because it is signed.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP | {"expect"}:
                    upstream.putheader(name, value)
            upstream.putheader("content-length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content, headers = answer.read(), answer.getheaders()
            upstream.close()
            if b"Action=AssumeRole" in body:
                content = keys.shortened(content)
            self.answer(answer.status, headers, content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                # The answer to HEAD has the length of an object, and no body.
                if name.lower() not in HOP or (self.command == "HEAD" and name.lower() == "content-length"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

    return Handler


@contextmanager
def short_keys(endpoint: str, life_seconds: float) -> Iterator[ShortKeys]:
    """Starts the proxy. Credentials that are made through it are refused after their life, as AWS refuses them."""
    keys = ShortKeys(endpoint, life_seconds)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler(keys))
    proxy.daemon_threads = True
    keys.endpoint = f"http://127.0.0.1:{proxy.server_port}"
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield keys
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
