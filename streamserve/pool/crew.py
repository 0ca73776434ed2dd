"""Crew: the native threads of a pool, what they have to do, and how many they are.

Counts change in straight lines of code, which CPython does not interrupt, and each
is changed before the look that depends on it: a thread that ends for lack of work
first leaves the count, then looks for work once more; whoever adds work adds it first,
then looks at the count. So no work is left without a thread.
"""

from __future__ import annotations

from _queue import Empty as NothingToDo
from _queue import SimpleQueue as NativeQueue
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.native_threads import get_ident, start_new_thread, thread_serves, thread_works
from streamserve.loop.waiter import Waiter
from streamserve.pool.slots import Slots
from streamserve.pool.task_queue import TaskQueue
from streamserve.sync.result import AsyncResult

EXIT_PATIENCE = 1.0
"""Seconds that the interpreter's end waits at most for an idle thread to end."""


class Task:
    """One call, and its result."""

    __slots__ = ("args", "function", "hub", "kwargs", "result")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], hub: Hub | None
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.hub = hub
        """Where a failure is reported; None: nowhere."""
        self.result = AsyncResult()

    def run(self) -> tuple[Any, BaseException | None]:
        """Calls the function; returns its value and None, or None and what it raised."""
        try:
            return Context().run(self.function, *self.args, **self.kwargs), None
        except BaseException as error:
            trace = error.__traceback__
            error.__traceback__ = trace.tb_next if trace is not None else None
            del trace
            return None, error
        finally:
            del self  # the frames of the traceback lead back here, and the result has the error

    def report(self, error: BaseException) -> None:
        hub = self.hub
        if hub is not None and isinstance(error, Exception) and not hub.destroyed:
            hub.run_callback_threadsafe(hub.handle_error, self.function, type(error), error, error.__traceback__)


class Crew:
    """The threads of one pool.

    Args:
        idle_seconds: after how long a thread without work ends; None: never.
        slots: one is given back for each finished call.

    Attributes:
        size: how many threads there are, without those that are told to end.
        alive: how many there are.
        unfinished: calls whose results are not set.
        idents: of the threads.
        ended: how many threads have ended.
        gone: at the interpreter's end: each thread puts something there when it ends.
    """

    __slots__ = ("_joiners", "_leavers", "_open", "_tasks", "alive", "ended", "gone", "idents", "idle_seconds", "size",
                 "slots", "unfinished")  # fmt: skip

    def __init__(self, idle_seconds: float | None, slots: Slots) -> None:
        self.idle_seconds = idle_seconds
        self.slots = slots
        self.size = self.alive = self.ended = self.unfinished = 0
        self._open = 0  # calls that `wait_finished` waits for: their results are set before they leave this count
        self.idents: set[int] = set()
        self.gone: NativeQueue[None] | None = None
        self._tasks: TaskQueue[Task | None] = TaskQueue()  # None: a thread is to end
        self._joiners: deque[Waiter] = deque()
        self._leavers: deque[Waiter] = deque()

    # ---- from outside

    def put(self, task: Task) -> None:
        """Queues a call."""
        self.unfinished += 1
        self._open += 1
        thread_works()
        self._tasks.put(task)

    def start_thread(self) -> None:
        """Starts a thread.

        Raises:
            RuntimeError: it cannot be started.
        """
        self.size += 1
        self.alive += 1
        try:
            start_new_thread(self._work, ())
        except BaseException:
            self.size -= 1
            self.alive -= 1
            raise

    def start_needed_thread(self) -> None:
        """Starts a thread for a call that was just queued.

        Raises:
            RuntimeError: it cannot be started, and there is no other; the call is not queued any more.
        """
        try:
            self.start_thread()
        except RuntimeError:
            if self.size > 0:
                return
            with suppress(NothingToDo):
                self._tasks.get(0)
                self.unfinished -= 1
                self._discount()
            raise

    def dismiss(self, number: int) -> None:
        """Has so many threads end, after the work that is queued."""
        for _ in range(number):
            self.size -= 1
            thread_works()
            self._tasks.put(None)

    def wait_finished(self) -> None:
        """Waits until no call is left."""
        if self._open > 0:
            _wait_in(self._joiners, self._tell_joiners)

    def wait_gone(self) -> None:
        """Waits until as many threads have ended as there are now: those that start meanwhile stay."""
        last = self.ended + self.alive

        def tell() -> None:
            if self.ended >= last:
                _wake_all(self._leavers)

        while self.ended < last:
            _wait_in(self._leavers, tell)

    def wait_gone_natively(self, number: int) -> None:
        """Waits, without the loop, until so many threads have ended."""
        for _ in range(number):
            try:
                self.gone.get(timeout=EXIT_PATIENCE)  # type: ignore[union-attr]
            except NothingToDo:
                return

    def _tell_joiners(self) -> None:
        if self._open <= 0:
            _wake_all(self._joiners)

    # ---- in the threads

    def _work(self) -> None:
        ident = get_ident()
        self.idents.add(ident)
        thread_serves()
        try:
            while (task := self._next_task()) is not None:
                self._finish(task)
                del task
        finally:
            self.idents.discard(ident)
            self.alive -= 1
            self.ended += 1
            _wake_all(self._leavers)
            if self.gone is not None:
                self.gone.put(None)

    def _next_task(self) -> Task | None:
        """Waits for work; None if this thread is to end."""
        try:
            return self._tasks.get(self.idle_seconds)
        except NothingToDo:
            thread_works()
            self.size -= 1
        try:
            task = self._tasks.get(0)
        except NothingToDo:
            return None
        self.size += 1
        thread_serves()
        return task

    def _finish(self, task: Task) -> None:
        value, error = task.run()
        self.unfinished -= 1  # before its result is known, so that whoever has got it finds the call gone
        result = task.result
        try:
            if error is None:
                result.set(value)
            else:
                result.set_exception(error, (type(error), error, error.__traceback__))
                task.report(error)
        finally:
            del task, value, error, result  # as in Task.run
            self._discount()

    def _discount(self) -> None:
        """One call less."""
        self.slots.release()
        self._open -= 1
        thread_serves()
        self._tell_joiners()


def _wait_in(line: deque[Waiter], tell: Callable[[], None]) -> None:
    waiter = Waiter(get_hub())
    line.append(waiter)
    tell()  # it may have come true since the caller looked
    try:
        waiter.park()
    finally:
        if waiter in line:
            line.remove(waiter)


def _wake_all(line: deque[Waiter]) -> None:
    while line:
        try:
            line.popleft().wake_threadsafe()
        except IndexError:
            return
