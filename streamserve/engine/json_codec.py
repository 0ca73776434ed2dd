"""JSON of events: one pass each way, with bytes taken out as attachments on the way.

python-socketio looks through every payload for bytes before it encodes it, and makes a decoder for each message. Here
the encoder meets them: it asks what to do with a value that is none of JSON's, and only then is it known that there are
attachments. Encoder and scanner are the standard library's, made once.

Another module's `dumps` may have a use of its own for that question (Flask's writes dates so), or ask none. So it is
called as python-socketio calls it, and the bytes are taken out before. Only orjson is asked as the standard library is.

An attachment's place is `{"_placeholder":true,"num":n}` (socket.io-protocol, "Packet encoding").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import partial
from json.decoder import JSONDecoder
from json.encoder import JSONEncoder
from typing import Any

from engineio import json as engineio_json

from streamserve.core import lib
from streamserve.engine.payloads import MalformedPayload

__all__ = ["Attached", "JsonCodec"]

_SPACES = " \t\n\r"
"""JSON's white space (RFC 8259 section 2): the scanner begins behind it."""

_SEPARATORS = (",", ":")
MOST_DIGITS: int = lib.SS_ENGINE_MOST_DIGITS
"""Digits of an integer that a client may send: Python's conversion of longer ones costs their square."""

_EVERY = 33
_RUN = re.compile("[0-9]{3}")
"""A run of over 100 digits covers at least three neighbours of every 33rd character."""


class Attached(Exception):
    """A value is bytes: its place is in an encoder that collects them."""


def _refuse(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        raise Attached
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _checked_int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits; at most {MOST_DIGITS} are taken")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is Python's, not JSON's")


def _finite(data: Any) -> Any:
    """With null in the place of numbers that JSON has not, as JavaScript writes them: its clients stop at NaN."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key) if isinstance(key, float) else key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data


class JsonCodec:
    """Encodes and decodes the data of packets.

    Args:
        module: what has `dumps` and `loads` instead of the standard library, orjson for instance; None: the standard's.

    Attributes:
        encode: data → its JSON; raises Attached where there are bytes in it.
        standard: it is the standard library's.
        scan: JSON, 0 → its value, the end of it. Raises ValueError, StopIteration or RecursionError, which `loads`
            turns into what is meant. Long integers are not looked for: for what the core has looked at.
    """

    def __init__(self, module: Any = None) -> None:
        self.encode: Callable[[Any], str] = _standard_encoder()
        decoder: Any = JSONDecoder(parse_constant=_no_constant)
        self.scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once
        self.standard = module in (None, json, engineio_json)
        self._loads: Callable[[Any], Any] | None = None
        self._dumps: Callable[..., Any] | None = None
        self._asks = False
        if not self.standard:
            self._dumps, self._loads = _compact(module), module.loads
            self._asks = getattr(module, "__name__", "") == "orjson"
            self.encode, self.scan = self._encode_by_module, self._scan_by_module

    # ---- out

    def dumps(self, data: Any) -> tuple[str, list[bytes]]:
        """Returns the JSON of data, and the bytes in it, in the order of their places.

        Raises:
            TypeError: a value is none of JSON's, nor bytes.
            ValueError: data contains itself.
        """
        try:
            return self.encode(data), []
        except Attached:
            return self._with_attachments(data)
        except RecursionError:  # the encoder says what is wrong: it contains itself, or is deep
            dumps = self._dumps or partial(json.dumps, separators=_SEPARATORS)
            return _text(dumps(data)), []

    def _with_attachments(self, data: Any) -> tuple[str, list[bytes]]:
        attachments: list[bytes] = []

        def place(value: Any) -> dict[str, Any]:
            if not isinstance(value, (bytes, bytearray)):
                return _refuse(value)  # type: ignore[no-any-return]
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}

        if self._dumps is not None:
            if self._asks:
                return _text(self._dumps(data, default=place)), attachments
            return _text(self._dumps(_with_places(data, place))), attachments
        return json.dumps(_finite(data), separators=_SEPARATORS, default=place), attachments

    def _encode_by_module(self, data: Any) -> str:
        assert self._dumps is not None
        if self._asks:
            return _text(self._dumps(data, default=_refuse))
        if _has_bytes(data):
            raise Attached
        return _text(self._dumps(data))

    # ---- in

    def loads(self, text: str) -> Any:
        """Returns what JSON text says.

        Raises:
            MalformedPayload: it is none, is nested too deep, or has an integer of over MOST_DIGITS digits.
        """
        if self._loads is not None:
            return self._loads_by_module(text)
        try:
            if len(text) > MOST_DIGITS and _RUN.search(text[::_EVERY]):
                return json.loads(text, parse_int=_checked_int, parse_constant=_no_constant)
            value, end = self.scan(text, len(text) - len(text.lstrip(_SPACES)))
        except (ValueError, StopIteration, RecursionError) as error:
            raise MalformedPayload(f"{text[:20]!r} is no JSON: {error}") from None
        if end != len(text) and text[end:].strip(_SPACES):
            raise MalformedPayload(f"behind the JSON {text[:20]!r} there is more")
        return value

    def _loads_by_module(self, text: str) -> Any:
        assert self._loads is not None
        try:
            return self._loads(text)
        except Exception as error:  # whatever a module raises: the text is the client's
            raise MalformedPayload(f"{text[:20]!r} is no JSON: {error}") from None

    def _scan_by_module(self, text: str, _: int) -> tuple[Any, int]:
        return self.loads(text), len(text)


def _compact(module: Any) -> Callable[..., Any]:
    """The module's dumps, without spaces: some have none, as orjson, and do not know the argument."""
    try:
        module.dumps([], separators=_SEPARATORS)
    except TypeError:
        return module.dumps  # type: ignore[no-any-return]
    return partial(module.dumps, separators=_SEPARATORS)


def _has_bytes(data: Any) -> bool:
    if isinstance(data, dict):
        return any(map(_has_bytes, data.values()))
    if isinstance(data, (list, tuple)):
        return any(map(_has_bytes, data))
    return isinstance(data, (bytes, bytearray))


def _with_places(data: Any, place: Callable[[Any], Any]) -> Any:
    """With places for attachments where the bytes are; what is none of JSON's stays, for the module to write."""
    if isinstance(data, (bytes, bytearray)):
        return place(data)
    if isinstance(data, dict):
        return {key: _with_places(value, place) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_with_places(value, place) for value in data]
    return data


def _text(encoded: Any) -> str:
    """orjson gives bytes."""
    return encoded if isinstance(encoded, str) else str(encoded, "utf-8")


def _standard_encoder() -> Callable[[Any], str]:
    """json.dumps without what it does anew each time, which is half of its cost for a small payload."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        encoder = JSONEncoder(separators=_SEPARATORS, default=_refuse, check_circular=False, allow_nan=False)
        return lambda data: encoder.encode(_finite(data))
    escape, (comma, colon), join = json.encoder.encode_basestring_ascii, _SEPARATORS, "".join
    chunks = make(None, _refuse, escape, None, colon, comma, False, False, False)

    def encode(data: Any) -> str:
        try:
            return join(chunks(data, 0))
        except ValueError:  # a number is none of JSON's
            return join(chunks(_finite(data), 0))

    return encode
