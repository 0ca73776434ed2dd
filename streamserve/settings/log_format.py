"""The format of access log lines, as it is written in settings: read and checked, not yet compiled.

The names of the fields are gunicorn's, which took them from Apache: `%(h)s`, `%({referer}i)s`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamserve.errors import ConfigurationError

__all__ = ["FIELDS", "FORMATS", "JSON", "Field", "parse_format"]

JSON = "json"
"""The format that is no string of fields: one JSON object per line."""

FORMATS = {
    "common": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s',
    "combined": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
}
"""The formats that have a name."""

FIELDS = {
    "h": "the client's address",
    "l": "always -",
    "u": "the user of Basic authentication",
    "t": "when the response ended, as [24/Nov/2026:09:41:00 +0000]",
    "r": "the request line",
    "m": "the method",
    "U": "the path, decoded",
    "q": "the query string",
    "H": "the protocol",
    "s": "the status",
    "b": "bytes of the response body, - for none",
    "B": "bytes of the response body",
    "f": "the Referer field",
    "a": "the User-Agent field",
    "T": "whole seconds from the start of the application to the end of the response",
    "M": "the same in milliseconds",
    "D": "the same in microseconds",
    "L": "the same in seconds, with six decimals",
    "p": "the process id, as <1234>",
}
"""The fields with one letter. Beside them: {name}i, {name}o and {name}e."""

NAMED = {"i": "a field of the request", "o": "a field of the response", "e": "a variable of the environ"}
"""What a name in braces stands for, by the letter behind it."""

_PART = re.compile(r"%%|%\((?P<field>[^()]*)\)s|%")
_FIELD = re.compile(r"\{([!-z|~]+)\}([ioe])|([A-Za-z])")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a format: its letter, and its name if that stood in braces."""

    letter: str
    name: str = ""


def parse_format(text: str) -> tuple[str | Field, ...]:
    """Reads a format: literal text and fields in turn.

    Args:
        text: common, combined, or a string with fields; not "json".

    Raises:
        ConfigurationError: the end of a sentence that says what is wrong; see setting_kinds.py.
    """
    parts: list[str | Field] = []
    text = FORMATS.get(text, text)
    end = 0
    for match in _PART.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[0] == "%%":
            parts.append("%")
        elif match["field"] is None:
            raise ConfigurationError(f"has a % that begins no field ({text[match.start() :][:20]!r}); {_remedy()}")
        else:
            parts.append(_field(match["field"]))
    parts.append(text[end:])
    if not any(isinstance(part, Field) for part in parts):
        raise ConfigurationError(f"names no field; give common, combined or json, or {_remedy()}")
    return tuple(part for part in parts if part)


def _field(written: str) -> Field:
    match = _FIELD.fullmatch(written)
    if match is None or (match[3] and match[3] not in FIELDS):
        raise ConfigurationError(f"has the unknown field %({written})s; {_remedy()}")
    return Field(match[3]) if match[3] else Field(match[2], match[1])


def _remedy() -> str:
    return f"use %(x)s with x one of {' '.join(FIELDS)}, {{name}}i, {{name}}o, {{name}}e, and %% for the sign itself"
