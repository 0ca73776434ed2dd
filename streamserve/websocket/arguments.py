"""What applications pass to a WebSocket, checked where they do: what is wrong is named there, not in another thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from streamserve.core import lib
from streamserve.errors import LocalProtocolError

__all__ = ["check_subprotocol", "check_timeout", "close_reason", "header_pairs", "ping_payload"]

_MOST_CONTROL = 125
_MOST_REASON = _MOST_CONTROL - 2
_NEVER_SENT = (1004, lib.SS_WS_NO_CODE, lib.SS_WS_ABNORMAL)


def check_timeout(timeout: Any) -> None:
    """A time to wait is a number.

    Raises:
        TypeError: it is none.
        ValueError: it is NaN.
    """
    if not isinstance(timeout, Real):
        raise TypeError(f"a timeout is a number of seconds, or None: for ever; not {_shown(timeout)}")
    if timeout != timeout:
        raise ValueError(f"a timeout is a number of seconds, or None: for ever; not {timeout!r}")


def check_subprotocol(subprotocol: Any) -> None:
    """A subprotocol has a name.

    Raises:
        TypeError: it is neither str nor None.
    """
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise TypeError(f"a subprotocol is a str that the client offers, or None; not {_shown(subprotocol)}")


def header_pairs(headers: Any) -> list[Any]:
    """The fields of a response as pairs; what stands in them is checked by who writes them.

    Raises:
        TypeError: they are no pairs.
    """
    if isinstance(headers, Iterable) and not isinstance(headers, (str, bytes, Mapping)):
        headers = pairs = list(headers)
        if all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            return pairs
    raise TypeError(f"headers are pairs of str, such as [('Set-Cookie', 'a=b')], not {_shown(headers)}")


def ping_payload(payload: Any) -> bytes:
    """The bytes of a ping.

    Raises:
        TypeError: they are none.
        LocalProtocolError: they are more than a control frame has room for (RFC 6455 section 5.5).
    """
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise TypeError(f"the payload of a ping is bytes, not {_shown(payload)}")
    data = bytes(payload)
    if len(data) > _MOST_CONTROL:
        raise LocalProtocolError(f"the payload of a ping has {len(data)} bytes; at most {_MOST_CONTROL} are allowed")
    return data


def close_reason(code: Any, reason: Any) -> bytes:
    """The bytes of the reason in a Close that may be sent.

    Raises:
        TypeError: code is no int, or reason no str.
        LocalProtocolError: they may not go on the wire (RFC 6455 section 7.4).
    """
    if not isinstance(code, int):
        raise TypeError(f"the code of a Close is an int, such as 1000, not {_shown(code)}")
    if not isinstance(reason, str):
        raise TypeError(f"the reason of a Close is a str, not {_shown(reason)}")
    data = reason.encode()
    may_be_sent = 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in _NEVER_SENT)
    if not may_be_sent or len(data) > _MOST_REASON:
        raise LocalProtocolError(
            f"a WebSocket cannot be closed with {code} and a reason of {len(data)} bytes: give a code that may"
            f" be sent (RFC 6455 section 7.4) and at most {_MOST_REASON} bytes"
        )
    return data


def _shown(value: Any) -> str:
    return f"{repr(value)[:100]} of type {type(value).__name__}"
