"""What an option of a server cannot be is said when the server is made, not when a client finds out."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from difflib import get_close_matches
from inspect import signature
from typing import Any

from engineio.base_server import BaseServer

from streamserve.errors import ConfigurationError
from streamserve.monkey.originals import is_object_patched

__all__ = ["check_json", "check_mode", "check_options", "check_serializer", "check_site", "named_options", "number"]

KNOWN = signature(BaseServer.__init__).parameters.keys() - {"self", "kwargs"} | {
    "max_queue",
    "max_events",
    "message_queue",
}
"""`message_queue` is Flask-SocketIO's, which reads it and passes it on."""

UNITS = {
    "ping_interval": "seconds",
    "ping_timeout": "seconds",
    "connect_timeout": "seconds",
    "max_http_buffer_size": "bytes",
    "max_queue": "bytes",
    "compression_threshold": "bytes",
}
MOST = {"ping_interval": 10**9, "ping_timeout": 10**9, "max_http_buffer_size": 1 << 62, "max_queue": 1 << 62}
"""What the core can count, about; what is not named here may be infinite."""

WHOLE = ("max_http_buffer_size", "max_queue")
"""Numbers that the core, or a read, takes as integers."""

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


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuses options that cannot be, and warns of those that are not known: upstream ignores them without a word.

    Returns:
        The options, with integers where whole numbers came as floats.

    Raises:
        ConfigurationError: one cannot be what it is.
        ValueError: no transport is left; upstream's kind of error.
    """
    for name in sorted(options.keys() - KNOWN):
        close = get_close_matches(name, sorted(KNOWN), 1)
        hint = f"did you mean {close[0]!r}?" if close else "docs/socketio.md lists them"
        _log.warning("Socket.IO: the unknown option %r is ignored; %s", name, hint)
    options = {name: number(name, value) if name in UNITS else value for name, value in options.items()}
    most = options.get("max_events", 1)
    if most.__class__ is not int or most < 1:
        raise ConfigurationError(f"max_events={most!r} is no number of events; give one from 1 up")
    origins, cookie = options.get("cors_allowed_origins"), options.get("cookie")
    if origins is not None and not callable(origins) and not isinstance(origins, Collection):
        raise ConfigurationError(
            f"cors_allowed_origins={origins!r} lists no origins; give a list, one as text, a function, or '*'"
        )
    if cookie and not isinstance(cookie, (str, dict)):
        raise ConfigurationError(f"cookie={cookie!r} is none; give its name, or a dictionary of its attributes")
    check_json(options.get("json"))
    transports = options.get("transports")
    if transports is not None and not TRANSPORTS.intersection(
        [transports] if isinstance(transports, str) else transports
    ):
        raise ValueError(f"No valid transports in {transports!r}; give 'polling', 'websocket' or both")
    return options


def check_json(module: Any) -> None:
    """Refuses what cannot write and read JSON.

    Raises:
        ConfigurationError: it has no `dumps` or no `loads` that can be called.
    """
    if module is not None and not all(callable(getattr(module, name, None)) for name in ("dumps", "loads")):
        raise ConfigurationError(f"json={module!r} cannot write and read JSON; give a module with dumps and loads")


def named_options(kind: type, args: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments of a class, `socketio.base_server.BaseServer`, that came without their names."""
    return dict(zip([*signature(kind.__init__).parameters][1:], args, strict=False))  # type: ignore[misc]


def check_site(options: dict[str, Any], wsgi_app: Any, socketio_path: Any, max_namespaces: Any) -> None:
    """Refuses what a SocketIOServer takes, and the server of Engine.IO below it does not, or too late.

    Raises:
        ConfigurationError: one of them cannot be what it is.
    """
    manager = options.get("client_manager")
    if manager is not None and not hasattr(manager, "set_server"):
        raise ConfigurationError(
            f"client_manager is of type {type(manager).__name__}, which is no manager;"
            " an application goes into wsgi_app="
        )
    if wsgi_app is not None and not callable(wsgi_app):
        raise ConfigurationError(f"wsgi_app={wsgi_app!r} cannot be called; give a WSGI application")
    if not isinstance(socketio_path, str):
        raise ConfigurationError(f"socketio_path={socketio_path!r} is no path; give text, 'socket.io' for instance")
    if max_namespaces.__class__ is not int or max_namespaces < 0:
        raise ConfigurationError(f"max_namespaces={max_namespaces!r} is no number; give one from 0 up")
    check_json(options.get("json"))  # upstream puts it into the class of packets, where it stays


def check_serializer(options: dict[str, Any], parser: Any) -> dict[str, Any]:
    """The option that says how packets are written, whose name is `parser` in JavaScript.

    Returns:
        It, by its name here, unless it is among the options already.

    Raises:
        ConfigurationError: two are given, or what is given is none.
    """
    serializer = options.get("serializer", "default" if parser is None else parser)
    if parser is not None and parser != serializer:
        raise ConfigurationError(
            f"parser={parser!r} and serializer={serializer!r} are two names of one option; give one of them"
        )
    if serializer not in ("default", "msgpack") and not (
        isinstance(serializer, type) and hasattr(serializer, "uses_binary_events")
    ):
        raise ConfigurationError(
            f"serializer={serializer!r} is none; give 'default', 'msgpack' or a class like socketio.packet.Packet"
        )
    return {} if "serializer" in options else {"serializer": serializer}


def number(name: str, value: Any) -> Any:
    """The value of an option that is a number of seconds or bytes; `ping_interval` may have a time of grace beside it.

    Raises:
        ConfigurationError: it is none, below 0, or more than can be.
    """
    if name == "ping_interval" and isinstance(value, tuple):
        if len(value) != 2:
            raise ConfigurationError(f"{name}={value!r} is no pair; give the seconds, and those of grace")
        return tuple(number(f"{name}[{place}]", part) for place, part in enumerate(value))
    of, unit = name.partition("[")[0], UNITS[name.partition("[")[0]]
    if not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"{name}={value!r} is no number of {unit}; give one from 0 up")
    most = MOST.get(of, math.inf)
    if value > most:
        raise ConfigurationError(f"{name}={value!r} is too many {unit}; give {most} at most")
    if of not in WHOLE:
        return value
    if value != int(value):
        raise ConfigurationError(f"{name}={value!r} is no whole number of {unit}; give one without a fraction")
    return int(value)
