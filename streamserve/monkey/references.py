"""Names that other modules have taken from the standard library before it was patched.

`from time import sleep` copies a reference: patching `time.sleep` does not reach it. So the module-level names of all
loaded modules, and the attributes of the classes they define, are compared with what was replaced. The modules of this
package keep the originals, and those that merely keep them for somebody (`saved`) are no module's names.

Not found are copies in closures, default arguments and containers.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

__all__ = ["Replacements", "is_ours", "replace_references"]

_KEPT = ("_socket", "_queue", "_sqlite3")
"""Compiled modules whose functions ours call in the end: they are not patched, nor what is named there."""

_PACKAGE = __name__.partition(".")[0]

Replacements = dict[int, tuple[Any, Any]]
"""id of an original → (original, what took its place)."""


def is_ours(module_name: object) -> bool:
    """True for the modules of this package."""
    return isinstance(module_name, str) and (module_name == _PACKAGE or module_name.startswith(_PACKAGE + "."))


def replace_references(replacements: Replacements) -> None:
    """Puts the replacements wherever a module or a class of one has an original under a name."""
    for name, module in list(sys.modules.items()):
        kept = not isinstance(module, ModuleType) or name in _KEPT or is_ours(name) or is_ours(module.__name__)
        if not kept:
            _replace_in(module, replacements)


def _replace_in(module: ModuleType, replacements: Replacements) -> None:
    names = module.__dict__  # not by getattr: modules may make their attributes on demand
    for name, value in list(names.items()):
        found = replacements.get(id(value))
        if found is not None and found[0] is value:
            names[name] = found[1]
        elif isinstance(value, type) and value.__dict__.get("__module__") == module.__name__:
            _replace_in_class(value, replacements)


def _replace_in_class(cls: type, replacements: Replacements) -> None:
    for name, value in list(cls.__dict__.items()):
        found = replacements.get(id(value))
        if found is not None and found[0] is value:
            replacement = found[1]
            if isinstance(value, BuiltinFunctionType) and isinstance(replacement, FunctionType):
                replacement = staticmethod(replacement)  # the compiled one was no method either
            setattr(cls, name, replacement)
