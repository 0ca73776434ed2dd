"""Access log lines: a format is compiled to a function once, so that no format is read per request.

What the client chose is escaped, in every field: a line cannot be forged, and colours no terminal.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Callable
from json import encoder
from typing import TYPE_CHECKING, Any

from streamserve.settings.log_format import JSON, Field, parse_format

if TYPE_CHECKING:
    from streamserve.gateway.response_head import ResponseHead

__all__ = ["Line", "clock_of", "compile_line", "escape"]

Line = Callable[[dict[str, Any], int, int, float, "ResponseHead | None", str], str]
"""(environ, status, bytes of the body, seconds, head, time) → the line, with its end."""

_UNSAFE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_REMEMBERED = 1024  # values
_LONGEST_REMEMBERED = 256  # characters


def escape(text: str) -> str:
    """Replaces quotes, backslashes, control and non-ASCII characters by \\xNN or \\uNNNN."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _quoted(text: str) -> str:
    return encoder.encode_basestring_ascii(text).replace("\x7f", "\\u007f")


class _Shown(dict[Any, str]):
    """Value → what stands in the line; clients repeat themselves, and a look-up is cheaper than escaping.

    Args:
        write: makes text safe.
        nothing: what stands for a value that is missing or empty.
    """

    def __init__(self, write: Callable[[str], str], nothing: str) -> None:
        super().__init__()
        self._write = write
        self._nothing = nothing

    def __missing__(self, value: Any) -> str:
        """Also for what an application put into the environ, which may be anything."""
        if not value:
            return self._nothing
        shown = self._write(str(value))
        if value.__class__ is str and len(value) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[value] = shown
        return shown


# ---- compiling

REFUSED_LINE = "streamserve.refused_line"
"""The key under which a refused request has a first line that is none."""

_REQUEST = "'%s %s %s' % (text(get('REQUEST_METHOD')), text(get('RAW_URI')), text(get('SERVER_PROTOCOL')))"
_EXPRESSIONS = {
    "h": "text(get('REMOTE_ADDR'))",
    "l": "'-'",
    "u": "text(user(environ)) if 'HTTP_AUTHORIZATION' in environ else '-'",
    "t": "time",
    "r": f"({_REQUEST} if 'REQUEST_METHOD' in environ else text(get({REFUSED_LINE!r})))",
    "m": "text(get('REQUEST_METHOD'))",
    "U": "text(get('PATH_INFO'))",
    "q": "text(get('QUERY_STRING'))",
    "H": "text(get('SERVER_PROTOCOL'))",
    "s": "(status or '-')",
    "b": "(size or '-')",
    "B": "size",
    "f": "text(get('HTTP_REFERER'))",
    "a": "text(get('HTTP_USER_AGENT'))",
    "T": "int(seconds)",
    "M": "int(seconds * 1e3)",
    "D": "int(seconds * 1e6)",
    "L": "'%.6f' % seconds",
    "p": "'<%d>' % getpid()",
}
_JSON_FIELDS = {
    "time": "time",
    "remote_addr": "text(get('REMOTE_ADDR'))",
    "method": "text(get('REQUEST_METHOD'))",
    "target": f"text(get('RAW_URI') or get({REFUSED_LINE!r}))",
    "protocol": "text(get('SERVER_PROTOCOL'))",
    "status": "status",
    "bytes": "size",
    "seconds": "'%.6f' % seconds",
    "referer": "text(get('HTTP_REFERER'))",
    "user_agent": "text(get('HTTP_USER_AGENT'))",
    "request_id": "text(get('HTTP_X_REQUEST_ID'))",
}


def compile_line(format: str) -> Line:
    """Makes the function that writes a line in this format.

    Args:
        format: common, combined, json, or a string with fields; see log_format.py.

    Raises:
        ConfigurationError: the format has a field that does not exist.
    """
    template, values = "", []
    if format == JSON:
        template = "{" + ", ".join(f'"{name}": %s' for name in _JSON_FIELDS) + "}"
        values = list(_JSON_FIELDS.values())
    else:
        for part in parse_format(format):
            if isinstance(part, Field):
                template += "%s"
                values.append(_EXPRESSIONS[part.letter] if not part.name else _named(part))
            else:
                template += part.replace("%", "%%")
    source = (
        "def line(environ, status, size, seconds, head, time):\n"
        f"    get = environ.get\n    return {template + chr(10)!r} % ({', '.join(values)},)\n"
    )
    text = _Shown(_quoted, "null") if format == JSON else _Shown(escape, "-")
    names: dict[str, Any] = {"text": text.__getitem__, "user": _user, "field": _response_field, "getpid": os.getpid}
    exec(compile(source, "<access log format>", "exec"), names)
    line: Line = names["line"]
    return line


def _named(field: Field) -> str:
    """The expression of a field whose name stood in braces; the name is the administrator's, and quoted."""
    if field.letter == "o":
        return f"text(field(head, {field.name.lower().encode()!r}))"
    if field.letter == "e":
        upper = field.name.upper()
        other = f" or get({upper!r})" if upper != field.name else ""
        return f"text(get({field.name!r}){other})"
    name = field.name.upper().replace("-", "_")
    key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
    return f"text(get({key!r}))"


def _user(environ: dict[str, Any]) -> str:
    """The user name of Basic authentication (RFC 7617), "" if there is none."""
    scheme, _, credentials = str(environ["HTTP_AUTHORIZATION"]).partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[0].decode()
    except (binascii.Error, ValueError):
        return ""


def _response_field(head: ResponseHead | None, name: bytes) -> str:
    """A field that the application set, "" if it set none; the server's own are not in the head."""
    for line in head.data.split(b"\r\n")[1:] if head is not None else ():
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip().decode("latin-1")
    return ""


# ---- time


def clock_of(format: str) -> Callable[[int], str]:
    """What writes a Unix time, whole seconds, for lines of this format."""
    return _json_time if format == JSON else _common_time


def _common_time(second: int) -> str:
    local = time.localtime(second)
    return time.strftime(f"[%d/{_MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S %z]", local)


def _json_time(second: int) -> str:
    zone = time.strftime("%z", time.localtime(second))
    return time.strftime(f'"%Y-%m-%dT%H:%M:%S{zone[:3]}:{zone[3:]}"', time.localtime(second))
