"""What an option of a server cannot be is said when the server is made, not when a client finds out."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from inspect import signature
from typing import Any

from engineio.base_server import BaseServer

from streamserve.errors import ConfigurationError
from streamserve.monkey.originals import is_object_patched

__all__ = ["check_mode", "check_options"]

KNOWN = signature(BaseServer.__init__).parameters.keys() - {"self", "kwargs"} | {
    "max_queue",
    "max_events",
    "message_queue",
}
"""`message_queue` is Flask-SocketIO's, which reads it and passes it on."""

UNITS = {"ping_interval": "seconds", "ping_timeout": "seconds", "max_http_buffer_size": "bytes", "max_queue": "bytes"}
TRANSPORTS = {"polling", "websocket"}

UPSTREAM_MODES = ("threading", "gevent", "gevent_uwsgi", "eventlet")

_log = logging.getLogger("streamserve.engine")


def check_mode(async_mode: str | None) -> None:
    """Lets a program that was written for another server run on this one, if it was patched to.

    Raises:
        ConfigurationError: it is another server's mode, and nothing is patched.
    """
    if async_mode in (None, "streamserve"):
        return
    if async_mode not in UPSTREAM_MODES or not is_object_patched("engineio", "Server"):
        raise ConfigurationError(f"async_mode={async_mode!r} is another server's; leave it out, or give 'streamserve'")
    _log.info("async_mode=%r means streamserve's loop and greenlets here, as Socket.IO is patched", async_mode)


def check_options(options: dict[str, Any]) -> None:
    """Refuses options that cannot be, and warns of those that are not known: upstream ignores them without a word.

    Raises:
        ConfigurationError: a number is none, or below 0.
        ValueError: no transport is left; upstream's kind of error.
    """
    for name in sorted(options.keys() - KNOWN):
        close = get_close_matches(name, sorted(KNOWN), 1)
        hint = f"did you mean {close[0]!r}?" if close else "docs/socketio.md lists them"
        _log.warning("Socket.IO: the unknown option %r is ignored; %s", name, hint)
    for name in UNITS.keys() & options.keys():
        value = options[name]
        if name == "ping_interval" and isinstance(value, tuple):  # and a grace period
            value = value[0]
        if not isinstance(value, (int, float)) or value < 0:
            raise ConfigurationError(f"{name}={value!r} is no number of {UNITS[name]}; give one from 0 up")
    most = options.get("max_events", 1)
    if most.__class__ is not int or most < 1:
        raise ConfigurationError(f"max_events={most!r} is no number of events; give one from 1 up")
    transports = options.get("transports")
    if transports is not None and not TRANSPORTS.intersection(
        [transports] if isinstance(transports, str) else transports
    ):
        raise ValueError(f"No valid transports in {transports!r}; give 'polling', 'websocket' or both")
