"""The kinds of value that settings take: how each is read, checked and named in help.

A reader raises ConfigurationError with the end of a sentence ("is not a size; give ..."): Settings puts the name, the
value and its origin before it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal

from streamserve.errors import ConfigurationError
from streamserve.listening.addresses import Address, TcpAddress, parse_address
from streamserve.settings.log_format import JSON, parse_format

__all__ = [
    "UNIX",
    "Kind",
    "Network",
    "addresses",
    "choice",
    "choices",
    "count",
    "files",
    "log_format",
    "mode",
    "networks",
    "secret",
    "size",
    "switch",
    "text",
    "time",
]

Network = IPv4Network | IPv6Network

UNIX: Literal["unix"] = "unix"
"""Among networks: the peers of unix sockets."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        read: Makes the value of text or of a TOML value; raises ConfigurationError with what is wrong and what to give.
        metavar: What stands for the value in help and documentation; "" for a switch, whose flag takes no value.
        unit: Appended to the help, "" where the help says it all.
        several: Whether the flag may be repeated and the key takes a list.
        empty: Whether the empty text is a value; if not, an empty environment variable counts as not set.
        hidden: Whether nobody may see the value: no message, no representation and no print shows it.
    """

    read: Callable[[object], object]
    metavar: str
    unit: str = ""
    several: bool = False
    empty: bool = False
    hidden: bool = False


def text(remedy: str, *, metavar: str = "TEXT", pattern: str = r"[^\x00-\x1f\x7f\ud800-\udfff]*") -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ConfigurationError(f"is no text; {remedy}")
        if not re.fullmatch(pattern, value):
            raise ConfigurationError(f"has characters that are not allowed; {remedy}")
        return value

    return Kind(read, metavar, empty=True)


LONGEST_SECRET = 1024  # bytes: OpenSSL takes no longer password


def secret(remedy: str) -> Kind:
    """A text that is nobody's business."""
    plain = text(remedy)

    def read(value: object) -> str:
        word = str(plain.read(value))
        if len(word.encode()) > LONGEST_SECRET:
            raise ConfigurationError(f"is longer than {LONGEST_SECRET} bytes; {remedy}")
        return word

    return Kind(read, "PASSWORD", empty=True, hidden=True)


def choice(*choices: str) -> Kind:
    listed = ", ".join(choices[:-1]) + " or " + choices[-1]

    def read(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in choices:
            raise ConfigurationError(f"is not one of its values; give {listed}")
        return value.lower()

    return Kind(read, "|".join(choices))


def log_format() -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable():
            raise ConfigurationError("is no line of text; give common, combined, json or a string with fields")
        if value != JSON:
            parse_format(value)
        return value

    return Kind(read, "FORMAT")


SWITCH_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def switch() -> Kind:
    """Something that is on by default; its flag is --no-... and turns it off."""

    def read(value: object) -> bool:
        known = SWITCH_WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(known, bool):
            raise ConfigurationError("is neither on nor off; give true or false")
        return known

    return Kind(read, "")


def count(least: int, most: int) -> Kind:
    remedy = f"give a whole number from {least} to {most}"

    def read(value: object) -> int:
        number = value
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigurationError(f"is not a whole number; {remedy}")
        return int(_within(number, least, most, str(least), str(most), remedy))

    return Kind(read, "NUMBER")


def mode() -> Kind:
    """Permissions of a file, four octal digits as text."""
    remedy = "give three or four octal digits as text, such as 0666 (everybody) or 0660 (owner and group)"

    def read(value: object) -> str:
        text = f"{value:o}" if isinstance(value, int) and not isinstance(value, bool) else value  # TOML knows 0o660
        if not isinstance(text, str) or not re.fullmatch(r"(0o)?0?[0-7]{3}", text.strip()):
            raise ConfigurationError(f"is no mode of a file; {remedy}")
        return f"0{text.strip()[-3:]}"

    return Kind(read, "MODE")


SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(least: int, most: int, *, zero: bool = False) -> Kind:
    low, high = _size_words(least), _size_words(most)
    remedy = f"give bytes, or a number with k, m or g, from {low} to {high}" + (" (0: no limit)" if zero else "")

    def read(value: object) -> int:
        number = value
        if isinstance(value, str):
            match = re.fullmatch(r"\s*([+-]?[0-9]{1,18})\s*([kmg]?)(?:i?b)?\s*", value.lower())
            number = int(match[1]) * SIZE_UNITS[match[2]] if match else None
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConfigurationError(f"is not a size; {remedy}")
        if zero and number == 0:
            return 0
        return int(_within(number, least, most, low, high, remedy))

    return Kind(read, "SIZE", unit="bytes")


TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 86400.0  # seconds: a deadline of more than a day is none


def time(*, least: float = 0.001, zero: str = "none") -> Kind:
    remedy = f"give seconds, or a number with ms, s, m or h, from {least:g} to {LONGEST:g} (0: {zero})"

    def read(value: object) -> float:
        seconds = value
        if isinstance(value, str):
            match = re.fullmatch(r"\s*([+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(ms|s|m|h|)\s*", value.lower())
            seconds = float(match[1]) * TIME_UNITS[match[2]] if match else None
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise ConfigurationError(f"is not a time; {remedy}")
        if seconds == 0:
            return 0.0
        return float(_within(seconds, least, LONGEST, f"{least:g} s", f"{LONGEST:g} s", remedy))

    return Kind(read, "TIME", unit="seconds")


def _within(number: float, least: float, most: float, low: str, high: str, remedy: str) -> float:
    if number < least:
        raise ConfigurationError(f"is below the least, {low}; {remedy}")
    if not number <= most:  # also catches NaN, which TOML can write
        raise ConfigurationError(f"is above the most, {high}; {remedy}")
    return number


def _size_words(size: int) -> str:
    for letter in ("g", "m", "k"):
        if size and size % SIZE_UNITS[letter] == 0:
            return f"{size // SIZE_UNITS[letter]}{letter}"
    return str(size)


def files() -> Kind:
    """Paths; as text they are separated by commas."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise ConfigurationError("is no list of files; give paths")
        if any("\0" in item for item in value):
            raise ConfigurationError("has a NUL in a path; give files that exist")
        return tuple(value)

    return Kind(read, "FILE", several=True, empty=True)


def addresses() -> Kind:
    def read(value: object) -> tuple[Address, ...]:
        if isinstance(value, str):
            value = [part for part in re.split(r"[\s,]+", value) if part]
        listed: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        if not listed:
            raise ConfigurationError("is empty; give at least one address, such as 127.0.0.1:8000")
        parsed = tuple(parse_address(item) for item in listed)  # which refuses whatever else stands there
        for address in parsed:
            if parsed.count(address) > 1 and not (isinstance(address, TcpAddress) and address.port == 0):
                raise ConfigurationError(f"names {address} twice; give each address once")
        return parsed

    return Kind(read, "ADDRESS", several=True)


def _parts_of(value: object) -> list[Any]:
    """The items of a list, each of which may be a text that separates several by commas or blanks."""
    parts: list[Any] = []
    for item in value if isinstance(value, list | tuple) else (value,):
        parts += [part for part in re.split(r"[\s,]+", item) if part] if isinstance(item, str) else [item]
    return parts


def networks(*words: Literal["unix"]) -> Kind:
    """Addresses and networks of peers, and words that stand for others; "*" is all of them, empty none."""
    others = f", {', '.join(words)}" if words else ""
    remedy = f"give addresses such as 10.0.0.1, networks such as 10.0.0.0/8 or fd00::/8{others}, or *"

    def read(value: object) -> tuple[Network | Literal["unix"], ...]:
        found: list[Network | Literal["unix"]] = []
        for part in _parts_of(value):
            for text in ("0.0.0.0/0", "::/0", *words) if part == "*" else (part,):
                if text in words:
                    found.append(UNIX)
                    continue
                try:
                    found.append(ip_network(str(text)))
                except ValueError as problem:
                    raise ConfigurationError(f"{problem}; {remedy}") from None
        return tuple(found)

    return Kind(read, "NETWORKS", several=True, empty=True)


_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origins() -> Kind:
    """Origins of web pages (RFC 6454), "same" and "*"; as browsers send them: in lower case, without a default port."""

    def read(value: object) -> tuple[str, ...]:
        words = tuple(str(part).lower() for part in _parts_of(value))
        if not words:
            raise ConfigurationError(f"is empty; {_GIVE_ORIGINS}")
        return tuple(word if word in ("same", "*", "null") else _as_sent(word) for word in words)

    return Kind(read, "ORIGIN", several=True)


_GIVE_ORIGINS = "give same, *, or origins such as https://example.com or http://localhost:8000"


def _as_sent(word: str) -> str:
    """The origin as a browser sends it: what no browser sends would refuse its pages without a word."""
    parts = _ORIGIN.fullmatch(word)
    if parts is None or parts[1] in ("ws", "wss"):
        raise ConfigurationError(f"has {word!r}, which is no origin of a page; {_GIVE_ORIGINS}")
    scheme, host, default = parts[1], parts[2], _DEFAULT_PORTS.get(parts[1])
    if not host.isascii():
        raise ConfigurationError(f"has {word!r}; give the name as browsers send it, in ASCII: {scheme}://xn--...")
    port = default if parts[3] is None else int(parts[3])
    if port is not None and not 0 < port <= 65535:
        raise ConfigurationError(f"has {word!r}; a port is 1 to 65535")
    return f"{scheme}://{host}" if port == default else f"{scheme}://{host}:{port}"


def choices(*known: str) -> Kind:
    """Several of a few words; empty is none."""

    def read(value: object) -> tuple[str, ...]:
        words = tuple(str(part).lower() for part in _parts_of(value))
        for word in words:
            if word not in known:
                raise ConfigurationError(f"has {word!r}; give any of {', '.join(known)}")
        return words

    return Kind(read, "|".join(known), several=True, empty=True)
