"""What a slow client is slow at: a body that is read to its end, a page and a stream that it does not take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.apps.hello import BODY

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PAGE = b"x" * 8192
STREAM = 1000  # pages


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """/page is 8 KiB, /stream 8 MB of them; all else is what bench.apps.hello gives, once the body is read."""
    if environ["PATH_INFO"] == "/page":
        start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))])
        return [PAGE]
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/html")])
        return (PAGE for _ in range(STREAM))
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [BODY]
