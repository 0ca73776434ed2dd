"""Section: a part of an object's code that only one thread is in, without a lock.

A native lock would stop the program for ever when a finalizer or a signal handler
runs in its middle, in the same thread, and wants the same object. Here it finds out
that its own thread is inside, leaves what it wants to those inside, and goes on.
Another thread waits, for as long as the few lines inside take.

Two facts of CPython carry this. It interrupts a thread only at calls and at backward
jumps, so "if nobody owns it, own it" is one step when nothing stands between. And
one call of a C method of deque, list or dict is one step.

What waits for something inside is a Turn in a deque. Whoever takes it out of there,
inside, has given it what it waits for.
"""

from __future__ import annotations

from collections import deque
from time import sleep as native_sleep
from typing import Any

from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter

OTHER_THREAD_INSIDE = 50e-6
"""Seconds between two looks whether another thread has left: it was interrupted there, which is rare."""


class Turn(Waiter):
    """A greenlet that stands in a line: to get an item, or to hand over the one it brings."""

    __slots__ = ("item",)
    item: Any


class Getter(Turn):
    """A Turn that gets."""

    __slots__ = ()
    peeks = False


class Chooser(Getter):
    """A Getter that may exchange what it was given, until it runs, for something better."""

    __slots__ = ("given",)
    given: deque[Turn]
    """Where its queue keeps those that were given something and have not run since, the first to run first."""


class Failure:
    """What a Turn is given instead of an item when it has waited in vain."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


_SKIPPED = object()
"""The item of a Turn that was taken out of its line because nobody waited there any more."""


class Section:
    """A base of objects with such a part."""

    __slots__ = ("_again", "_owner")

    _owner: int
    """The ident of the thread inside, or 0."""
    _again: bool
    """Somebody of the same thread came meanwhile: look again before leaving."""

    def _match(self) -> None:
        """Gives those who wait what there is for them; called inside."""
        raise NotImplementedError

    def _enter(self) -> bool:
        """Goes in, or returns False if this thread is inside already."""
        me = get_ident()
        while self._owner:
            if self._owner == me:
                return False
            native_sleep(OTHER_THREAD_INSIDE)
        self._owner = me  # nothing may stand between the test and this
        return True

    def _leave(self) -> None:
        try:
            while True:
                self._again = False
                self._match()
                if not self._again:
                    self._owner = 0  # nothing may stand between the test and this
                    return
        except BaseException:
            self._owner = 0
            raise

    def _settle(self) -> None:
        """Something has changed: matches those who wait with what there is."""
        if self._enter():
            self._leave()
        else:
            self._again = True

    def _wait_in(self, line: deque[Turn], turn: Turn, timeout: Any) -> bool:
        """Parks; False if `timeout` seconds passed first. A killed one that was given something passes it on."""
        try:
            if timeout is None:
                turn.park()
                return True
            if isinstance(timeout, BaseException):  # a Timeout, which is what is raised
                with timeout.start_new(timeout):  # type: ignore[attr-defined]
                    turn.park()
                    return True
                return not self._withdraw(line, turn)
            return turn.park_for(timeout) or not self._withdraw(line, turn)
        except BaseException:
            if not self._withdraw(line, turn):
                self._pass_on(turn)
            raise

    def _withdraw(self, line: deque[Turn], turn: Turn) -> bool:
        """Takes the turn out of its line; False if somebody did before, to serve it."""
        entered = self._enter()  # whoever took it out has finished giving it its item then
        try:
            line.remove(turn)
        except ValueError:
            return turn.item is _SKIPPED
        finally:
            if entered:
                self._leave()
        return True

    def _pass_on(self, turn: Turn) -> None:
        """Gives to others what a turn was given that nobody waits for any more."""
        raise NotImplementedError


def first_waiting(line: deque[Turn]) -> Turn | None:
    """Takes the oldest turn out of a line, past those that were killed or whose thread has ended."""
    while line:
        try:
            turn = line.popleft()
        except IndexError:
            return None
        if not turn.done and not turn.hub.destroyed:
            return turn
        turn.item = _SKIPPED
    return None
