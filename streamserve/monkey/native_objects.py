"""Finds what was made of the native classes before patching: who holds a lock, a threading.local or a SimpleQueue.

One walk over what the garbage collector tracks, which are all containers. Holders are changed in place, so that two of
them that share a lock go on sharing one. What belongs to this package keeps its native objects.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinMethodType, CellType, MemberDescriptorType, ModuleType
from typing import Any

from streamserve.monkey.references import is_ours

__all__ = ["Holders", "Swap"]

Swap = Callable[[Any], Any]
"""Returns what is to stand in the place of a native object, or the object itself."""


class Holders:
    """The containers that hold objects of some classes.

    Args:
        kinds: those classes, exactly: subclasses do not count.
    """

    def __init__(self, kinds: frozenset[type]) -> None:
        self.kinds = kinds
        self.found: list[Any] = []
        self.ours: set[int] = set()
        """ids of what this package holds"""
        self._class_dicts: set[int] = set()
        self._our_dicts: set[int] = set()
        self._walk()

    def _walk(self) -> None:
        referents, absent = gc.get_referents, self.kinds.isdisjoint
        for name, module in list(sys.modules.items()):
            if isinstance(module, ModuleType) and is_ours(name):
                self._our_dicts.add(id(module.__dict__))
        ours: dict[type, bool] = {}
        found = []
        for holder in gc.get_objects():
            kind = type(holder)
            mine = ours.get(kind)
            if mine is None:
                mine = ours[kind] = is_ours(getattr(kind, "__module__", None))
            held = referents(holder)
            if mine or isinstance(holder, type):
                self._note_dicts(held, self._our_dicts if mine else self._class_dicts)
            if not absent(map(type, held)):
                if mine:
                    self._note_ours(held)
                else:
                    found.append(holder)
        for holder in found:
            if id(holder) in self._our_dicts:
                self._note_ours(referents(holder))
            elif id(holder) not in self._class_dicts and holder is not found:
                self.found.append(holder)

    def _note_dicts(self, held: list[Any], dicts: set[int]) -> None:
        dicts.update(id(part) for part in held if type(part) is dict)

    def _note_ours(self, held: list[Any]) -> None:
        self.ours.update(id(part) for part in held if type(part) in self.kinds)

    def objects(self) -> Iterator[tuple[Any, Any]]:
        """Each native object that others hold, with the holder."""
        for holder in self.found:
            for part in gc.get_referents(holder):
                if type(part) in self.kinds and id(part) not in self.ours:
                    yield holder, part

    def swap(self, swap: Swap) -> None:
        """Replaces in every holder what `swap` has another thing for."""
        for holder in self.found:
            _swap_in(holder, swap)


def _swap_in(holder: Any, swap: Swap) -> None:
    match holder:
        case dict():
            _swap_in_dict(holder, swap)
        case list() | deque():
            for place, value in enumerate(holder):
                if swap(value) is not value:
                    holder[place] = swap(value)
        case set():
            for value in [value for value in holder if swap(value) is not value]:
                holder.discard(value)
                holder.add(swap(value))
        case CellType():
            if swap(holder.cell_contents) is not holder.cell_contents:
                holder.cell_contents = swap(holder.cell_contents)
        case type():
            for name, value in list(holder.__dict__.items()):
                if swap(value) is not value:
                    setattr(holder, name, swap(value))
        case _:
            _swap_in_instance(holder, swap)


def _swap_in_dict(holder: dict[Any, Any], swap: Swap) -> None:
    for key, value in list(holder.items()):
        if isinstance(value, BuiltinMethodType):  # a Condition keeps its lock's methods
            owner = value.__self__
            changed = swap(owner)
            if changed is not owner:
                holder[key] = getattr(changed, value.__name__)
        elif swap(value) is not value:
            holder[key] = swap(value)
        if swap(key) is not key:
            holder[swap(key)] = holder.pop(key)


def _swap_in_instance(holder: Any, swap: Swap) -> None:
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        attributes = None
    if isinstance(attributes, dict):
        _swap_in_dict(attributes, swap)
    for cls in type(holder).__mro__:
        for slot in cls.__dict__.values():
            if isinstance(slot, MemberDescriptorType):
                try:
                    value = slot.__get__(holder)
                    if swap(value) is not value:
                        slot.__set__(holder, swap(value))
                except (AttributeError, TypeError):  # empty, or read only
                    continue
