"""What comes from one client: in order, and its events beside each other, as many as may.

A client's packets are dealt with one at a time: what comes while one of them blocks waits in the inbox. Events of
Socket.IO run beside each other where the server has `concurrent_events`: none makes the others wait.

Each event whose handler waits holds a greenlet. A client that sends faster than its handlers return would hold any
number of them, so from `max_events` on its next event waits, and with it all that the client sent behind, in the inbox:
when that is full the client is not read. Until then its acknowledgements overtake them (see answers.py), for a handler
may wait for one. Once it is gone nothing waits any more, for a handler may wait for that, too: what it had sent by then
is bounded. What a client posts waits in posts.py, likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from streamserve.core import lib
from streamserve.engine.payloads import MalformedPayload
from streamserve.loop.native_threads import get_ident
from streamserve.loop.waiter import Waiter
from streamserve.websocket.inbox import Inbox
from streamserve.websocket.message import Close

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer
    from streamserve.loop.hub import Hub

__all__ = ["MAX_EVENTS", "Incoming"]

MAX_EVENTS = 1000
"""Events of one client."""

_ACK: int = lib.SS_ENGINE_ACK
_NO_LIMIT = 1 << 40


class Incoming:
    """The side of a session on which messages come in.

    Attributes:
        server: whose client it is.
        hub: of the loop that serves it.
        handle: its WebSocket in the core; -1: it polls.
        room: how many more events may begin; below 1: none. Who begins one takes one away, and calls `finished` at
            its end.
        crowd: who waits until one may.
        begun_answer: an acknowledgement that overtakes what waits, and whose attachments have not all come.
    """

    __slots__ = (
        "_backlog",
        "_core",
        "_held",
        "_inbox",
        "_sockets",
        "_unsorted",
        "begun_answer",
        "crowd",
        "handle",
        "hub",
        "room",
        "server",
    )

    def __init__(self, server: EngineServer, hub: Hub) -> None:
        self.server = server
        self.hub = hub
        self._core = hub.core
        self.handle = -1
        self._sockets: Any = None
        self._inbox: Inbox | None = None
        self._held = False  # a message is dealt with, and those of the inbox wait for that
        self._backlog: _Backlog | None = None
        self._unsorted = 0  # so many messages at the end of the inbox may be acknowledgements
        self.begun_answer: Any = None
        self.room = server.max_events
        self.crowd: tuple[Waiter, ...] = ()

    # ---- messages of its WebSocket, in a runner

    def event(
        self, kind: int, number: int, namespace: str, text: str, start: int, end: int, its_turn: bool = False
    ) -> None:
        """An event of Socket.IO that the core has told apart, its JSON a part of text: see `handled`.

        Args:
            its_turn: it has waited in the inbox for those before it.
        """
        server = self.server
        if (self._inbox is not None and not its_turn) or not server.concurrent_events:
            self.handled((kind, number, namespace, text[start:end]))
            return
        if self.room < 1 and kind != _ACK and not self._in_order(self.wait_for_room):
            return
        self.room -= 1
        try:
            server.take_event(self, kind, number, namespace, text, start, end)
        except BaseException as error:
            self.failed(error)
        self.room += 1
        if self.crowd:
            self._let_in()

    def handled(self, message: Any) -> None:
        """Deals with a message of its WebSocket, or keeps it until those before it are; in a runner."""
        inbox = self._inbox
        if message.__class__ is Close:
            self.begun_answer = None
            if self.crowd:
                self.unlimit()
        elif (self.begun_answer is not None or (self.crowd and inbox is not None)) and self._overtakes(message):
            return
        if inbox is None:
            self._deal(message)
            return
        if not self.crowd:
            self._unsorted += 1
        inbox.put(message)

    def _deal(self, message: Any) -> None:
        """Deals with a message whose turn it is."""
        if message.__class__ is tuple and self.server.concurrent_events:
            self.event(*message, 0, len(message[-1]), its_turn=True)  # type: ignore[call-arg, misc]
        else:
            self._in_order(self._take, message)

    def _overtakes(self, message: Any) -> bool:
        """Whether a message goes before those that wait until more handlers may run: see above."""
        answers = self.server.answers
        try:
            answer = answers and answers.find(self, message)
            if answer is None:
                return False
            answers.take(self, answer)
        except BaseException as error:
            self.failed(error)
        return True

    def _sort(self) -> None:
        """Lets the acknowledgements overtake that came while something else held up the inbox."""
        inbox, count, answers = self._inbox, self._unsorted, self.server.answers
        self._unsorted = 0
        if not inbox or not count or answers is None:
            return
        count, found = min(count, len(inbox)), []
        inbox.rotate(count)
        for message in [inbox.take() for _ in range(count)]:
            try:
                answer = answers.find(self, message)
            except MalformedPayload:
                answer = None  # as its turn will show
            if answer is None:
                inbox.put(message)
            else:
                found.append(answer)
        for answer in found:  # these may wait: by now all that is to stay is where it was
            try:
                answers.take(self, answer)
            except BaseException as error:
                self.failed(error)

    def _in_order(self, function: Any, *args: Any) -> bool:
        """Calls a function; what comes meanwhile waits in the inbox.

        Returns:
            False: it failed or was killed, which is reported.
        """
        if self._inbox is None:
            self._inbox = Inbox(self._core, self.handle)
        self._held, went_well = True, False
        try:
            function(*args)
            went_well = True
        except BaseException as error:
            self.failed(error)
        self.go_on()
        return went_well

    def hold(self) -> None:
        """What its WebSocket brings waits in the inbox until `go_on`."""
        self._inbox, self._held = Inbox(self._core, self.handle), True

    def go_on(self) -> None:
        """What waits in the inbox is dealt with."""
        self._held = False
        if not self._inbox:
            self._inbox = None
        elif self._backlog is None:  # else it has not been asked for more meanwhile, and goes on
            self._backlog = _Backlog(self)
            self._sockets.deliver_first(self._backlog)

    def next_waiting(self) -> Any:
        """Takes the next message out of the inbox; None: there is none, or one before it is not dealt with."""
        inbox = self._inbox
        if self._held or not inbox:
            self._backlog = None
            return None
        message = inbox.take()
        if not inbox:
            self._inbox = None
        return message

    def _take(self, message: Any) -> None:
        """Deals with a message."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """What a message came to."""
        raise NotImplementedError

    # ---- as many events as may

    def wait_for_room(self) -> None:
        """Waits until one more event may begin."""
        while self.room < 1:
            waiter = Waiter(self.hub)
            self.crowd += (waiter,)
            try:
                self._sort()
                waiter.park()
            finally:
                self.crowd = tuple(other for other in self.crowd if other is not waiter)

    def finished(self) -> None:
        """A handler has returned."""
        self.room += 1
        if self.crowd:
            self._let_in()

    def _let_in(self) -> None:
        """Has those who wait go on, if there is room for one: who finds that another was faster waits again."""
        if self.room > 0:
            for waiter in self.crowd:
                waiter.wake()

    def unlimit(self) -> None:
        """The client is gone, or about to be ended: what it sent may begin. Any thread may say so."""
        if self.hub.thread_ident != get_ident():
            self.hub.run_callback_threadsafe(self.unlimit)
            return
        self.room += _NO_LIMIT
        self._let_in()


class _Backlog:
    """What waits in the inbox of a client, one by one; it is who gets it, too, as the messages wait for nothing more.

    A message that has to wait ends this, and the end of its wait makes a new one: what is behind it stays where it is,
    be it much, so that a client which sends more than may begin costs the same for each event.
    """

    __slots__ = ("_of", "handled")

    def __init__(self, of: Incoming) -> None:
        self._of = of
        self.handled = of._deal

    def __len__(self) -> int:
        """One more than waits now, as more may come meanwhile."""
        return len(self._of._inbox or ()) + 1

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self

    def __next__(self) -> tuple[Any, Any]:
        message = self._of.next_waiting()
        if message is None:
            raise StopIteration
        return self, message
