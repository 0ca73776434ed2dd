"""What groups, pools and thread pools share: map and apply, in their variants."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.joining import joinall
from streamserve.pool.imap import IMap, IMapUnordered


class Mapping:
    """Calls of functions over many items, on top of `spawn`."""

    __slots__ = ()

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Begins a call; returns what has `get`, `ready` and `rawlink`. May wait for room."""
        raise NotImplementedError

    def _called_from_member(self) -> bool:
        """True in a call that this pool runs: waiting for room there could wait for itself."""
        raise NotImplementedError

    def _must_not_spawn(self) -> bool:
        """True if `spawn` would wait, or gives no greenlet."""
        return True

    def _feeding(self, feeder: Greenlet, awaited: bool) -> Greenlet:
        """A greenlet begins that will spawn calls by itself; returns it. `awaited`: by `join`, too."""
        return feeder

    def _following(self, follower: Greenlet) -> Greenlet:
        """A greenlet begins that only calls a callback; returns it."""
        return follower

    # ---- one call

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] | None = None, kwds: dict[str, Any] | None = None
    ) -> Any:
        """Calls the function in the pool and returns its result, or raises its exception.

        Called from a member of the same pool it calls the function at once, on the spot.
        """
        if self._called_from_member():
            return func(*(args or ()), **(kwds or {}))
        return self._result_of(func, args or (), kwds or {})

    def _result_of(self, func: Callable[..., Any], args: Iterable[Any], kwds: dict[str, Any]) -> Any:
        return self.spawn(func, *args, **kwds).get()

    def apply_cb(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> Any:
        """`apply`; then has the callback called with the result, in a greenlet of its own."""
        result = self.apply(func, args, kwds)
        if callback is not None:
            self._following(Greenlet.spawn(callback, result))
        return result

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> Greenlet:
        """Like `apply_cb`, but returns a greenlet at once, whose value will be the result.

        It never waits: if the pool is full, the greenlet that waits for room is not one of its members.
        """
        if self._must_not_spawn():
            return self._feeding(Greenlet.spawn(self.apply_cb, func, args, kwds, callback), True)
        greenlet: Greenlet = self.spawn(func, *(args or ()), **(kwds or {}))
        if callback is not None:
            follower = self._following(Greenlet(_call_back, greenlet, callback))
            greenlet.rawlink(lambda _: follower.start())
        return greenlet

    # ---- many calls

    def map(self, func: Callable[..., Any], iterable: Iterable[Any]) -> list[Any]:
        """Calls the function with each item; returns the results in the order of the items.

        The first exception of a call, in that order, is raised; calls that were begun go on.
        """
        spawn = self.spawn
        tasks = deque([spawn(func, item) for item in iterable])
        results = []
        while tasks:  # what raises is in no variable here: its traceback holds this frame, and it its error
            results.append(tasks.popleft().get())
        return results

    def map_cb(
        self, func: Callable[..., Any], iterable: Iterable[Any], callback: Callable[[list[Any]], Any] | None = None
    ) -> list[Any]:
        """`map`; then calls the callback with the list."""
        result = self.map(func, iterable)
        if callback is not None:
            callback(result)
        return result

    def map_async(
        self, func: Callable[..., Any], iterable: Iterable[Any], callback: Callable[[list[Any]], Any] | None = None
    ) -> Greenlet:
        """`map_cb` in a greenlet, which is returned; its value will be the list."""
        return self._feeding(Greenlet.spawn(self.map_cb, func, iterable, callback), True)

    def imap(self, func: Callable[..., Any], *iterables: Iterable[Any], maxsize: int | None = None) -> IMap:
        """Returns an iterator over the results, in the order of the items.

        Args:
            func: called with one item of each iterable, until the shortest ends.
            maxsize: most calls begun whose results were not taken yet; None: the pool's size alone decides.

        An exception of a call is raised where its result would come; the iteration can go on after it.
        """
        _check_callable(func)
        feeder = IMap(self.spawn, func, zip(*iterables, strict=False), maxsize)
        feeder.start()
        self._feeding(feeder, False)
        return feeder

    def imap_unordered(
        self, func: Callable[..., Any], *iterables: Iterable[Any], maxsize: int | None = None
    ) -> IMapUnordered:
        """Like `imap`, with each result as soon as it is there."""
        _check_callable(func)
        feeder = IMapUnordered(self.spawn, func, zip(*iterables, strict=False), maxsize)
        feeder.start()
        self._feeding(feeder, False)
        return feeder


def wait_with(followers: WeakSet[Greenlet], wait: Callable[[], object]) -> None:
    """Waits as `wait` does, and for what follows; who calls this from a callback does not wait for that one."""
    wait()
    own = getcurrent() if followers else None
    while following := [each for each in followers if each is not own and not each.ready()]:
        joinall(following)
        wait()


def _call_back(call: Any, callback: Callable[[Any], Any]) -> None:
    """Calls the callback with the value of the call, if it ended with one."""
    if call.successful():
        callback(call.value)


def _check_callable(function: Any) -> None:
    if not callable(function):  # said here, where the mistake is, not in the greenlet that feeds
        raise TypeError(f"a function is needed, not {function!r}")
