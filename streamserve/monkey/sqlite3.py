"""`sqlite3` waits in the loop for a database that is locked, and is imported by whoever needs it, not by patching."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from streamserve.loop.imports import after_import
from streamserve.monkey.originals import announce, remember
from streamserve.monkey.references import Replacements, replace_references

__all__ = ["patch_sqlite3"]

NAMES = ("Connection", "Cursor", "connect")


def patch_sqlite3() -> None:
    """Lets what finds a SQLite database locked wait in the loop, now or when `sqlite3` is imported."""
    taken = "sqlite3" in sys.modules
    for name in NAMES:
        announce("sqlite3", name)
    after_import("sqlite3", _replace_everywhere if taken else _replace)


def _replace(package: ModuleType) -> None:
    """For a module that was just imported."""
    _put(package)


def _replace_everywhere(package: ModuleType) -> None:
    """For what was taken from it before."""
    replace_references(_put(package))


def _put(package: ModuleType) -> Replacements:
    source = importlib.import_module("streamserve.green.sqlite3")
    replaced: Replacements = {}
    for module in (package, importlib.import_module("sqlite3.dbapi2")):
        for name in NAMES:
            original, replacement = getattr(module, name), getattr(source, name)
            if original is not replacement:
                remember(module, name, original)
                replaced[id(original)] = (original, replacement)
                setattr(module, name, replacement)
    return replaced
