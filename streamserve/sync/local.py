"""local: attributes that each greenlet has for itself.

Runners go from one thing to the next, so attributes belong to the Greenlet handle of what
runs (`getcurrent` gives one to a request that has none), and are dropped when that ends. Those
of a request belong to its thread identity, and live on with that (loop/identities.py). A raw
greenlet, the main one or a hub keeps them as long as it exists.

They hang on the greenlet: a `States`, which has a dict for each local. So they are freed with
it. The local has a number, which is never used again, and weak references to those `States`,
so that its own end frees them too. Every step on these is one call in C, which nothing
interrupts (sync/line.py); only the greenlet itself fills its `States`.
"""

from __future__ import annotations

import atexit
import itertools
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import greenlet as _greenlet

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.identities import States
from streamserve.loop.waiter import Runner

_current = _greenlet.getcurrent
_numbers = itertools.count()
_keys: WeakSet[_Key] = WeakSet()
_get = object.__getattribute__
_set = object.__setattr__
_delete = object.__delattr__
_MISSING = (AttributeError, KeyError, TypeError)  # no `_locals` yet, no dict of this local, `_locals` is None


class _Key:
    """What a local knows of itself; its end is the local's.

    `shared` has the names that the class decides about, for all greenlets: its slots and properties. `last` is, once
    the interpreter ends, its main greenlet and what that has here.
    """

    __slots__ = ("__weakref__", "args", "kwargs", "last", "number", "places", "reruns", "shared")

    def __init__(self, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.places: set[ref[States]] = set()
        self.number = next(_numbers)
        self.last: tuple[Any, dict[str, Any]] | None = None
        _keys.add(self)
        self.args = args
        self.kwargs = kwargs
        self.reruns = kind.__init__ is not object.__init__  # type: ignore[misc]
        self.shared = _shared_names(kind)

    def __del__(self) -> None:
        for place in list(self.places):
            states = place()
            if states is not None:
                states.pop(self.number, None)


_shared: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def _shared_names(kind: type) -> frozenset[str]:
    names = _shared.get(kind)
    if names is None:
        names = frozenset(
            name
            for parent in kind.__mro__
            for name, member in vars(parent).items()
            if hasattr(type(member), "__set__") or hasattr(type(member), "__delete__")
        ) | {"__dict__"}
        _shared[kind] = names
    return names


class local:
    """An object whose attributes each greenlet sets and sees for itself.

    A subclass may have an `__init__`: it runs again, with the same arguments, in each greenlet that uses the object.
    Its `__slots__` are shared by all greenlets.

    Raises:
        TypeError: arguments, and no `__init__` of the subclass's that takes them.

    Example:
        >>> data = local()
        >>> data.user = "ann"  # for this greenlet
    """

    __slots__ = ("__key", "__weakref__")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"Initialization arguments are not supported: {cls.__name__} has no __init__")
        made = object.__new__(cls)
        key = _Key(cls, args, kwargs)
        _set(made, "_local__key", key)
        _add_state(key, _owner())  # `__init__` runs next, here
        return made

    def __getattribute__(self, name: str) -> Any:
        current: Any = _current()
        if current.__class__ is Runner:
            task = current.task
            current = task if task is not None else Greenlet.borrow(current)
        key = _key_of(self)
        try:
            state = current._locals[key.number]
        except _MISSING:
            state = _first_state(self, key, current)
        if name in state:
            return state[name]
        if name == "__dict__":
            return state
        return _get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        key, state = _key_and_state(self)
        if name not in key.shared:
            state[name] = value
            return
        if name == "__dict__":
            raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
        _set(self, name, value)

    def __delattr__(self, name: str) -> None:
        key, state = _key_and_state(self)
        if name in key.shared:
            if name == "__dict__":
                raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
            _delete(self, name)
        elif name in state:
            del state[name]
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __copy__(self) -> Any:
        """Returns another local, which has what this greenlet has in this one."""
        key, state = _key_and_state(self)
        copy = type(self).__new__(type(self), *key.args, **key.kwargs)
        copy.__dict__.update(state)
        return copy

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: pickle its __dict__ instead")


_key_of = vars(local)["_local__key"].__get__


def _owner() -> Any:
    """Returns what attributes belong to now."""
    current: Any = _current()
    if current.__class__ is Runner:
        task = current.task
        return task if task is not None else Greenlet.borrow(current)
    return current


def _key_and_state(of: local) -> tuple[_Key, dict[str, Any]]:
    current = _owner()
    key: _Key = _key_of(of)
    try:
        return key, current._locals[key.number]
    except _MISSING:
        return key, _first_state(of, key, current)


def _first_state(of: local, key: _Key, current: Any) -> dict[str, Any]:
    """Makes the dict of a greenlet that uses the local for the first time."""
    if key.last is not None and key.last[0] is current:
        return key.last[1]
    state = _add_state(key, current)
    if key.reruns:
        try:
            type(of).__init__(of, *key.args, **key.kwargs)
        except BaseException:
            current._locals.pop(key.number, None)  # next time it is tried again
            raise
    return state


def _add_state(key: _Key, current: Any) -> dict[str, Any]:
    states = getattr(current, "_locals", None)
    if states is None:
        states = States()
        current._locals = states
    key.places.add(ref(states, key.places.discard))
    state: dict[str, Any] = {}
    states[key.number] = state
    return state


def _at_exit() -> None:
    """The main greenlet is never freed: from here on its attributes are held by the locals, which are."""
    current: Any = _current()
    states = getattr(current, "_locals", None)
    if current.parent is None and states is not None:
        for key in list(_keys):
            state = states.pop(key.number, None)
            if state is not None:
                key.last = current, state


atexit.register(_at_exit)
