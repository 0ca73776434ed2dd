"""Group and Pool: greenlets that are waited for, killed and limited together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from queue import Full
from typing import Any
from weakref import WeakSet

from greenlet import GreenletExit

from streamserve.loop.greenlet import Greenlet, getcurrent
from streamserve.loop.hub import Hub
from streamserve.loop.hubs import get_hub
from streamserve.loop.joining import joinall, kill
from streamserve.loop.links import DIRECT_LINKS
from streamserve.loop.timeout import within
from streamserve.loop.waiter import Waiter
from streamserve.pool.mapping import Mapping, wait_with
from streamserve.pool.slots import Slots

__all__ = ["Group", "Pool", "PoolFull"]


class PoolFull(Full):
    """The pool has no room (or had none in time)."""


class _Members:
    """The greenlets of a group, and the link that each of them has to it.

    It is not the group itself, so that a group is a link of nothing, and lives no longer than it is held.
    """

    __slots__ = ("dying", "feeders", "followers", "greenlets", "joiners", "slots")

    def __init__(self, slots: Slots | None) -> None:
        self.greenlets: set[Any] = set()
        self.dying: WeakSet[Any] = WeakSet()
        """Those that were killed: one that survives it is not killed again."""
        self.feeders: WeakSet[Greenlet] = WeakSet()
        """Those that spawn members by themselves, on behalf of map and apply."""
        self.followers: WeakSet[Greenlet] = WeakSet()
        """Those that `join` waits for, too: callbacks, and what will call one."""
        self.joiners: deque[Waiter] = deque()
        self.slots = slots
        """Room, one for each member; None: no limit."""

    @property
    def hub(self) -> Hub:
        """Any hub may tell it of an end."""
        return get_hub()

    def add(self, greenlet: Any) -> None:
        self.greenlets.add(greenlet)
        link_first = getattr(greenlet, "link_first", None)
        if link_first is None or not link_first(self):
            rawlink = getattr(greenlet, "rawlink", None)
            if rawlink is not None:  # a raw greenlet has no links: it stays until it is discarded
                rawlink(self)

    def wake(self, greenlet: Any) -> None:
        """A member has ended, or is one no longer."""
        greenlets = self.greenlets
        try:
            greenlets.remove(greenlet)
        except KeyError:
            return
        slots = self.slots
        if slots is not None:
            slots.release()
        if not greenlets and self.joiners:
            self.tell_joiners()

    __call__ = wake

    def end_feeders(self, exception: Any) -> list[Any]:
        """Kills those who would bring further members, and refuses those who wait for room; returns the former."""
        feeders = [feeder for feeder in self.feeders if feeder]
        for feeder in feeders:
            kill(feeder, exception)
        if self.slots is not None:
            self.slots.refuse_waiters(exception)
        return feeders

    def tell_joiners(self) -> None:
        while self.joiners and not self.greenlets:
            try:
                self.joiners.popleft().wake_threadsafe()
            except IndexError:
                return

    def wait_empty(self) -> None:
        if not self.greenlets:
            return
        waiter = Waiter(get_hub())
        self.joiners.append(waiter)
        self.tell_joiners()  # the last may have ended since we looked
        try:
            waiter.park()
        finally:
            if waiter in self.joiners:
                self.joiners.remove(waiter)


DIRECT_LINKS.add(_Members)


class Group(Mapping):
    """Greenlets that run side by side; each leaves the group when it ends. False while it has none.

    Args:
        *args: greenlets to begin with.

    Example:
        >>> group = Group()
        >>> group.map(abs, [-1, -2])
        [1, 2]
    """

    greenlet_class: Any = Greenlet

    def __init__(self, *args: Any) -> None:
        self._members = _Members(None)
        for greenlet in args[0] if len(args) == 1 and not _is_greenlet(args[0]) else args:
            self.add(greenlet)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if ("add" in cls.__dict__ or "start" in cls.__dict__) and "spawn" not in cls.__dict__:
            cls.spawn = _spawn_by_start  # type: ignore[method-assign]

    # ---- who is in it

    @property
    def greenlets(self) -> set[Any]:
        """Its members."""
        return self._members.greenlets

    def __len__(self) -> int:
        return len(self._members.greenlets)

    def __contains__(self, greenlet: Any) -> bool:
        return greenlet in self._members.greenlets

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members.greenlets.copy())

    def add(self, greenlet: Any) -> None:
        """Makes a greenlet a member until it ends."""
        if greenlet not in self._members.greenlets:
            self._members.add(greenlet)

    def discard(self, greenlet: Any) -> None:
        """Takes a greenlet out of the group; it goes on running."""
        unlink = getattr(greenlet, "unlink", None)
        if unlink is not None:
            unlink(self._members)
        self._members.wake(greenlet)

    def start(self, greenlet: Any) -> None:
        """Makes a greenlet a member and starts it."""
        self.add(greenlet)
        greenlet.start()

    def spawn(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a greenlet of `greenlet_class` with these arguments, as a member, and starts it."""
        greenlet = self.greenlet_class.spawn(*args, **kwargs)
        self._members.add(greenlet)
        return greenlet

    def full(self) -> bool:
        """True if another member would have to wait; a group has room always."""
        return False

    def wait_available(self, timeout: float | None = None) -> int:
        """Waits until there is room; a group has it always."""
        return 1

    # ---- waiting and killing

    def join(self, timeout: float | None = None, raise_error: bool = False) -> bool:
        """Waits until the group is empty, and the callbacks of its calls have ended.

        Args:
            timeout: seconds at most; then it returns False.
            raise_error: raise the first exception with which one of those ended who are members now.
        """
        members = list(self._members.greenlets) if raise_error else []
        empty = within(timeout, lambda: wait_with(self._members.followers, self._members.wait_empty))
        for greenlet in members:
            if getattr(greenlet, "exception", None) is not None:
                greenlet.get()
        return empty

    def kill(self, exception: Any = GreenletExit, block: bool = True, timeout: float | None = None) -> None:
        """Kills all members; those that did not begin never run.

        What feeds them is killed too: an `imap`, `map_async` or `apply_async` begins no further call. Whoever waits
        for room, in `spawn` or `map`, gets the exception there.

        Args:
            exception: class or instance.
            block: wait until the group is empty; members that come meanwhile are killed too.
            timeout: seconds to wait at most; then it returns, silently.
        """
        within(timeout, lambda: self._kill(exception, block))

    def _kill(self, exception: Any, block: bool) -> None:
        dying = self._members.dying
        while True:
            feeders = self._members.end_feeders(exception)
            members = [greenlet for greenlet in self if greenlet not in dying]
            for greenlet in members:
                kill(greenlet, exception)
                dying.add(greenlet)
            if not block or not (members or feeders):
                break
            joinall([greenlet for greenlet in [*members, *feeders] if hasattr(greenlet, "rawlink")])
        if block and all(hasattr(greenlet, "rawlink") for greenlet in self):
            self._members.wait_empty()

    def killone(
        self, greenlet: Any, exception: Any = GreenletExit, block: bool = True, timeout: float | None = None
    ) -> None:
        """Kills one member; without effect if it is none."""
        if greenlet not in self._members.greenlets:
            return
        if greenlet not in self._members.dying:
            self._members.dying.add(greenlet)
            kill(greenlet, exception)
        if block and hasattr(greenlet, "join"):
            greenlet.join(timeout)

    # ---- for Mapping

    def _feeding(self, feeder: Greenlet, awaited: bool) -> Greenlet:
        self._members.feeders.add(feeder)
        return self._following(feeder) if awaited else feeder

    def _following(self, follower: Greenlet) -> Greenlet:
        self._members.followers.add(follower)
        return follower

    def _called_from_member(self) -> bool:
        return getcurrent() in self._members.greenlets

    def _must_not_spawn(self) -> bool:
        return self.full()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self._members.greenlets!r:.200}>"


class Pool(Group):
    """A group with a limit: who would be one member too many waits, in the order of asking.

    Args:
        size: most members; None: no limit; 0: nobody ever gets in.
        greenlet_class: what `spawn` makes.

    Raises:
        ValueError: size is negative.
    """

    def __init__(self, size: int | None = None, greenlet_class: Any = None) -> None:
        if size is not None and size < 0:
            raise ValueError(f"size must not be negative: {size!r}")
        self.size = size
        if greenlet_class is not None:
            self.greenlet_class = greenlet_class
        super().__init__()
        if size is not None:
            self._members.slots = Slots(size)

    def full(self) -> bool:
        """True if another member would have to wait."""
        slots = self._members.slots
        return slots is not None and slots.free <= 0

    def free_count(self) -> int:
        """How many more members there is room for; 1 if there is no limit."""
        slots = self._members.slots
        return 1 if slots is None else slots.free

    def wait_available(self, timeout: float | None = None) -> int:
        """Waits until there is room, without taking it; returns how much, 0 if `timeout` seconds passed first."""
        slots = self._members.slots
        return 1 if slots is None else slots.wait(timeout)

    def add(self, greenlet: Any, blocking: bool = True, timeout: float | None = None) -> None:
        """Makes a greenlet a member until it ends; waits for room.

        Args:
            blocking: False: do not wait.
            timeout: seconds to wait at most.

        Raises:
            PoolFull: there was no room (in time).
        """
        if greenlet in self._members.greenlets:
            return
        self._take_room(blocking, timeout)
        self._members.add(greenlet)

    def start(self, greenlet: Any, blocking: bool = True, timeout: float | None = None) -> None:
        """Makes a greenlet a member and starts it; waits and raises like `add`."""
        self.add(greenlet, blocking, timeout)
        greenlet.start()

    def spawn(self, *args: Any, **kwargs: Any) -> Any:
        """Waits for room, then makes a greenlet of `greenlet_class`, as a member, and starts it."""
        self._take_room()
        try:
            greenlet = self.greenlet_class.spawn(*args, **kwargs)
        except BaseException:
            self._give_room_back()
            raise
        self._members.add(greenlet)
        return greenlet

    def _take_room(self, blocking: bool = True, timeout: float | None = None) -> None:
        slots = self._members.slots
        if slots is not None and not slots.acquire(blocking, timeout):
            raise PoolFull(f"the pool has its {self.size} members already")

    def _give_room_back(self) -> None:
        slots = self._members.slots
        if slots is not None:
            slots.release()


def _is_greenlet(candidate: Any) -> bool:
    return hasattr(candidate, "dead")


def _spawn_by_start(self: Group, *args: Any, **kwargs: Any) -> Any:
    """The `spawn` of a class that has an `add` or `start` of its own."""
    greenlet = self.greenlet_class(*args, **kwargs)
    self.start(greenlet)
    return greenlet
