"""Packets as they stand in the bodies of long polling (Engine.IO protocol 4, "HTTP long-polling").

python-engineio refuses a body of more than 16 packets after it was read, and loses them all; here the bytes of
a body are what is limited.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from engineio.packet import MESSAGE, Packet

SEPARATOR = "\x1e"


MOST_SIFTED = 10_000
"""Packets of a body among which those are looked for that go first: it takes some milliseconds."""


class MalformedPayload(ValueError):
    """The body of a POST is not made of packets."""


class Payload:
    """The packets of a POST's body, one by one: it may have as many as bytes.

    Args:
        jsonp: it is a form, whose field `d` has them.
        json: the text of a message that is JSON is read, as python-engineio does.

    Raises:
        MalformedPayload: it is no UTF-8, is empty, or a packet is none: when that one's turn has come.
    """

    __slots__ = ("_at", "_json", "_text")

    def __init__(self, body: bytes, jsonp: bool, json: bool = True) -> None:
        try:
            text = body.decode()
            if jsonp:
                text = parse_qs(text, keep_blank_values=True, errors="strict")["d"][0].replace("\\\\n", "\\n")
        except (UnicodeDecodeError, KeyError) as error:
            raise MalformedPayload(f"the body is no payload: {error}") from None
        self._text, self._at, self._json = text, 0, json

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self:
            raise StopIteration
        begin, end = self._at, self._text.find(SEPARATOR, self._at)
        if end < 0:
            end = len(self._text)
        self._at = end + 1
        return _packet(self._text[begin:end], self._json)

    def __len__(self) -> int:
        """Characters that are left, and one; 0: none is."""
        return max(len(self._text) - self._at + 1, 0)

    def sift(self, goes_first: Callable[[str], bool]) -> None:
        """Takes out what goes first, among the packets that are left."""
        if self:
            parts = self._text[self._at :].split(SEPARATOR, MOST_SIFTED)
            kept = [part for part in parts[:MOST_SIFTED] if not goes_first(part)] + parts[MOST_SIFTED:]
            self._text, self._at = SEPARATOR.join(kept), 0 if kept else 1


def encode(frames: list[str | bytes], jsonp: int | None) -> bytes:
    """The body of the answer to a poll.

    Args:
        jsonp: the number of the function of the page that gets it, in a script; None: it is plain.
    """
    text = SEPARATOR.join(
        frame if isinstance(frame, str) else "b" + b64encode(frame).decode("ascii") for frame in frames
    )
    return text.encode() if jsonp is None else f"___eio[{jsonp}]({json.dumps(text)});".encode()


def _packet(text: str, json: bool) -> Any:
    if text[:1] not in tuple("0123456b"):
        raise MalformedPayload(f"{text[:20]!r} is no packet: it begins with none of the types 0 to 6, or b")
    if text[0] == "4" and not json:
        return Packet(MESSAGE, text[1:])
    try:
        return Packet(encoded_packet=text)
    except RecursionError:  # text that looks like JSON is text
        return Packet(MESSAGE, text[1:])
    except ValueError as error:
        raise MalformedPayload(f"{text[:20]!r} is no packet: {error}") from None


def decode_frame(message: str | bytes, json: bool = True) -> Any:
    """The packet of a WebSocket message.

    Args:
        json: as above.

    Raises:
        MalformedPayload: it is none.
    """
    if isinstance(message, bytes):
        return Packet(encoded_packet=message)
    if message[:1] == "b":
        raise MalformedPayload("binary data comes as binary messages of a WebSocket, not as base64")
    return _packet(message, json)
