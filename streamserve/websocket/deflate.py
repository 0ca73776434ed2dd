"""permessage-deflate (RFC 7692): messages are compressed, each by itself.

Without context takeover a connection keeps no window between messages, so ten thousand of them cost no memory, and one
compressed frame serves all who agreed. What is sent needs a window of 4 KiB, which is why a client may ask for one as
small as that. What is received is inflated where it is handed over, and only as far as a message may be
long: a bomb costs that much, and those that wait cost what was sent.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from streamserve.core import lib

__all__ = ["BadMessage", "Deflate", "Packed", "agreement"]

WINDOW_BITS = 12
"""Of what is sent: 4 KiB, enough for messages."""

_RAW_INFLATE = -15  # whatever window the client uses, without zlib's header
_MEMORY_LEVEL = 5  # 16 KiB for a compressor
_TAIL = b"\x00\x00\xff\xff"  # the end of a flush, left out on the wire (section 7.2.1)
_END = b"\x03\x00"  # an empty last block: it is understood only where a block may begin
_COMPRESSED: int = lib.SS_WS_COMPRESSED

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"({_TOKEN})"))?')
_OFFER = re.compile(rf"[ \t]*({_TOKEN})((?:{_PARAMETER.pattern})*)[ \t]*(?:,|$)")
_BITS = re.compile(r"[89]|1[0-5]")


class BadMessage(Exception):
    """What a client sent cannot be a message.

    Args:
        code: what it is told (RFC 6455 section 7.4.1).
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Packed:
    """A compressed message that waits to be handed over.

    Args:
        data: its payload.
        text: it is text, not binary.
    """

    __slots__ = ("data", "text")

    def __init__(self, data: bytes, text: bool) -> None:
        self.data = data
        self.text = text

    def __len__(self) -> int:
        return len(self.data)


class Deflate:
    """How the connections of a server that agreed to it compress.

    Args:
        threshold: bytes; a shorter message is sent as it is.
        most: bytes; a message that is longer when it is inflated is refused.
    """

    __slots__ = ("_most", "_threshold")

    def __init__(self, threshold: int, most: int) -> None:
        self._threshold = threshold
        self._most = most

    def pack(self, data: bytes) -> tuple[bytes, int]:
        """The payload of a message, and its flags for the core: compressed where that makes it shorter."""
        if len(data) < self._threshold:
            return data, 0
        packer = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=_MEMORY_LEVEL)
        packed = (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]
        return (packed, _COMPRESSED) if len(packed) < len(data) else (data, 0)

    def unpack(self, packed: Packed) -> str | bytes:
        """The message that was compressed.

        Raises:
            BadMessage: it is too long (1009), was not made by deflate, or is no UTF-8 (1007).
        """
        message = inflated(packed.data, self._most)
        try:
            return message.decode() if packed.text else message
        except UnicodeDecodeError:
            raise BadMessage(lib.SS_WS_BAD_DATA) from None


def inflated(data: bytes, most: int) -> bytes:
    """Inflates a payload (section 7.2.2).

    Raises:
        BadMessage: more than `most` bytes would come out (1009), or it was not made by deflate (1007).
    """
    inflater = zlib.decompressobj(wbits=_RAW_INFLATE)
    try:
        message = inflater.decompress(data + _TAIL + _END, most + 1)
    except zlib.error:
        raise BadMessage(lib.SS_WS_BAD_DATA) from None
    if len(message) > most:
        raise BadMessage(lib.SS_WS_TOO_BIG)
    # A sender may also end by a last block and a byte of zeros (section 7.2.3.4).
    if not inflater.eof or inflater.unused_data not in (b"", b"\x00" + _TAIL + _END):
        raise BadMessage(lib.SS_WS_BAD_DATA)
    return message


def agreement(offered: str) -> str | None:
    """What to answer to a Sec-WebSocket-Extensions field: the first offer that can be kept, None: there is none.

    Args:
        offered: the field, several joined by commas. Where it breaks the grammar, nothing of it counts.
    """
    offers = list(_offers(offered))
    return next((answer for answer in map(_accepted, offers) if answer is not None), None) if all(offers) else None


def _offers(offered: str) -> Iterator[tuple[str, str] | None]:
    """(name, parameters) of each; None: from here on it is no list of offers."""
    position = 0
    while position < len(offered):
        match = _OFFER.match(offered, position)
        if match is None:
            yield None
            return
        yield match[1], match[2]
        position = match.end()


def _accepted(offer: tuple[str, str] | None) -> str | None:
    """The answer to one offer; None: it is another extension, or asks for what is not there (section 7.1)."""
    if offer is None or offer[0].lower() != "permessage-deflate":
        return None
    found = _PARAMETER.findall(offer[1])
    parameters = {name.lower(): bare or quoted or None for name, bare, quoted in found}
    if len(parameters) != len(found):
        return None
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            kept = value is None
        elif name == "server_max_window_bits":
            kept = value is not None and _BITS.fullmatch(value) is not None and int(value) >= WINDOW_BITS
        else:
            kept = name == "client_max_window_bits" and (value is None or _BITS.fullmatch(value) is not None)
        if not kept:
            return None
    answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    return answer + f"; server_max_window_bits={WINDOW_BITS}" * ("server_max_window_bits" in parameters)
