"""What a queue holds, how much of it, and the parts of a queue where nobody waits."""

from __future__ import annotations

import queue as _stdlib
from collections import deque
from collections.abc import Iterable
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from streamserve.sync.section import Section, Turn

if TYPE_CHECKING or not hasattr(_stdlib, "ShutDown"):

    class ShutDown(Exception):
        """Raised by put, and by get when nothing is left, once the queue was shut down (stdlib's from 3.13 on)."""

else:
    ShutDown = _stdlib.ShutDown


_STORAGE = ("_init", "_put", "_get", "_peek", "_qsize")


class Storage(Section):
    """The items of a queue, who waits for them, and how many there may be.

    Args:
        maxsize: most items it holds; None, zero and below: no limit.
        items: what it holds at first, be it more than maxsize.

    A subclass may override `_init(maxsize)`, `_put(item)`, `_get()`, `_peek()` and `_qsize()` to store items
    its own way; no two of them run at a time.
    """

    __slots__ = ("__dict__", "__weakref__", "_getters", "_late", "_limit", "_open", "_plain", "_putters",
                 "_stock", "_unfinished", "is_shutdown", "queue")  # fmt: skip

    queue: Any
    """Where the items are."""
    is_shutdown: bool
    _stock: bool
    """No class of a user's overrides how items are stored: `queue` may be used directly."""
    _plain: bool
    """And putting and getting is one step each, without the section."""
    _open: bool
    """Plain, without a limit, and not shut down: the short way."""

    _storage_is_ours = True
    _storage_is_atomic = True

    def __init__(self, maxsize: int | None = None, items: Iterable[Any] = ()) -> None:
        self._owner = self._unfinished = 0
        self._again = self.is_shutdown = False
        self._getters: deque[Turn] = deque()
        self._putters: deque[Turn] = deque()
        self._late: deque[Any] = deque()
        self._stock = self._storage_is_ours
        self._plain = self._stock and self._storage_is_atomic
        self._limit: int | None = None
        self._set_limit(maxsize)
        self._init(self._limit or 0)
        for item in items:
            self._put(item)
            self._unfinished += 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_storage_is_ours" not in cls.__dict__ and any(name in cls.__dict__ for name in _STORAGE):
            cls._storage_is_ours = False

    # ---- the storage

    def _init(self, maxsize: int) -> None:
        self.queue = deque()

    def _put(self, item: Any) -> None:
        self.queue.append(item)

    def _get(self) -> Any:
        return self.queue.popleft()

    def _peek(self) -> Any:
        return self.queue[0]

    def _qsize(self) -> int:
        return len(self.queue)

    def _put_back(self, turn: Turn) -> None:
        """Takes back what was given to a greenlet which has been killed."""
        item, turn.item = turn.item, None
        if self._plain:
            self.queue.appendleft(item)
        else:
            self._put(item)

    # ---- sizes

    def _set_limit(self, maxsize: int | None) -> None:
        self._limit = None if maxsize is None or maxsize <= 0 else maxsize
        self._open = self._plain and self._limit is None and not self.is_shutdown

    @property
    def maxsize(self) -> int | None:
        """Most items it holds, or None. Those who wait to put take new room at once."""
        return self._limit

    @maxsize.setter
    def maxsize(self, maxsize: int | None) -> None:
        self._set_limit(maxsize)
        self._settle()

    def qsize(self) -> int:
        """How many items it holds."""
        return self._qsize()

    def __len__(self) -> int:
        return self._qsize()

    def __bool__(self) -> bool:
        """True, also when it is empty."""
        return True

    def empty(self) -> bool:
        """True if it holds nothing."""
        return not self._qsize()

    def full(self) -> bool:
        """True if `put` would wait."""
        return not self._has_room()

    def _has_room(self) -> bool:
        return self._limit is None or self._qsize() < self._limit

    # ---- the rest

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Removes an item and returns it; SimpleQueue's."""
        raise NotImplementedError

    def copy(self) -> Any:
        """Returns a queue of the same kind with the same items."""
        return type(self)(self._limit, list(self.queue))

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        """`get`; an item StopIteration ends the iteration."""
        item = self.get()
        if item is StopIteration:
            raise item
        return item

    next = __next__

    __class_getitem__: Any = classmethod(GenericAlias)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}{self._describe()}>"

    def _describe(self) -> str:
        limit = f" maxsize={self._limit}" if self._limit is not None else ""
        waiting = "".join(
            f" {name}[{len(line)}]" for name, line in (("getters", self._getters), ("putters", self._putters)) if line
        )
        return f"{limit} queue={self.queue!r:.200}{waiting}{' shut down' if self.is_shutdown else ''}"
