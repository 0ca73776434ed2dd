"""Channel: a queue that holds nothing; a put and a get meet."""

from __future__ import annotations

from collections import deque
from queue import Empty, Full
from types import GenericAlias
from typing import Any

from greenlet import getcurrent

from streamserve.loop.hubs import get_hub, hub_of_thread
from streamserve.loop.waiter import yield_turn
from streamserve.sync.section import Getter, Section, Turn, first_waiting


class Channel(Section):
    """Hands items from greenlet to greenlet: `put` waits until somebody takes the item.

    Both sides are served in the order in which they came. It may be used from any native thread, and in the
    hub and in finalizers if the other side waits already.
    """

    __slots__ = ("__weakref__", "_returned", "getters", "putters")

    maxsize = 1

    def __init__(self) -> None:
        self._owner = 0
        self._again = False
        self.getters: deque[Turn] = deque()
        self.putters: deque[Turn] = deque()
        self._returned: deque[Any] = deque()

    # ---- sizes

    @property
    def balance(self) -> int:
        """How many more wait to put than to get."""
        return len(self.putters) - len(self.getters)

    def qsize(self) -> int:
        """Zero."""
        return 0

    def empty(self) -> bool:
        """True."""
        return True

    def full(self) -> bool:
        """True."""
        return True

    # ---- both sides

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Hands an item over; waits until somebody takes it.

        Args:
            block: False: only if somebody waits for it. In the hub it never waits.
            timeout: seconds to wait at most.

        Raises:
            Full: nobody took it (in time).
            ValueError: timeout is negative.
        """
        turn = Turn(get_hub())
        turn.item = item
        if not self._meet(self.putters, turn, block, timeout):
            raise Full

    def put_nowait(self, item: Any) -> None:
        """`put` that does not wait."""
        self.put(item, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes an item; waits until somebody puts one.

        Args:
            block: False: only if somebody waits to hand one over. In the hub it never waits.
            timeout: seconds to wait at most.

        Raises:
            Empty: nobody put one (in time).
            ValueError: timeout is negative.
        """
        turn = Getter(get_hub())
        if not self._meet(self.getters, turn, block, timeout):
            raise Empty
        return turn.item

    def get_nowait(self) -> Any:
        """`get` that does not wait."""
        return self.get(False)

    def _meet(self, line: deque[Turn], turn: Turn, block: bool, timeout: float | None) -> bool:
        """Stands in line until met; False if it may not wait any longer."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        line.append(turn)
        self._settle()
        if turn.done:
            if block and type(turn) is Turn and getcurrent() is not hub_of_thread():
                yield_turn(turn.hub)  # the getter goes on first
            return True
        if not block or timeout == 0 or getcurrent() is hub_of_thread():
            return not self._withdraw(line, turn)
        return self._wait_in(line, turn, timeout)

    def _match(self) -> None:
        getters, putters, returned = self.getters, self.putters, self._returned
        while getters and (putters or returned):
            getter = first_waiting(getters)
            if getter is None:
                return
            if returned:
                getter.item = returned.popleft()
            else:
                putter = first_waiting(putters)
                if putter is None:
                    getters.appendleft(getter)
                    return
                getter.item = putter.item
                putter.wake_threadsafe()
            getter.wake_threadsafe()

    def _pass_on(self, turn: Turn) -> None:
        """A killed getter's item goes to the next one; a killed putter's was taken, and stays so."""
        if type(turn) is Getter:
            self._returned.append(turn.item)
            self._settle()

    # ---- iteration

    def __iter__(self) -> Channel:
        return self

    def __next__(self) -> Any:
        """`get`; an item StopIteration ends the iteration."""
        item = self.get()
        if item is StopIteration:
            raise item
        return item

    next = __next__

    __class_getitem__: Any = classmethod(GenericAlias)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} getters[{len(self.getters)}] putters[{len(self.putters)}]>"
