"""Waiting for time and for several greenlets: sleep, wait, iwait, joinall, killall."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from greenlet import GreenletExit
from greenlet import greenlet as RawGreenlet

from streamserve.loop.failures import to_kill_by
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.hubs import get_hub
from streamserve.loop.links import DIRECT_LINKS
from streamserve.loop.timeout import Timeout
from streamserve.loop.waiter import Waiter, yield_turn

RAW_GREENLET_CHECK = 0.001
"""Seconds between two looks of `killall` at raw greenlets: they have no links to wait for."""


def sleep(seconds: float = 0, ref: bool = True) -> None:
    """Lets other greenlets run for `seconds`.

    Args:
        seconds: zero or less: only lets what is ready now run, without looking for events.
        ref: False: this wait alone does not keep the loop running.
    """
    hub = get_hub()
    if seconds <= 0:
        yield_turn(hub)
        return
    waiter = Waiter(hub)
    slot = hub.start_timer(seconds, waiter, ref)
    try:
        waiter.park()
    except BaseException:
        hub.stop_timer(slot, waiter)
        raise


def idle(priority: int = 0) -> None:
    """Waits until nothing is ready to run."""
    hub = get_hub()
    yield_turn(hub)
    while hub.ready:
        yield_turn(hub)


def spawn_raw(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs the function in a plain greenlet: no result, no links, no pooled runner."""
    hub = get_hub()
    if not callable(function):
        raise TypeError(f"The run argument must be callable, not {function!r}")
    raw = RawGreenlet(lambda: _run_raw(raw, function, args, kwargs), hub)
    raw.waiter = None  # type: ignore[attr-defined]
    hub.ready.append(raw)
    return raw


def _run_raw(raw: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    hub = get_hub()
    try:
        if hub.interrupts:
            hub.raise_interrupt(raw)
        function(*args, **kwargs)
    except BaseException as error:
        hub.report(error, raw)
    finally:
        hub.interrupts.pop(raw, None)


class _Readiness:
    """Collects objects in the order in which they become ready."""

    def __init__(self, objects: Iterable[Any], timeout: float | None, count: int | None) -> None:
        sources = list(objects)
        self.linked: list[Any] = []
        self.untold = len(sources)
        self.left = len(sources) if count is None else min(count, len(sources))
        self.found: deque[Any] = deque()
        self.hub = get_hub()
        self.waiter: Waiter | None = None
        self.enough = 1
        self.expired = False
        self.slot = self.hub.start_timer(timeout, self) if timeout is not None else -1
        try:
            for source in sources:
                if source.__class__ is not Greenlet or not source.link_first(self):
                    source.rawlink(self)
                self.linked.append(source)
        except BaseException:
            self.close()
            raise

    def wake(self, source: Any) -> None:
        self.found.append(source)
        self.untold -= 1
        if self.waiter is not None and len(self.found) >= self.enough:
            self.waiter.wake()

    __call__ = wake

    def fire(self) -> None:
        self.expired = True
        if self.waiter is not None:
            self.waiter.wake()

    def next(self) -> Any:
        if self.left > 0:
            self._wait_for(1)
        if self.left <= 0 or not self.found:
            raise StopIteration
        self.left -= 1
        return self.found.popleft()

    def rest(self) -> list[Any]:
        """What `next` would still give, waiting once for all of it."""
        self._wait_for(self.left)
        return [self.found.popleft() for _ in range(min(self.left, len(self.found)))]

    def _wait_for(self, count: int) -> None:
        self.enough = count
        while len(self.found) < count and not self.expired:
            self.waiter = Waiter(self.hub)
            try:
                self.waiter.park()
            finally:
                self.waiter = None

    def close(self) -> None:
        self.hub.stop_timer(self.slot, self)
        if self.untold:
            for source in self.linked:
                source.unlink(self)


DIRECT_LINKS.add(_Readiness)


class iwait:
    """Iterates over objects as they become ready.

    Args:
        objects: anything with rawlink and unlink: greenlets, events, results.
        timeout: seconds after which the iteration ends, silently.
        count: end after so many.

    As a context manager it forgets the rest when the block is left early.
    """

    def __init__(self, objects: Iterable[Any], timeout: float | None = None, count: int | None = None) -> None:
        self._readiness = _Readiness(objects, timeout, count)

    def __iter__(self) -> iwait:
        return self

    def __next__(self) -> Any:
        try:
            return self._readiness.next()
        except BaseException:
            self._readiness.close()
            raise

    def __enter__(self) -> iwait:
        return self

    def __exit__(self, *error: object) -> None:
        self._readiness.close()


def wait(objects: Iterable[Any] | None = None, timeout: float | None = None, count: int | None = None) -> Any:
    """Waits for objects; returns those that are ready, in order of readiness.

    Without objects: runs until nothing is left to happen; True, or False if `timeout` seconds passed first.
    """
    if objects is None:
        return get_hub().join(timeout)
    return _ready_ones(objects, timeout, count)


def _ready_ones(objects: Iterable[Any], timeout: float | None, count: int | None) -> list[Any]:
    readiness = _Readiness(objects, timeout, count)
    try:
        return readiness.rest()
    finally:
        readiness.close()


def joinall(
    greenlets: Iterable[Any], timeout: float | None = None, raise_error: bool = False, count: int | None = None
) -> list[Any]:
    """Waits for greenlets; returns those that ended.

    Args:
        timeout: seconds at most.
        raise_error: raise the first exception that one of them ended with.
        count: wait for so many only.
    """
    if not raise_error:
        return _ready_ones(greenlets, timeout, count)
    done = []
    with iwait(greenlets, timeout, count) as ready:
        for greenlet in ready:
            if getattr(greenlet, "exception", None) is not None:
                try:
                    greenlet.get()
                finally:
                    del greenlets, greenlet, ready  # the traceback holds this frame, and it has the error
            done.append(greenlet)
    return done


def kill(greenlet: Any, exception: Any = GreenletExit) -> None:
    """Kills a greenlet, also a raw one, without waiting for its end."""
    if isinstance(greenlet, Greenlet):
        greenlet.kill(exception, block=False)
    elif not greenlet.dead:
        get_hub().interrupt(greenlet, to_kill_by(exception))


def killall(
    greenlets: Iterable[Any], exception: Any = GreenletExit, block: bool = True, timeout: float | None = None
) -> None:
    """Kills greenlets; those that did not begin never run.

    Raises:
        Timeout: not all of them ended within `timeout` seconds.
    """
    victims = list(greenlets)
    for victim in victims:
        kill(victim, exception)
    ours = [victim for victim in victims if isinstance(victim, Greenlet)]
    if block:
        with Timeout.start_new(timeout):
            joinall(ours)
            yield_turn(get_hub())
            while any(not victim.dead for victim in victims):
                sleep(RAW_GREENLET_CHECK)
