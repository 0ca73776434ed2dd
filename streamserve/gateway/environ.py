"""From the bytes of a request head to the values of a WSGI environ (PEP 3333).

The core has validated the bytes; this file only says what they are called. It
runs when a header block or target is new: what clients repeat is remembered by
the endpoint, and the values that differ per request are filled in there.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from streamserve.gateway.file_wrapper import FileWrapper

Environ = dict[str, Any]

JOINED_BY = {"HTTP_COOKIE": "; "}
"""How repeated fields are joined where it is not a comma (RFC 9113 section 8.2.3)."""

_PLAIN = {"CONTENT_TYPE", "CONTENT_LENGTH"}
_LINES: dict[bytes, tuple[str, str]] = {}
_MOST_LINES = 4096
_LONGEST_LINE = 512


def base_environ(server_name: str, server_port: str, scheme: str, software: str) -> Environ:
    """What is the same for every request of one listener.

    The keys that differ per request are there too, with placeholders, so that a
    copy never has to grow.
    """
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "REQUEST_URI": "",
        "RAW_URI": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": server_name,
        "SERVER_PORT": server_port,
        "SERVER_SOFTWARE": software,
        "REMOTE_ADDR": "",
        "REMOTE_PORT": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": None,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def _field(line: bytes) -> tuple[str, str]:
    known = _LINES.get(line)
    if known is not None:
        return known
    name, _, value = line.decode("latin-1").partition(":")
    key = name.upper().replace("-", "_")
    field = (key if key in _PLAIN else "HTTP_" + key, value.strip(" \t"))
    if "_" in name:
        field = ("_" + name, field[1])
    if len(line) <= _LONGEST_LINE and key != "SEC_WEBSOCKET_KEY":
        if len(_LINES) >= _MOST_LINES:
            _LINES.clear()
        _LINES[line] = field
    return field


class UnderscoreInName(ValueError):
    """A field name has an underscore and the setting says to refuse that."""


def add_fields(environ: Environ, block: bytes, underscores: str) -> None:
    """Adds the fields of a header block (with its final empty line) to an environ.

    Args:
        underscores: what to do with names that have an underscore, which WSGI cannot
            tell from a hyphen (CVE-2015-0219): drop, refuse or keep.

    Raises:
        UnderscoreInName: there is one, and underscores is "refuse".
    """
    for line in block[:-4].split(b"\r\n") if len(block) > 4 else ():
        key, value = _field(line)
        if key[0] == "_":
            if underscores == "refuse":
                raise UnderscoreInName(key[1:])
            if underscores == "drop":
                continue
            key = "HTTP_" + key[1:].upper().replace("-", "_")
        if key == "HTTP_PROXY":
            continue  # CVE-2016-5385: libraries take it for the proxy setting
        if key in environ:
            value = environ[key] + JOINED_BY.get(key, ", ") + value
        environ[key] = value


def target_values(target: bytes) -> tuple[str, str, str]:
    """(PATH_INFO, QUERY_STRING, the target as sent) of a target in origin form."""
    raw = target.decode("latin-1")
    path, _, query = raw.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    return path, query, raw


def set_other_form(environ: Environ, target: bytes) -> None:
    """Sets the path, and HTTP_HOST from an authority, for targets not in origin form (RFC 9112 section 3.2)."""
    raw = target.decode("latin-1")
    environ["REQUEST_URI"] = environ["RAW_URI"] = raw
    _, absolute, rest = raw.partition("://")
    if raw == "*":
        environ["PATH_INFO"] = "*"
    elif not absolute:
        environ["HTTP_HOST"] = raw
    else:
        before, _, query = rest.partition("?")
        host, slash, path = before.partition("/")
        environ["HTTP_HOST"] = host
        environ["PATH_INFO"] = unquote_to_bytes(slash + path or "/").decode("latin-1")
        environ["QUERY_STRING"] = query
