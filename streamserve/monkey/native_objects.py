"""Finds what was made of the native classes before patching: who holds a lock, a threading.local or a SimpleQueue.

One walk over what the garbage collector tracks, which are all containers. Holders are changed in place, so that two of
them that share a lock go on sharing one. Tuples and frozensets cannot be changed: others are made, and put in their
place wherever somebody holds them. What belongs to this package keeps its native objects.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MemberDescriptorType, ModuleType
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
        self._class_dicts: dict[int, Any] = {}
        """id of a class's dict → the class"""
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
            if mine:
                self._our_dicts.update(id(part) for part in held if type(part) is dict)
            elif isinstance(holder, type):
                self._class_dicts.update((id(part), holder) for part in held if type(part) is dict)
            if not absent(map(type, held)):
                if mine:
                    self._note_ours(held)
                else:
                    found.append(holder)
        for holder in found:
            if id(holder) in self._our_dicts:
                self._note_ours(referents(holder))
            elif holder is not found:
                self.found.append(self._class_dicts.get(id(holder), holder))

    def _note_ours(self, held: list[Any]) -> None:
        self.ours.update(id(part) for part in held if type(part) in self.kinds)

    def objects(self) -> Iterator[tuple[Any, Any]]:
        """Each native object that others hold, with the holder."""
        for holder in self.found:
            for part in holder.__dict__.values() if isinstance(holder, type) else gc.get_referents(holder):
                if type(part) in self.kinds and id(part) not in self.ours:
                    yield holder, part

    def swap(self, swap: Swap) -> None:
        """Replaces in every holder what `swap` has another thing for."""
        rebuild = _Rebuild(swap)
        holders, found = list(self.found), self.found
        while found := rebuild.fixed_among(found):
            found = self._holders_of(found, [holders, self.found, rebuild.fixed])
            holders += found
        for holder in holders:
            _swap_in(holder, rebuild)

    def _holders_of(self, objects: list[Any], known: list[Any]) -> list[Any]:
        """Who holds one of those objects, beside this package."""
        passed = {id(objects), *map(id, known), *self._our_dicts}
        numbers, found = set(map(id, objects)), []
        for holder in gc.get_objects():
            if id(holder) not in passed and not numbers.isdisjoint(map(id, gc.get_referents(holder))):
                found.append(self._class_dicts.get(id(holder), holder))
        return [holder for holder in found if holder is not found]


class _Rebuild:
    """A Swap that also has other tuples and frozensets for those that hold something to swap, at any depth.

    Attributes:
        fixed: those, by id.
    """

    def __init__(self, swap: Swap) -> None:
        self._swap = swap
        self.fixed: dict[int, Any] = {}
        self._made: dict[int, Any] = {}

    def fixed_among(self, holders: list[Any]) -> list[Any]:
        """Those among the holders that cannot be changed, and are not known yet."""
        found = [item for item in holders if isinstance(item, (tuple, frozenset)) and id(item) not in self.fixed]
        self.fixed.update((id(item), item) for item in found)
        return found

    def __call__(self, value: Any) -> Any:
        number = id(value)
        if number not in self.fixed:
            return self._swap(value)
        if number not in self._made:
            self._made[number] = self._rebuilt(value)
        return self._made[number]

    def _rebuilt(self, holder: Any) -> Any:
        members = list(holder)
        swapped = [self(member) for member in members]
        if all(old is new for old, new in zip(members, swapped, strict=True)):
            return holder
        base: Any = tuple if isinstance(holder, tuple) else frozenset
        try:
            return base.__new__(type(holder), swapped)
        except TypeError:  # of a compiled class that is made otherwise
            return holder


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
        case FunctionType():
            if swap(holder.__defaults__) is not holder.__defaults__:
                holder.__defaults__ = swap(holder.__defaults__)
        case partial():
            bound: Any = holder
            bound.__setstate__((swap(bound.func), swap(bound.args), bound.keywords, bound.__dict__))
        case type():
            for name, value in list(holder.__dict__.items()):
                if swap(value) is not value:
                    with suppress(TypeError):  # a compiled class
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
