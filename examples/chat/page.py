"""The page: a plain WSGI application that hands out its few files.

socket.io-client comes from its CDN, or from here when `make client` has fetched it; the browser checks either by the
same hash.

Environment:
    CHAT_CLIENT: The file of socket.io-client. Default: build/client/socket.io.min.js of this repository.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLIENT = Path(os.environ.get("CHAT_CLIENT") or HERE.parents[1] / "build/client/socket.io.min.js")
CDN = "https://cdn.socket.io/4.8.3/"
SCRIPT = "text/javascript; charset=utf-8"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": SCRIPT}
COMMON = [
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self' https://cdn.socket.io; style-src 'self'; img-src 'self' data: blob:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]


def found_files() -> dict[str, tuple[str, bytes]]:
    """Path → content type and bytes."""
    files = {f"/{path.name}": (TYPES[path.suffix], path.read_bytes()) for path in (HERE / "static").iterdir()}
    kind, index = files.pop("/index.html")
    if CLIENT.exists():
        files["/socket.io.min.js"] = (SCRIPT, CLIENT.read_bytes())
        index = index.replace(CDN.encode(), b"")
    return {"/": (kind, index), **files}


FILES = found_files()


def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The WSGI application."""
    status, (kind, body) = "200 OK", FILES.get(environ["PATH_INFO"], ("", b""))
    if not kind:
        status, kind, body = "404 Not Found", "text/plain; charset=utf-8", b"Nothing is here; the chat is at /\n"
    elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain; charset=utf-8", b"This is only to be read.\n"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *COMMON])
    return [body] if environ["REQUEST_METHOD"] != "HEAD" else []
