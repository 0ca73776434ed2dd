"""A Flask application that pushes to the browser and takes uploads from it.

The page counts upward by server-sent events: each open page holds one greenlet, which sleeps between two numbers and
costs nothing while it does. The form takes a file of any size: Werkzeug keeps the first 500 KB in memory and the rest
in a temporary file, from which the digest is computed in pieces.
"""

import hashlib
from collections.abc import Iterator
from itertools import count
from typing import IO, NamedTuple

from flask import Flask, Response, render_template, request
from flask.typing import ResponseReturnValue

import streamserve
from streamserve.errors import RemoteProtocolError

INTERVAL = 0.5  # seconds between two numbers
PIECE = 1 << 16  # bytes of the upload that are hashed at once

app = Flask(__name__)


class Upload(NamedTuple):
    """What arrived."""

    name: str
    size: int
    sha256: str


@app.get("/")
def index() -> ResponseReturnValue:
    return render_template("index.html")


@app.get("/events")
def events() -> ResponseReturnValue:
    """Counts upward without end, from the number after the one that a reconnecting browser saw last."""
    seen = request.headers.get("Last-Event-ID", "")
    first = int(seen) + 1 if seen.isascii() and seen.isdigit() and len(seen) < 16 else 1
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx passes each event on at once
    return Response(numbers(first), mimetype="text/event-stream", headers=headers)


def numbers(first: int) -> Iterator[str]:
    yield "retry: 1000\n\n"
    for number in count(first):
        yield f"id: {number}\ndata: {number}\n\n"
        streamserve.sleep(INTERVAL)


@app.post("/upload")
def upload() -> ResponseReturnValue:
    file = request.files.get("file")
    if file is None or not file.filename:
        return render_template("index.html", problem="Choose a file first."), 400
    size, digest = examine(file.stream)
    return render_template("index.html", upload=Upload(file.filename, size, digest))


def examine(stream: IO[bytes]) -> tuple[int, str]:
    """The number of bytes in a stream and their SHA-256, of which no more than a piece is in memory."""
    size = 0
    digest = hashlib.sha256()
    while piece := stream.read(PIECE):
        size += len(piece)
        digest.update(piece)
        streamserve.sleep(0)  # hashing is pure work: let the other greenlets run in between
    return size, digest.hexdigest()


@app.errorhandler(RemoteProtocolError)
def refuse_broken_upload(error: RemoteProtocolError) -> ResponseReturnValue:
    """Answers a client that broke off or broke HTTP: its fault, so no traceback of ours."""
    return f"{error}\n", error.status, {"Content-Type": "text/plain"}


@app.after_request
def forbid_foreign_resources(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
