"""SimpleQueue: items go in and come out, and greenlets wait for either.

A queue without a limit has a short way that needs no Section (section.py): an item is
appended, then who waits is looked at; a getter stands in line first, then looks for
items. So one of the two sees the other. All else happens inside the section: there the
oldest getter is given an item, the oldest putter room.
"""

from __future__ import annotations

from queue import Empty, Full
from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import get_hub, hub_of_thread
from streamserve.loop.native_threads import get_ident
from streamserve.sync.section import Chooser, Failure, Getter, Turn, first_waiting
from streamserve.sync.storage import ShutDown, Storage


class _Peeker(Getter):
    """A getter that leaves the item in the queue."""

    __slots__ = ()
    peeks = True


class SimpleQueue(Storage):
    """A first-in, first-out queue, without `task_done` and `join`.

    Those who wait, to get or to put, are served in the order in which they came. It may be used from
    any native thread, and without waiting also from the hub, from signal handlers and from finalizers.

    Args:
        maxsize: most items it holds; None, zero and below: no limit.
        items: what it holds at first, be it more than maxsize.

    To store items in another way, override methods of Storage.
    """

    __slots__ = ()

    # ---- putting

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item; if the queue is full, waits for room.

        Args:
            block: False: do not wait. In the hub it never does.
            timeout: seconds to wait at most.

        Raises:
            Full: there was no room (in time).
            ShutDown: the queue was shut down.
            ValueError: timeout is negative.
        """
        if self._open:
            self._unfinished += 1
            self.queue.append(item)
            if self._getters:
                self._hand_over()
        else:
            self._put_inside(item, block, timeout)

    def _hand_over(self) -> None:
        """The short way of `_settle`, when one greenlet of this thread waits for an item."""
        me = get_ident()
        getters = self._getters
        if self._owner or len(getters) != 1:
            self._settle()
            return
        self._owner = me
        turn = None
        try:
            turn = getters.popleft()
            hub = turn.hub
            if turn.done or hub.destroyed or hub.thread_ident != me or type(turn) is not Getter:
                getters.appendleft(turn)
                turn = None
            else:
                turn.item = self._get()
        except IndexError:  # another thread took the item
            if turn is not None:
                getters.appendleft(turn)
                turn = None
        finally:
            if getters or self._again:
                self._leave()
            else:
                self._owner = 0
        if turn is not None:
            turn.wake()

    def put_nowait(self, item: Any) -> None:
        """`put` that does not wait."""
        self.put(item, False)

    def _put_inside(self, item: Any, block: bool, timeout: float | None) -> None:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        me = get_ident()
        if self._owner:
            if not self._enter():
                self._put_late(item)
                return
        else:
            self._owner = me  # as in _enter
        turn = None
        try:
            if self.is_shutdown:
                raise ShutDown
            if self._limit is None or (len(self.queue) if self._plain else self._qsize()) < self._limit:
                self._put(item)
                self._unfinished += 1
            else:
                turn = self._queue_putter(item, block, timeout)
        finally:
            if self._getters or self._putters or self._late:
                self._leave()
            else:
                self._owner = 0
        if turn is not None:
            if not self._wait_in(self._putters, turn, timeout):
                raise Full
            if type(turn.item) is Failure:
                raise turn.item.error

    def _queue_putter(self, item: Any, block: bool, timeout: float | None) -> Turn:
        if not _may_wait(block, timeout):
            raise Full
        turn = Turn(get_hub())
        turn.item = item
        self._putters.append(turn)
        return turn

    def _put_late(self, item: Any) -> None:
        """This thread is inside, further out: it will add the item before it leaves."""
        if self.is_shutdown:
            raise ShutDown
        if not self._has_room():
            raise Full
        self._late.append(item)
        self._again = True

    # ---- getting

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Removes an item and returns it; if there is none, waits for one.

        Args:
            block: False: do not wait. In the hub it never does.
            timeout: seconds to wait at most.

        Raises:
            Empty: there was no item (in time).
            ShutDown: the queue was shut down, and is empty.
            ValueError: timeout is negative.
        """
        if self._plain:
            if self.queue and (timeout is None or timeout >= 0):
                try:
                    item = self.queue.popleft()
                except IndexError:  # another thread was faster
                    return self._get_inside(block, timeout)
                if self._putters:
                    self._settle()
                return item
            if block and timeout is None and self._open:
                hub = get_hub()
                if getcurrent() is not hub:
                    return self._get_in_line(Getter(hub))
        return self._get_inside(block, timeout)

    def get_nowait(self) -> Any:
        """`get` that does not wait."""
        return self.get(False)

    def peek(self, block: bool = True, timeout: float | None = None) -> Any:
        """Like `get`, but leaves the item in the queue."""
        return self._get_inside(block, timeout, _Peeker)

    def peek_nowait(self) -> Any:
        """`peek` that does not wait."""
        return self.peek(False)

    def _get_in_line(self, turn: Getter) -> Any:
        """The short way to wait for an item: without a limit, for any time."""
        self._getters.append(turn)
        if self.queue or self.is_shutdown:  # by another thread, since we looked
            self._settle()
        try:
            turn.park()
        except BaseException:
            if not self._withdraw(self._getters, turn):
                self._pass_on(turn)
            raise
        item = turn.item
        if type(item) is Failure:
            raise item.error
        return item

    def _get_inside(self, block: bool, timeout: float | None, kind: type[Getter] = Getter) -> Any:
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        turn: Turn
        if self._enter():
            try:
                while self._qsize():
                    try:
                        return self._peek() if kind.peeks else self._get()
                    except IndexError:
                        if not self._plain:
                            raise
                if self.is_shutdown:
                    raise ShutDown
                turn = self._queue_getter(block, timeout, kind)
            finally:
                self._leave()
        else:  # this thread is inside, further out: it serves us before it leaves
            turn = self._queue_getter(block, timeout, kind)
            self._again = True
        if not self._wait_in(self._getters, turn, timeout):
            raise Empty
        if type(turn.item) is Failure:
            raise turn.item.error
        return turn.item if kind.peeks else self._best(turn)

    def _best(self, turn: Turn) -> Any:
        """What a getter takes that waited and was given an item: a better one may have come since."""
        return turn.item

    def _queue_getter(self, block: bool, timeout: float | None, kind: type[Getter]) -> Turn:
        if not _may_wait(block, timeout):
            raise Empty
        turn = self._new_getter(kind)
        self._getters.append(turn)
        return turn

    def _new_getter(self, kind: type[Getter]) -> Turn:
        return kind(get_hub())

    # ---- matching, inside the section

    def _match(self) -> None:
        while True:
            if self._late:
                self._put(self._late.popleft())
                self._unfinished += 1
            elif self._putters and (self.is_shutdown or self._has_room()):
                self._serve_putter()
            elif self._getters and (self._qsize() or self.is_shutdown):
                self._serve_getter()
            else:
                return

    def _serve_putter(self) -> None:
        turn = first_waiting(self._putters)
        if turn is None:
            return
        item, turn.item = turn.item, None
        if self.is_shutdown:
            turn.item = Failure(ShutDown())
        else:
            try:
                self._put(item)
            except BaseException as error:  # of a storage of the user's: for the one who puts
                turn.item = Failure(error)
            else:
                self._unfinished += 1
        turn.wake_threadsafe()

    def _serve_getter(self) -> None:
        turn = first_waiting(self._getters)
        if turn is None:
            return
        if not self._qsize():
            if not self.is_shutdown:  # the short way of another thread took the last item
                self._getters.appendleft(turn)
                return
            turn.item = Failure(ShutDown())
        else:
            try:
                turn.item = self._peek() if type(turn) is _Peeker else self._get()
                if type(turn) is Chooser:
                    turn.given.append(turn)
            except BaseException as error:
                if self._plain:  # likewise
                    self._getters.appendleft(turn)
                    return
                turn.item = Failure(error)  # of a storage of the user's: for the one who gets
        turn.wake_threadsafe()

    def _pass_on(self, turn: Turn) -> None:
        if isinstance(turn, Getter) and not turn.peeks and type(turn.item) is not Failure:
            entered = self._enter()
            try:
                self._put_back(turn)
            finally:
                if entered:
                    self._leave()
                else:
                    self._again = True


def _may_wait(block: bool, timeout: float | None) -> bool:
    return block and timeout != 0 and getcurrent() is not hub_of_thread()
