"""Packets as they stand in the bodies of long polling (Engine.IO protocol 4, "HTTP long-polling").

python-engineio refuses a body of more than 16 packets after it was read, and loses them all; here the bytes of
a body are what is limited.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from engineio.packet import MESSAGE, Packet

SEPARATOR = "\x1e"


class MalformedPayload(ValueError):
    """The body of a POST is not made of packets."""


def decode(body: bytes, jsonp: bool, json: bool = True) -> Iterator[Any]:
    """The packets of a POST's body, one by one: it may have as many as bytes.

    Args:
        jsonp: it is a form, whose field `d` has them.
        json: the text of a message that is JSON is read, as python-engineio does.

    Raises:
        MalformedPayload: it is no UTF-8, is empty, or a packet is none.
    """
    try:
        text = body.decode()
        if jsonp:
            text = parse_qs(text, keep_blank_values=True, errors="strict")["d"][0].replace("\\\\n", "\\n")
    except (UnicodeDecodeError, KeyError) as error:
        raise MalformedPayload(f"the body is no payload: {error}") from None
    begin = 0
    while (end := text.find(SEPARATOR, begin)) >= 0:
        yield _packet(text[begin:end], json)
        begin = end + 1
    yield _packet(text[begin:], json)


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
