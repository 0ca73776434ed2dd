"""What a client that polls posts: one body after another, the packets of each in order.

A POST is answered once its packets are dealt with, and until then its client sends no other one. So where its next
event has to wait until more may begin (see incoming.py), it is answered at once: else neither could an acknowledgement
come for which a handler waits, nor a sign of life. What is left of it waits here, and so do POSTs that follow, as long
as they are few bytes. Beyond that a POST waits for its answer: the client is not read.
"""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from typing import TYPE_CHECKING, Any

from engineio.packet import PONG, Packet

from streamserve.engine.payloads import MalformedPayload, Payload
from streamserve.loop.greenlet import Greenlet
from streamserve.loop.joining import sleep
from streamserve.sync.lock import Lock
from streamserve.websocket.inbox import LIMIT, MESSAGE

if TYPE_CHECKING:
    from streamserve.engine.session import Session

__all__ = ["MOST_POSTS", "Posts"]

POSTED_AT_ONCE = 32
"""Packets of a POST after which others have a turn."""

MOST_POSTS = 8
"""Of one client, whose packets are dealt with or wait for that: each holds a greenlet."""


class Posts:
    """The POSTs of a session.

    Attributes:
        count: how many are not answered.
        later: what is left of those that are answered.
    """

    __slots__ = ("_session", "_turn", "_unsorted", "count", "later")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = Lock()  # held while a body is dealt with, and as long as any is in `later`
        self._unsorted: list[Payload] = []  # may have acknowledgements in them that are to go first
        self.count = 0
        self.later: deque[Payload] = deque()

    def take(self, body: Payload) -> None:
        """Takes a POST; its answer may be given when this returns.

        Raises:
            MalformedPayload: a client does not send such a packet, or so many POSTs.
        """
        if self.count == MOST_POSTS:
            raise MalformedPayload(f"{MOST_POSTS} POSTs wait already; a client waits for the answer to one")
        session = self._session
        self.count += 1
        self._unsorted.append(body)
        try:
            if session.crowd or session.begun_answer is not None:
                self._sort(body)
            if self.later and self.count == 1 and self._keeps(body):
                self.later.append(body)
            elif body:
                self._deal_in_turn(body)
        finally:
            self.count -= 1
            if body in self._unsorted and body not in self.later:
                self._unsorted.remove(body)

    def _keeps(self, body: Payload) -> bool:
        """Whether a body may wait here."""
        return sum(len(other) + MESSAGE for other in self.later) + len(body) <= LIMIT

    def _deal_in_turn(self, body: Payload) -> None:
        self._turn.acquire()
        kept, number = False, 0
        try:
            while body and not self._has_to_wait(body):
                self._session.receive(next(body))
                number += 1
                if number % POSTED_AT_ONCE == 0:
                    sleep(0)
            kept = len(body) > 0
        finally:
            if not kept:
                self._turn.release()
        if kept:
            self.later.append(body)
            Greenlet.spawn(self._deal_later)

    def _has_to_wait(self, body: Payload) -> bool:
        return self._session.room < 1 and self._keeps(body)

    def _deal_later(self) -> None:
        """Deals with what waits, whose POSTs are answered; this has the turn."""
        session = self._session
        number = 0
        while self.later:
            body = self.later[0]
            try:
                for pkt in body:
                    if session.closing or session.closed:
                        break
                    session.receive(pkt)
                    number += 1
                    if number % POSTED_AT_ONCE == 0:
                        sleep(0)
            except BaseException as error:
                session.failed(error)
            if not body or session.closing or session.closed:
                self.later.popleft()
                if body in self._unsorted:
                    self._unsorted.remove(body)
        self._turn.release()
        if session.polling is None or session.polling.posts is not self:
            session.go_on()  # it has changed to a WebSocket meanwhile

    # ---- what goes first

    def sort(self) -> None:
        """An event is about to wait: what is not to wait behind it goes first."""
        for body in [*self._unsorted]:
            try:
                self._sort(body)
            except BaseException as error:
                self._session.failed(error)

    def _sort(self, body: Payload) -> None:
        session, found = self._session, []
        answers: Any = session.server.answers
        if body in self._unsorted:
            self._unsorted.remove(body)

        def goes_first(part: str) -> bool:
            kind, answer = part[:1], None
            if part == "1":
                session.unlimit()  # it goes: as the end of a WebSocket
            elif part == "3":
                answer = Packet(PONG)
            elif answers is not None and kind == "4":
                answer = answers.find(session, part)
            elif answers is not None and kind == "b" and answers.takes_bytes(session):
                data = _bytes(part)
                answer = None if data is None else answers.find(session, data)
            if answer is not None:
                found.append(answer)
            return answer is not None

        body.sift(goes_first)
        for answer in found:  # these may wait: by now all that stays is where it was
            if answer.__class__ is Packet:
                session.receive(answer)
            else:
                answers.take(session, answer)


def _bytes(part: str) -> bytes | None:
    """What is in base64; None: it is none, as its turn will show."""
    try:
        return b64decode(part[1:])
    except ValueError:
        return None
