"""Who is in which room, and how an event reaches all of them: python-socketio's manager with the core below it.

What programs and other managers (Redis, Kombu and the like) call stays as upstream has it. A client has no mapping of
its own, leaving costs what it was in, and an event is encoded and framed once and sent by one call of the core.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bidict import ValueDuplicationError
from socketio import packet
from socketio.manager import Manager

from streamserve.engine.rooms import Everyone, Namespace, Room, union
from streamserve.logs.complaints import Complaints
from streamserve.loop.native_threads import RLock

if TYPE_CHECKING:
    from streamserve.engine.session import Frame

__all__ = ["FastManager", "fast"]

_room: Any = dict.get
"""A room that is kept, by its name: Namespace.get would have the one of a client, too, and takes longer."""

_NOBODY: Mapping[Any, Any] = {}

MOST_CALLBACKS = 10_000
"""Events that wait for the answer of one client: its callbacks are kept as long as it is there, if it gives none."""


class FastManager(Manager):  # type: ignore[misc]
    """Rooms and emits for a SocketIOServer; arguments and meanings are those of `socketio.Manager`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prepare()

    def _prepare(self) -> None:
        """What python-socketio's managers do not have."""
        self.memberships: dict[str, dict[str, list[Any]]] = {}  # namespace → sid → rooms beside its own
        self.others: dict[str, list[str]] = {}  # eio_sid → namespaces beside "/": most clients have none
        self.guard = RLock()  # native threads enter and leave rooms, too; and several servers may have a loop each
        self.unanswered = Complaints()

    # ---- who is there

    def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """A client is about to join a namespace; returns its sid there, None: it is in there already."""
        sid: str = self.server.eio.generate_id()
        try:
            self.basic_enter_room(sid, namespace, None, eio_sid=eio_sid)
        except ValueDuplicationError:
            return None
        with self.guard:
            self.pending_connect.setdefault(namespace, set()).add(sid)
        return sid

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        """Whether a client's connect handler runs."""
        return sid in self.pending_connect.get(namespace, ()) and sid in self._everyone(namespace)

    def is_connected(self, sid: str | None, namespace: str) -> bool:
        """Whether a client has joined a namespace and does not leave it; others' come and go meanwhile."""
        return (
            sid in self._everyone(namespace)
            and sid not in self.pending_connect.get(namespace, ())
            and sid not in self.pending_disconnect.get(namespace, ())
        )

    def _everyone(self, namespace: str) -> Mapping[str | None, str]:
        """Who is in a namespace; the last one may leave it at any time, and another come."""
        return _room(self.rooms.get(namespace, _NOBODY), None, _NOBODY)  # type: ignore[no-any-return]

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """The client that has this sid in a namespace."""
        return self._everyone(namespace).get(sid)

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """(sid, eio_sid) of those who are in a room, or in one of several, now."""
        names = room if _is_several(room) else [room]
        yield from union(self.rooms.get(namespace, Namespace()), names).items()

    def connect(self, sid: str, namespace: str) -> str | None:
        """A client has joined a namespace; returns its sid."""
        joined = sid if self.is_pre_connected(sid, namespace) else self.pre_connect(sid, namespace)
        self._settle(self.pending_connect, namespace, joined)
        return joined

    def connected_sid(self, eio_sid: str, namespace: str) -> str | None:
        """The sid of a client that has joined a namespace and does not leave it: sid_from_eio_sid and is_connected."""
        sid: str | None = self.sid_from_eio_sid(eio_sid, namespace)
        if (self.pending_connect or self.pending_disconnect) and not self.is_connected(sid, namespace):
            return None
        return sid

    def pre_disconnect(self, sid: str, namespace: str) -> str | None:
        """A client is about to leave: its handler still finds all of it."""
        eio_sid = self._everyone(namespace).get(sid)
        with self.guard:
            self.pending_disconnect.setdefault(namespace, set()).add(sid)
        return eio_sid

    def begin_leaving(self, sid: str, namespace: str) -> bool:
        """pre_disconnect, once for each client; False: it is not there, or another thread has it leave already."""
        with self.guard:
            if not self.is_connected(sid, namespace):
                return False
            self.pre_disconnect(sid, namespace)
        return True

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """A client leaves a namespace, and with it all rooms that it is in there."""
        with self.guard:  # a handler in another thread may have it enter a room meanwhile
            for room in [*self.memberships.get(namespace, {}).get(sid, ()), None]:
                self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        self._settle(self.pending_connect, namespace, sid)
        self._settle(self.pending_disconnect, namespace, sid)

    def _settle(self, pending: dict[str, set[str]], namespace: str, sid: str | None) -> None:
        with self.guard:
            sids = pending.get(namespace)
            if sids is not None:
                sids.discard(sid or "")
                if not sids:
                    del pending[namespace]

    def namespaces_of(self, eio_sid: str) -> list[str]:
        """The namespaces in which a client is, or about to be."""
        there = self.sid_from_eio_sid(eio_sid, "/") is not None
        return [*(["/"] if there else ()), *self.others.get(eio_sid, ())]

    # ---- rooms

    def basic_enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        """A client enters a room; None: the namespace.

        Raises:
            ValueError: it is not connected to the namespace, or the room is another client's own.
        """
        with self.guard:
            rooms = self.rooms.get(namespace)
            if rooms is None:
                if eio_sid is None:
                    raise ValueError("sid is not connected to requested namespace")
                rooms = self.rooms[namespace] = Namespace()
            everyone = _room(rooms, None, _NOBODY)
            if room is None:
                self._enter_namespace(rooms, sid, namespace, eio_sid)
            elif room in everyone:
                if sid != room:
                    raise ValueError("cannot enter a sid room")
            else:
                self._enter(rooms, sid, namespace, room, everyone[sid] if eio_sid is None else eio_sid)

    def _enter_namespace(self, rooms: Namespace, sid: str, namespace: str, eio_sid: str | None) -> None:
        everyone: Any = _room(rooms, None)
        if everyone is None:
            everyone = rooms[None] = Everyone()
        if eio_sid is None:
            everyone[sid]  # it is in there, or that is the caller's KeyError
            return
        if eio_sid in everyone._invm:
            raise ValueDuplicationError(eio_sid)
        everyone[sid] = eio_sid
        if namespace != "/":
            self.others.setdefault(eio_sid, []).append(namespace)

    def _enter(self, rooms: Namespace, sid: str, namespace: str, room: Any, eio_sid: str) -> None:
        members = _room(rooms, room)
        if members is None:
            members = rooms[room] = Room()
        if sid not in members:
            members[sid] = eio_sid
            self.memberships.setdefault(namespace, {}).setdefault(sid, []).append(room)

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        """A client leaves a room; one that it is not in is fine."""
        with self.guard:
            rooms = self.rooms.get(namespace, {})
            members = _room(rooms, room)
            if members is None or sid not in members:
                return
            if room is not None:
                _drop(self.memberships[namespace], sid, room)
                if not self.memberships[namespace]:
                    del self.memberships[namespace]
            elif namespace != "/":
                _drop(self.others, members[sid], namespace)
            del members[sid]
            if not members:
                del rooms[room]
                if not rooms:
                    del self.rooms[namespace]

    def get_rooms(self, sid: str, namespace: str) -> list[Any]:
        """The rooms that a client is in: its own, then the others in the order of entering."""
        if sid not in self._everyone(namespace):
            return []
        return [sid, *self.memberships.get(namespace, {}).get(sid, ())]

    # ---- answers

    def _generate_ack_id(self, sid: str, callback: Any) -> int:
        """The number of a question; the callback of the one that is MOST_CALLBACKS before it is kept no longer."""
        with self.guard:
            number: int = super()._generate_ack_id(sid, callback)
            dropped = self.callbacks[sid].pop(number - MOST_CALLBACKS or None, None)
        if dropped is not None:
            self.unanswered.note(
                f"Socket.IO: a client left {MOST_CALLBACKS} events that ask for an answer unanswered;"
                " the callbacks of those before are dropped"
            )
        return number

    def trigger_callback(self, sid: str, id: Any, data: list[Any]) -> None:
        """A client acknowledges an event.

        Where the callbacks of a client are, python-socketio keeps the counter of their numbers as number 0: no client
        may take that away.
        """
        try:
            callback = self.callbacks[sid].pop(id or None)  # in one step: other threads take some away, too
        except KeyError:
            self._get_logger().warning("Unknown callback received, ignoring.")
            return
        if callback is not None:
            callback(*data)

    # ---- out

    def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sends an event to a client, to those in a room or in one of several, or to all of the namespace."""
        server, room = self.server, to or room
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        skipped = (skip_sid,) if isinstance(skip_sid, str) else tuple(skip_sid or ())
        if callback:
            self._ask([event, *arguments], namespace, room, skipped, callback)
        elif not server.sends_plainly():
            super().emit(event, data, namespace, room, skip_sid, **kwargs)
        elif namespace in self.rooms:
            frames = server.writer.frames(packet.EVENT, namespace, None, [event, *arguments])
            self.deliver(frames, namespace, room, skipped)

    def _ask(self, data: list[Any], namespace: str, room: Any, skipped: Collection[str], callback: Any) -> None:
        """Sends an event that is to be acknowledged: each client has a number of its own for it."""
        server = self.server
        for sid, eio_sid in self.get_participants(namespace, room):
            if sid not in skipped:
                number = self._generate_ack_id(sid, callback)
                question = server.packet_class(packet.EVENT, namespace=namespace, data=data, id=number)
                server._send_packet(eio_sid, question)
                if sid not in self._everyone(namespace):
                    self.callbacks.pop(sid, None)  # it left meanwhile, and took away only what was there by then

    def deliver(self, frames: list[Frame], namespace: str, room: Any, skipped: Collection[str]) -> None:
        """Sends frames to those who are in a room now. From a thread that is not the loop's they leave soon."""
        rooms = self.rooms.get(namespace, {})
        everyone: Any = _room(rooms, None)
        if everyone is None:
            return  # nobody is there, or another loop's last client has just left
        alone = everyone.get(room) if room.__class__ is str else None
        if alone is not None:
            if room not in skipped:
                self.server.send_frames(alone, namespace, frames)
            return
        members = union(rooms, room) if _is_several(room) else _room(rooms, room)
        if not members:
            return
        left_out = {eio_sid for sid in skipped if (eio_sid := members.get(sid)) is not None}
        for eio_sid in self.server.admission.clients(namespace):
            if eio_sid not in left_out and everyone._invm.get(eio_sid) in members:
                self.server.admission.keeps(eio_sid, namespace, frames)
                left_out.add(eio_sid)
        eio = self.server.eio
        sessions = [session for eio_sid in left_out if (session := eio.sockets.get(eio_sid)) is not None]
        if eio.is_here():
            members.targets(eio).send(frames, sessions)
        else:
            members.post(eio, frames, sessions, self.guard)


def _is_several(room: Any) -> bool:
    """Whether it is a list of rooms."""
    return hasattr(room, "__len__") and not isinstance(room, str)


def _drop(lists: dict[str, list[Any]], key: str, value: Any) -> None:
    """Takes a value out of the list of a key, which has none when that is empty."""
    lists[key].remove(value)
    if not lists[key]:
        del lists[key]


def fast(manager: Any) -> Any:
    """Puts FastManager below a manager that was made by the program, of Redis for instance.

    Its class is replaced by one that inherits from both: what it does not do itself is FastManager's.
    """
    kind = type(manager)
    if isinstance(manager, Manager) and not isinstance(manager, FastManager):
        manager.__class__ = FastManager if kind is Manager else type(kind.__name__, (kind, FastManager), {})
        manager._prepare()
    return manager
