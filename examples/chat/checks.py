"""What clients may send: everything is looked at here before the chat uses it.

A wish that cannot be raises Refused, whose text is shown to the person who made it.
"""

import re
import unicodedata
from typing import Any, NamedTuple

LONGEST_NAME = 24  # characters
LONGEST_ROOM = 24
LONGEST_TEXT = 4000
LONGEST_FILE_NAME = 120
LONGEST_KEY = 64
LARGEST_FILE = 4 << 20  # bytes
LARGEST_SIDE = 20_000  # pixels of a picture

LIMITS = {"name": LONGEST_NAME, "room": LONGEST_ROOM, "text": LONGEST_TEXT, "file": LARGEST_FILE}
"""What the page tells its forms."""

JOINER = "\u200d"  # between the parts of an emoji
_KEY = re.compile(r"[\w-]+", re.ASCII)
_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)


class Refused(Exception):
    """What a client asks for cannot be; the text says why, in words for a person."""


class File(NamedTuple):
    """A file that came with a message; `about` is what everyone is told, the bytes go to those who ask."""

    about: dict[str, Any]
    data: bytes


def string(wish: dict[str, Any], field: str) -> str:
    """A field that must be text."""
    value = wish.get(field)
    if not isinstance(value, str):
        raise Refused(f"The field {field!r} must be text.")
    return value


def name(text: str) -> str:
    """A person's name: one line of what can be seen."""
    shown = " ".join(_visible(text).split())
    if not shown:
        raise Refused("Please enter a name.")
    return _not_longer(shown, LONGEST_NAME, "A name")


def room(text: str) -> str:
    """A room's name: small letters, digits and hyphens, whatever the alphabet."""
    found = re.sub(r"[\s_]+", "-", _visible(text).strip().lstrip("#").casefold()).strip("-")
    if not found:
        raise Refused("Please enter a name for the room.")
    if not re.fullmatch(r"[^\W_]+(?:-[^\W_]+)*", found):
        raise Refused("A room's name has letters, digits and hyphens.")
    return _not_longer(found, LONGEST_ROOM, "A room's name")


def text(wish: dict[str, Any]) -> str:
    """What somebody writes: lines and tabs stay, other control characters go."""
    written = "".join(
        letter
        for letter in string(wish, "text")
        if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs")
    )
    return _not_longer(written.strip(), LONGEST_TEXT, "A message")


def key(wish: dict[str, Any]) -> str:
    """What a client made up to know its message, or itself, again."""
    value = string(wish, "key")
    if len(value) > LONGEST_KEY or not _KEY.fullmatch(value):
        raise Refused(f"A key has up to {LONGEST_KEY} letters, digits, hyphens and underscores.")
    return value


def number(wish: dict[str, Any], field: str) -> int:
    """A whole number that is not negative, of a size that JavaScript has too."""
    value = wish.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise Refused(f"The field {field!r} must be a whole number.")
    return value


def file(wish: dict[str, Any]) -> File | None:
    """The file of a message, if it brings one."""
    found = wish.get("file")
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("data"), bytes):
        raise Refused("A file has a name, a type and its bytes.")
    data = found["data"]
    if not data:
        raise Refused("The file is empty.")
    if len(data) > LARGEST_FILE:
        raise Refused(f"A file may have {LARGEST_FILE >> 20} MB.")
    shown = " ".join(_visible(re.sub(r"[/\\]", "_", string(found, "name"))).split())[-LONGEST_FILE_NAME:]
    kind = string(found, "type")
    about = {
        "name": shown or "file",
        "type": kind if _TYPE.fullmatch(kind) else "application/octet-stream",
        "size": len(data),
    }
    if found.get("width") is not None:
        about |= {side: max(1, min(number(found, side), LARGEST_SIDE)) for side in ("width", "height")}
    return File(about, data)


def _visible(text: str) -> str:
    """Without what has no shape of its own: controls, and marks that turn the direction of what follows."""
    composed = unicodedata.normalize("NFC", text[:1000])
    return "".join(
        " " if letter.isspace() else letter
        for letter in composed
        if letter.isspace() or letter == JOINER or unicodedata.category(letter)[0] != "C"
    )


def _not_longer(text: str, limit: int, what: str) -> str:
    if len(text) > limit:
        raise Refused(f"{what} may have {limit} characters; this one has {len(text)}.")
    return text
