"""What was there before patching."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__all__ = ["announce", "get_original", "is_module_patched", "is_object_patched", "remember", "saved"]

saved: dict[str, dict[str, Any]] = {}
"""Module name → name → what it was before the first patch. Names that did not exist are not in it."""

_announced: dict[str, set[str]] = {}
"""Module name → names that are replaced once it is imported."""


def announce(module_name: str, name: str) -> None:
    """Counts a name as replaced from now on: it will be as soon as its module is imported."""
    _announced.setdefault(module_name, set()).add(name)


def remember(module: ModuleType, name: str, original: Any) -> None:
    """Keeps what a module had under a name, unless something older is kept already."""
    saved.setdefault(module.__name__, {}).setdefault(name, original)


def get_original(module_name: str, names: Any) -> Any:
    """Returns what the standard library has under a name, patched or not.

    Args:
        module_name: such as "socket".
        names: a name, or several, for which a list is returned.

    Raises:
        ModuleNotFoundError, AttributeError: there is no such thing.
    """
    if isinstance(names, str):
        return _original(module_name, names)
    return [_original(module_name, name) for name in names]


def _original(module_name: str, name: str) -> Any:
    module = importlib.import_module(module_name)  # what is done to it then, is done
    kept = saved.get(module_name, {})
    return kept[name] if name in kept else getattr(module, name)


def is_module_patched(module_name: str) -> bool:
    """True if anything of that module was replaced."""
    return module_name in saved or module_name in _announced


def is_object_patched(module_name: str, name: str) -> bool:
    """True if that name of that module was replaced."""
    return name in saved.get(module_name, {}) or name in _announced.get(module_name, ())
