"""The queues that programs use: tasks can be counted, and the order chosen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from heapq import heappop, heappush, heappushpop
from queue import Empty, Full
from typing import Any

from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter
from streamserve.sync.channel import Channel
from streamserve.sync.line import park_within
from streamserve.sync.section import Chooser, Getter, Turn
from streamserve.sync.simple_queue import SimpleQueue
from streamserve.sync.storage import ShutDown

__all__ = [
    "Channel",
    "Empty",
    "Full",
    "JoinableQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "ShutDown",
    "SimpleQueue",
]


class Queue(SimpleQueue):
    """A first-in, first-out queue whose items are counted as tasks: `task_done`, `join`, `shutdown`."""

    __slots__ = ("_joiners",)

    def __init__(self, maxsize: int | None = None, items: Iterable[Any] = ()) -> None:
        self._joiners: deque[Waiter] = deque()
        super().__init__(maxsize, items)

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put for which `task_done` was not called."""
        return self._unfinished

    @unfinished_tasks.setter
    def unfinished_tasks(self, number: int) -> None:
        self._unfinished = number
        self._tell_joiners()

    def task_done(self) -> None:
        """The work that an item stood for is done.

        Raises:
            ValueError: it was called more often than items were put.
        """
        left = self._unfinished - 1
        if left < 0:
            raise ValueError("task_done() called too many times")
        self._unfinished = left
        if not left:
            self._tell_joiners()

    def _tell_joiners(self) -> None:
        while self._joiners and self._unfinished <= 0:
            try:
                self._joiners.popleft().wake_threadsafe()
            except IndexError:
                return

    def join(self, timeout: Any = None) -> bool:
        """Waits until `task_done` was called for every item; False if `timeout` seconds passed first."""
        if self._unfinished <= 0:
            return True
        waiter = Waiter(get_hub())
        self._joiners.append(waiter)
        self._tell_joiners()  # the last may have been done since we looked
        try:
            return park_within(waiter, timeout) or waiter not in self._joiners
        finally:
            if waiter in self._joiners:
                self._joiners.remove(waiter)

    def shutdown(self, immediate: bool = False) -> None:
        """Has `put` raise ShutDown from now on, and `get` as soon as the queue is empty; also in those who wait.

        Args:
            immediate: drop the items that it holds; each counts as done.
        """
        self.is_shutdown = True
        self._open = False
        entered = self._enter()
        try:
            while immediate and self._qsize():
                with suppress(IndexError):  # another thread took it
                    self._get()
                if self._unfinished > 0:
                    self._unfinished -= 1
        finally:
            if entered:
                self._leave()
            else:
                self._again = True
        self._tell_joiners()

    def _describe(self) -> str:
        return super()._describe() + (f" tasks={self._unfinished}" if self._unfinished else "")


JoinableQueue = Queue


class _Ordered(Queue):
    """A queue that gives the best item first; those who waited take the best of what is there when they run."""

    __slots__ = ("_given",)
    _storage_is_ours = True

    def __init__(self, maxsize: int | None = None, items: Iterable[Any] = ()) -> None:
        self._given: deque[Turn] = deque()
        super().__init__(maxsize, items)

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _new_getter(self, kind: type[Getter]) -> Turn:
        if kind is not Getter or not self._stock:
            return super()._new_getter(kind)
        turn = Chooser(get_hub())
        turn.given = self._given
        return turn

    def _choose(self, turn: Turn, later: list[Turn]) -> Any:
        """What the turn takes: its own item, one of those who were given theirs later, or one of the queue."""
        raise NotImplementedError

    def _best(self, turn: Turn) -> Any:
        if type(turn) is not Chooser:
            return turn.item
        entered = self._enter()
        try:
            later = self._leave_given(turn)
            # This thread may be inside already, further out: what is there may be half done.
            return self._choose(turn, later) if entered else turn.item
        finally:
            if entered:
                self._leave()

    def _leave_given(self, turn: Turn) -> list[Turn]:
        """The turn's item is its own from here on. Returns who was given one later and has not run since."""
        turns = [*self._given]
        self._given.remove(turn)
        return turns[turns.index(turn) + 1 :]


class PriorityQueue(_Ordered):
    """A queue that gives the least item first."""

    __slots__ = ()
    _storage_is_atomic = False
    _storage_is_ours = True

    def _put(self, item: Any) -> None:
        heappush(self.queue, item)

    def _get(self) -> Any:
        return heappop(self.queue)

    def _choose(self, turn: Turn, later: list[Turn]) -> Any:
        for other in later:
            # Comparing may call functions of the items, and those let the other one run.
            if other.item < turn.item and other in self._given:
                other.item, turn.item = turn.item, other.item
        return heappushpop(self.queue, turn.item)

    def _put_back(self, turn: Turn) -> None:
        if type(turn) is Chooser:
            self._leave_given(turn)
        super()._put_back(turn)

    # The short ways of the two ends: comparing items may call functions of theirs, so both are inside the section.

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item; see `Queue.put`."""
        me = get_ident()
        if self._owner or self._limit is not None or self.is_shutdown or not self._stock:
            self._put_inside(item, block, timeout)
            return
        self._owner = me
        try:
            heappush(self.queue, item)
            self._unfinished += 1
        finally:
            if self._getters or self._late:
                self._leave()
            else:
                self._owner = 0

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Removes the least item and returns it; see `Queue.get`."""
        me = get_ident()
        if self._owner or not self._stock or not self.queue:
            return self._get_inside(block, timeout)
        self._owner = me
        try:
            return heappop(self.queue)
        finally:
            if self._getters or self._putters or self._late:
                self._leave()
            else:
                self._owner = 0


class LifoQueue(_Ordered):
    """A queue that gives the youngest item first."""

    __slots__ = ()
    _storage_is_ours = True

    def _get(self) -> Any:
        return self.queue.pop()

    def _peek(self) -> Any:
        return self.queue[-1]

    def _choose(self, turn: Turn, later: list[Turn]) -> Any:
        self._take_youngest(turn, later)
        try:
            best = self.queue.pop()
        except IndexError:
            return turn.item
        self.queue.insert(0, turn.item)  # whoever was given an item found the queue empty: what is there came later
        return best

    def _take_youngest(self, turn: Turn, later: list[Turn]) -> None:
        """Exchanges its item with each of the later ones, so that theirs stay in the order in which they came."""
        for other in later:
            if other in self._given:
                other.item, turn.item = turn.item, other.item

    def _put_back(self, turn: Turn) -> None:
        if type(turn) is not Chooser:
            self._put(turn.item)
            return
        self._take_youngest(turn, self._leave_given(turn))
        self.queue.insert(0, turn.item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Removes the youngest item and returns it; see `Queue.get`."""
        if self._plain and self.queue:
            try:
                item = self.queue.pop()
            except IndexError:
                return self._get_inside(block, timeout)
            if self._putters:
                self._settle()
            return item
        return self._get_inside(block, timeout)
