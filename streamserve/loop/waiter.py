"""The one place that switches greenlets.

Everything that waits makes a Waiter, hands it to whoever will end the wait, and
calls `park`. The other side calls `wake` or `fail`, once; later calls do nothing.
A woken greenlet stands in `hub.ready` exactly once and leaves `park` only by
being taken from there, so nothing in that queue is ever stale. An exception for
a parked greenlet (a kill, a Timeout) is therefore never thrown into it: it is
handed to its waiter, or kept until its next park when it is on its way already.

A greenlet that parks does not go through the hub when the next ready item is a
parked greenlet too: it switches there directly, which saves a switch. The
hub's `budget` bounds how often, so that the poll gets its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import error as GreenletError
from greenlet import getcurrent
from greenlet import greenlet as RawGreenlet

from streamserve.errors import BlockingSwitchOutError, HubDestroyed
from streamserve.loop.native_threads import get_ident

if TYPE_CHECKING:
    from streamserve.loop.hub import Hub
    from streamserve.loop.identities import Identity


class Runner(RawGreenlet):
    """A reusable greenlet that runs one item after another (see runner.py).

    `item` is what to run next, `task` the Greenlet whose code runs now (if
    anybody asked), `job` the connection whose request it serves, or served last,
    `identity` which thread that is (see identities.py), `waiter` where it is parked.

    `go` is its `switch`, and what others switch to it by: a greenlet that called `runner.switch()` would hold
    the runner for as long as it is parked, and nobody could tell by `alone`, the count of references that a
    runner has of its own, whether the program holds it. `attributes` is its `__dict__`.
    """

    __slots__ = ("alone", "attributes", "go", "hub", "identity", "item", "job", "task", "waiter")
    alone: int
    attributes: dict[str, Any]
    go: Any
    hub: Hub
    identity: Identity | None
    item: Any
    job: int
    task: Any
    waiter: Waiter | None


def switch_out(hub: Hub) -> None:
    """Leaves the current greenlet; returns when somebody takes it from `hub.ready`.

    What is ready next is switched to from here when it needs nothing of the hub: a
    woken greenlet, or an item for which a runner stands idle.
    """
    ready = hub.ready
    try:
        if not ready or hub.budget <= 0:
            hub.switch()
            return
        kind = ready[0].__class__
        if kind is tuple:
            if not hub.idle_runners:
                hub.switch()
                return
            hub.budget -= 1
            runner = hub.idle_runners.pop()
            runner.item = ready.popleft()
            if runner is not getcurrent():
                go = runner.go
                del runner
                go()
        elif kind is Runner:
            hub.budget -= 1
            runner = ready.popleft()
            if runner is not getcurrent():
                go = runner.go
                del runner
                go()
        elif issubclass(kind, RawGreenlet):
            hub.budget -= 1
            following = ready.popleft()
            if following is not getcurrent():
                following.switch()
        else:
            hub.switch()
    except GreenletError:
        hub.reach()


def yield_turn(hub: Hub) -> None:
    """Lets everything that is ready now run first (`sleep(0)`)."""
    current: Any = getcurrent()
    if current is hub:
        raise BlockingSwitchOutError("sleep(0) was called in the hub: spawn a greenlet for code that waits")
    if hub.interrupts:
        hub.raise_interrupt(current)
    hub.ready.append(current)
    switch_out(hub)


SIGNALLED = BaseException("a signal arrived")
"""The error of a wait after, or amid, which the functions of signals are to be called; it is not raised."""

EXPIRED = False
"""What a wait gives whose time was up: `wake` gives None or something else that counts."""


class Waiter:
    """One wait of one greenlet: `park` here, `wake` or `fail` from elsewhere.

    `wake` and `fail` must be called in the thread of the hub; `wake_threadsafe`
    may be called in any, in a signal handler and in a finalizer.
    """

    __slots__ = ("done", "error", "greenlet", "hub", "value")

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.greenlet: Any = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def park(self) -> Any:
        """Waits. Returns the value given to `wake`, or raises what `fail` was given."""
        hub = self.hub
        current: Any = getcurrent()
        if current is hub:
            raise BlockingSwitchOutError("the hub cannot wait: spawn a greenlet for code that waits")
        if hub.interrupts:
            hub.raise_interrupt(current)
        if not self.done:
            self.greenlet = current
            current.waiter = self
            ready = hub.ready
            if ready and hub.budget > 0 and ready[0].__class__ is Runner:  # the common case of `switch_out`
                hub.budget -= 1
                following = ready.popleft()
                if following is not current:
                    go = following.go
                    del following
                    try:
                        go()
                    except GreenletError:
                        hub.reach()
            else:
                switch_out(hub)
            while not self.done:  # somebody switched here by hand, or a signal arrived
                if hub.dead:
                    hub.destroy()  # so that the next wait has a hub of its own
                    raise HubDestroyed(hub)
                if hub.interrupts:
                    self._be_interrupted(current)
                else:
                    switch_out(hub)
            current.waiter = None
        if self.error is not None and (self.error is not SIGNALLED or self._signalled(current)):
            self.greenlet = None
            del current  # whoever keeps the traceback holds this frame, and is not to hold the greenlet
            raise self._take_error()
        return self.value

    def _signalled(self, current: Any) -> bool:
        """Calls the functions of signals; True if that leaves something to raise."""
        self.error = None
        try:
            self.hub.raise_interrupt(current)
        except BaseException as error:
            self.signal_failed(error)
        return self.error is not None

    def _be_interrupted(self, current: Any) -> None:
        """Calls the functions of signals on top of this wait, whose end is what they raise; they may wait, too."""
        hub = self.hub
        self._signalled(current)
        current.waiter = self
        if self.done:
            if current in hub.ready:  # where the end of this wait put it
                hub.ready.remove(current)
        else:
            switch_out(hub)

    def signal_failed(self, error: BaseException) -> None:
        """The function of a signal raised this on top of the wait."""
        self.error = error  # also where something was given meanwhile: whoever parks passes it on
        self.done = True

    def park_for(self, seconds: float | None) -> bool:
        """Waits at most so many seconds (None: as long as it takes); False if the time was up."""
        if seconds is None:
            self.park()
            return True
        hub = self.hub
        slot = hub.start_timer(seconds, self)
        try:
            return self.park() is not EXPIRED
        finally:
            hub.stop_timer(slot, self)

    def _take_error(self) -> BaseException:
        """Gives the error away: a frame of its traceback that holds it would make a cycle."""
        error, self.error = self.error, None
        assert error is not None
        return error

    def wake(self, value: Any = None) -> bool:
        """Ends the wait with a value; False if it had ended already."""
        if self.done:
            return False
        self.done = True
        self.value = value
        if self.greenlet is not None:
            self.hub.ready.append(self.greenlet)
        return True

    def wake_threadsafe(self, value: Any = None) -> None:
        """Ends the wait with a value, from any native thread, signal handler or finalizer."""
        hub = self.hub
        if hub.thread_ident == get_ident():
            self.wake(value)
        else:
            hub.run_callback_threadsafe(self.wake, value)

    def fire(self) -> None:
        """The time is up; called by the hub."""
        self.wake(EXPIRED)

    def fail(self, error: BaseException) -> bool:
        """Ends the wait with an exception; False if it had ended already."""
        if self.done:
            return False
        self.error = error
        return self.wake()


class ServingWaiter(Waiter):
    """The wait for the end of a server: an error in a signal's function does not end it."""

    __slots__ = ()

    def signal_failed(self, error: BaseException) -> None:
        """Reports it, unless it is what ends programs."""
        if isinstance(error, Exception):
            self.hub.report(error, self)
        else:
            super().signal_failed(error)
