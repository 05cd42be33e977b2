"""A small host of files on this machine: gives them whole, cut short, slowly, or answers with a web page."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

# the words of Google Drive's page, as people quote them
TOO_MANY = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title><style>p{color:red}</style></head><body>"
    "<p class=error>Sorry, you can&#39;t view or download this file at this time.</p><p>Too many users have viewed or "
    "downloaded this file recently. Please try accessing the file again later.</p></body></html>"
)
NO_VIRUS_SCAN = (
    "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><p>This file is too "
    'large for Google to scan for viruses.</p><form id="download-form" action="/confirmed" method="get">'
    '<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">'
    '<input type="hidden" name="confirm" value="t"></form></body></html>'
)


@dataclass(frozen=True)
class Answer:
    """What a path gives.

    Attributes:
        content: The bytes.
        status: The code.
        stops_after: How many of them come before the line goes dead; None for all.
        pause_s: Between pieces of 1000 bytes.
    """

    content: bytes
    status: int = 200
    stops_after: int | None = None
    pause_s: float = 0.0


@dataclass
class Host:
    """What is served, by path with its query, and what was asked for."""

    address: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def give(self, path: str, content: bytes | str, **how: float | None) -> str:
        """Serve something; its address."""
        raw = content.encode() if isinstance(content, str) else content
        self.answers[path] = Answer(raw, **how)  # type: ignore[arg-type]
        return self.address + path


@pytest.fixture(name="host")
def host_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(self.path)
            answer = host.answers.get(self.path, Answer(b"<html><title>Not Found</title></html>", 404))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            sent = answer.content[: answer.stops_after]
            for at in range(0, len(sent), 1000):
                self.wfile.write(sent[at : at + 1000])
                time.sleep(answer.pause_s)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # who asked was killed
                super().handle()

        def log_message(self, *args: object) -> None: ...

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield host
    server.shutdown()
    server.server_close()


def path_of(address: str) -> str:
    """Of an address, what the host is asked for."""
    parts = urlsplit(address)
    return parts.path + (f"?{parts.query}" if parts.query else "")
