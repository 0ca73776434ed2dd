"""What is answered to requests that are not as the protocol has them: as Node's server does, to the letter."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from streamserve.engine.payloads import encode

UNKNOWN_TRANSPORT, UNKNOWN_SESSION, BAD_METHOD, BAD_REQUEST, FORBIDDEN, BAD_VERSION = range(6)
_MESSAGES = (
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
)

Reply = dict[str, Any]
"""status, headers, response: as python-engineio passes answers around."""


class Refused(Exception):
    """A request is not as the protocol has it.

    Args:
        code: one of those above.
        detail: for the log.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(detail or _MESSAGES[code])
        self.code = code

    def reply(self) -> Reply:
        """The answer: 403 for Forbidden, else 400, with code and message as JSON."""
        status = "403 Forbidden" if self.code == FORBIDDEN else "400 Bad Request"
        body = json.dumps({"code": self.code, "message": _MESSAGES[self.code]}, separators=(",", ":"))
        return {"status": status, "headers": [("Content-Type", "application/json")], "response": body.encode()}


def polled(frames: list[str | bytes], jsonp: int | None, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """The answer to a poll: what waited for the client."""
    kind = "text/plain" if jsonp is None else "text/javascript"
    return {
        "status": "200 OK",
        "headers": [("Content-Type", f"{kind}; charset=UTF-8"), *headers],
        "response": encode(frames, jsonp),
    }


def received(jsonp: bool) -> Reply:
    """The answer to a POST that was taken."""
    kind = "text/javascript; charset=UTF-8" if jsonp else "text/html"
    return {"status": "200 OK", "headers": [("Content-Type", kind)], "response": b"ok"}


def too_large(limit: int) -> Reply:
    """The answer to a POST over the limit."""
    text = f"a payload may have {limit} bytes (max_http_buffer_size)\n"
    return {
        "status": "413 Content Too Large",
        "headers": [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")],
        "response": text.encode(),
    }
