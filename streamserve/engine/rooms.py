"""Rooms: who is in them as python-socketio has it, and beside it the connections of the core that they mean.

python-socketio's managers keep `rooms[namespace][room][sid] = eio_sid`. A Room is that inner mapping; the array of
connections for the core is made when something is sent there, and kept until somebody enters, leaves or changes the
transport. The room that each client has of its own, named like its sid, is not kept at all: it is seen through the
room of all, whose name is None.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streamserve.engine.broadcast import Targets, hub_here
from streamserve.loop.native_threads import RLock, get_ident

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer
    from streamserve.engine.session import Frame, Session
    from streamserve.loop.hub import Hub

__all__ = ["Everyone", "Namespace", "Room", "union"]


class _Members(NamedTuple):
    """Who was in a room at some time, by the loops that serve them."""

    version: int
    sessions: dict[Hub, list[Session]]


class Room(dict[str, str]):
    """sid → eio_sid of those who are in it."""

    __slots__ = ("_members", "_targets", "_version")

    def __init__(self) -> None:
        super().__init__()
        self._targets: Targets | None = None
        self._members: _Members | None = None
        self._version = 0

    @property
    def _fwdm(self) -> Room:
        """python-socketio's name for the mapping itself: its own rooms are mappings both ways."""
        return self

    def __setitem__(self, sid: str, eio_sid: str) -> None:
        super().__setitem__(sid, eio_sid)
        self._version += 1  # behind the change: another thread may make the array meanwhile

    def __delitem__(self, sid: str) -> None:
        super().__delitem__(sid)
        self._version += 1
        self._targets = self._members = None

    def targets(self, eio: EngineServer) -> Targets:
        """Whom what is sent here goes to; several loops' threads may ask at once."""
        targets, hub = self._targets, hub_here(eio)
        epoch, version = eio.epoch, self._version  # of before: what changes while the array is made makes it old
        if targets is None or targets.hub is not hub or targets.epoch != epoch or targets.version != version:
            targets = self._targets = Targets(self._sessions(eio), hub, epoch, version)
        return targets

    def _sessions(self, eio: EngineServer) -> list[Session]:
        """Those who are in it now; a client that has just ended has none."""
        return [session for eio_sid in [*self.values()] if (session := eio.sockets.get(eio_sid)) is not None]

    def post(self, eio: EngineServer, frames: Sequence[Frame], left_out: Collection[Session], guard: RLock) -> None:
        """Sends frames to those who are in it now, from a thread that is not that of their loop.

        Who enters before the loop has come to it gets nothing of it, and who leaves or is closed gets all of it: where
        nobody does, the loop sends by the array that it has.

        Args:
            eio: the engine of the clients.
            frames: an event and its attachments.
            left_out: who gets nothing.
            guard: held by who changes the room.
        """
        with guard:
            members = self._members
            if members is None or members.version != self._version:
                members = self._members = _Members(self._version, _by_hub(self._sessions(eio)))

        def send(hub: Hub, sessions: list[Session]) -> None:
            targets = None
            if len(members.sessions) == 1:
                with guard:  # nobody enters or leaves between the look and the making of the array
                    targets = self.targets(eio) if self._version == members.version else None
            (targets or Targets(sessions, hub)).send(frames, left_out)

        for hub, sessions in members.sessions.items():
            if hub.thread_ident == get_ident():
                send(hub, sessions)
            else:
                hub.run_callback_threadsafe(send, hub, sessions)


class Everyone(Room):
    """The room of all clients of a namespace; known by eio_sid too."""

    __slots__ = ("_invm",)

    def __init__(self) -> None:
        super().__init__()
        self._invm: dict[str, str] = {}

    def __setitem__(self, sid: str, eio_sid: str) -> None:
        super().__setitem__(sid, eio_sid)
        self._invm[eio_sid] = sid

    def __delitem__(self, sid: str) -> None:
        eio_sid = self[sid]
        super().__delitem__(sid)
        del self._invm[eio_sid]


class Namespace(dict[Any, Room]):
    """Room name → Room. A sid is the name of a room, too, in which only that client is."""

    __slots__ = ()

    def __contains__(self, name: Any) -> bool:
        return super().__contains__(name) or name in super().get(None, ())

    def get(self, name: Any, default: Any = None) -> Any:
        """The room of that name, a client's own one too."""
        room = super().get(name)
        if room is not None:
            return room
        everyone = None if name is None else super().get(None)
        return default if everyone is None or name not in everyone else self[name]

    def __missing__(self, name: Any) -> Room:
        everyone = self.get(None)
        if name is None or everyone is None or name not in everyone:
            raise KeyError(name)
        own = Room()
        own[name] = everyone[name]
        return own


def _by_hub(sessions: Iterable[Session]) -> dict[Hub, list[Session]]:
    groups: dict[Hub, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.hub, []).append(session)
    return groups


def union(rooms: Namespace, names: Iterable[Any]) -> Room:
    """Those who are in at least one of several rooms."""
    together = Room()
    for name in names:
        try:
            together.update(rooms[name])
        except KeyError:  # nobody is in it, or no more: another thread's last client may have just left
            continue
    return together
