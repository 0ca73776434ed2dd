"""Turns: a number of free units, and a list of who waits for one. All locks stand on it.

They are fair: a unit that is given back while somebody waits is never free, it is
handed to the first who waits, and nobody who comes later can take it first.

There is no native lock in here (sync/line.py says why, and what holds instead).
Two places carry that, and each is a straight line in which CPython never interrupts:
  - taking: "if self.counter > 0", then at once "self.counter -= 1";
  - giving: "if there is no waiter", then at once "self.counter += 1".
So no unit becomes free while somebody is in the list, but for one who came after the
giver looked: every waiter looks again once it is in the list (`_serve`). Put a call
or a loop's end between the two halves of such a line, and units get lost or doubled;
tests/sync/test_atomicity.py reads the bytecode.

What a waiter does that is killed or whose time is up: take itself out of the list. If
it is not there any more, it was given a unit: it keeps it, or, killed, passes it on.

In a finalizer or a signal handler, acquire without blocking: they interrupt a greenlet
that may hold, or be about to hand over, the very unit they would wait for.
"""

from __future__ import annotations

from sys import is_finalizing
from typing import Any

from streamserve.loop.hubs import get_hub
from streamserve.loop.waiter import Waiter
from streamserve.sync.line import Linkable, park_within


class Lookout(Waiter):
    """Waits until a unit comes by, without taking it."""

    __slots__ = ()


class Turns(Linkable):
    """Units that are taken and given back in turn: what is common to all locks.

    Attributes:
        counter: how many units are free.
    """

    __slots__ = ("counter",)

    counter: int

    def _take(self, timeout: Any) -> bool:
        """Waits for a unit; False if the time was up first."""
        waiters = self._waiters
        if waiters is None:
            waiters = self._waitlist()
        waiter = Waiter(get_hub())
        waiters.append(waiter)
        try:
            if self.counter > 0:
                self._serve()
            if timeout is None:
                waiter.park()
                return True
            return park_within(waiter, timeout) or not waiters.withdraw(waiter)
        except BaseException:
            if not waiters.withdraw(waiter):
                self._hand_over()
            elif is_finalizing():  # who has it is gone (loop/ending.py), and what it guards can be cleaned up
                return True
            raise

    def _serve(self) -> None:
        """Hands out what became free while somebody was about to wait."""
        while True:  # not "while <test>": the jump back after such a test can be interrupted
            if self.counter <= 0 or not self._waiters:
                return
            self.counter -= 1
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives one unit, which is not counted as free, to the first who waits for one.

        Links and lookouts before that one are told, in their turn, and take nothing.
        """
        waiters: Any = self._waiters
        while True:
            if not waiters:
                self.counter += 1
                return
            try:
                first = waiters.popleft()
            except IndexError:  # the last one gave up meanwhile
                continue
            if first.hub.destroyed:  # its thread has ended, nobody is there any more
                continue
            first.wake_threadsafe()
            if first.__class__ is Waiter:
                return

    def locked(self) -> bool:
        """True if nothing is free."""
        return self.counter <= 0

    def ready(self) -> bool:
        """True if a unit is free."""
        return self.counter > 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} counter={self.counter}, {self.linkcount()} waiting>"
