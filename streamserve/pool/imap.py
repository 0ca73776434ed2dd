"""The iterators of `imap` and `imap_unordered`, which are greenlets that feed a pool.

The greenlet takes items of the iterable and spawns a call for each; the iterator gives
what the calls return. At most `maxsize` calls are begun whose results were not taken yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub
from streamserve.loop.links import DIRECT_LINKS
from streamserve.loop.waiter import Waiter
from streamserve.pool.slots import Slots


class _Feeder(Greenlet):
    """Feeds a pool, and gives the finished tasks in some order.

    Args:
        spawn: begins a call and returns its Greenlet or AsyncResult; may wait.
        function: what to call.
        arguments: a tuple of positional arguments for each call.
        maxsize: most calls begun and not taken yet; None or 0: no limit.
    """

    __slots__ = ("_arguments", "_consumers", "_ended", "_failure", "_function", "_slots", "_spawn")

    def __init__(
        self,
        spawn: Callable[..., Any],
        function: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        maxsize: int | None = None,
    ) -> None:
        super().__init__()
        self._run = self._feed
        self._spawn = spawn
        self._function = function
        self._arguments = arguments
        self._slots = Slots(maxsize) if maxsize else None
        self._consumers: deque[Waiter] = deque()
        self._failure: Exception | None = None
        self._ended = False

    def _feed(self) -> None:
        spawn, function, slots = self._spawn, self._function, self._slots
        try:
            for arguments in self._arguments:
                if slots is not None:
                    slots.acquire()
                self._begun(spawn(function, *arguments))
        except Exception as error:  # of the iterable: for whoever iterates, after the results of what was begun
            self._failure = error

    def _finish(self, state: int) -> None:  # also of one that was killed before it began
        self._ended = True
        self._arguments = ()
        super()._finish(state)
        self._notify_all()

    def _begun(self, task: Any) -> None:
        """A call was spawned."""
        raise NotImplementedError

    def _next_task(self) -> Any:
        """The next task to give, or None if the feeder has to come first."""
        raise NotImplementedError

    def _left(self) -> bool:
        """True while tasks are begun and not finished."""
        raise NotImplementedError

    def _notify(self) -> None:
        if self._consumers:
            self._consumers.popleft().wake()

    def _notify_all(self) -> None:
        while self._consumers:
            self._consumers.popleft().wake()

    def __iter__(self) -> _Feeder:
        return self

    def __next__(self) -> Any:
        while (task := self._next_task()) is None:
            if self._ended and not self._left():
                failure, self._failure = self._failure, None
                if failure is None:
                    raise StopIteration
                try:
                    raise failure
                finally:
                    del failure  # its traceback holds this frame
            waiter = Waiter(get_hub())
            self._consumers.append(waiter)
            try:
                waiter.park()
            except BaseException:
                if waiter in self._consumers:
                    self._consumers.remove(waiter)
                else:  # it was woken for a task that another can take
                    self._notify()
                raise
        if self._slots is not None:
            self._slots.release()
        try:
            return task.get()
        finally:
            del task  # which keeps the error, whose traceback holds this frame

    next = __next__


class IMap(_Feeder):
    """Gives results in the order of the items."""

    __slots__ = ("_tasks",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tasks: deque[Any] = deque()

    def _begun(self, task: Any) -> None:
        self._tasks.append(task)
        self._notify()

    def _left(self) -> bool:
        return bool(self._tasks)

    def _next_task(self) -> Any:
        if not self._tasks:
            return None
        task = self._tasks.popleft()
        if not task.ready():
            try:
                task.join() if isinstance(task, Greenlet) else task.wait()
            except BaseException:  # of the waiting greenlet: another call of `next` gets this task
                self._tasks.appendleft(task)
                raise
        return task


class IMapUnordered(_Feeder):
    """Gives results as they come."""

    __slots__ = ("_done", "_running", "_sink")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._done: deque[Any] = deque()
        self._running = 0
        self._sink = _Sink(self)

    def _begun(self, task: Any) -> None:
        self._running += 1
        task.rawlink(self._sink)

    def finished(self, task: Any) -> None:
        """One of the tasks has ended; called by its link."""
        self._running -= 1
        self._done.append(task)
        self._notify()
        if self._ended and not self._running:
            self._notify_all()

    def _left(self) -> bool:
        return self._running > 0

    def _next_task(self) -> Any:
        return self._done.popleft() if self._done else None


class _Sink:
    """The link of all tasks of an `imap_unordered`."""

    __slots__ = ("hub", "owner")

    def __init__(self, owner: IMapUnordered) -> None:
        self.hub = get_hub()
        self.owner = owner

    def wake(self, task: Any) -> None:
        self.owner.finished(task)

    __call__ = wake


DIRECT_LINKS.add(_Sink)
