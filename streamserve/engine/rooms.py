"""Rooms: who is in them as python-socketio has it, and beside it the connections of the core that they mean.

python-socketio's managers keep `rooms[namespace][room][sid] = eio_sid`. A Room is that inner mapping; the array of
connections for the core is made when something is sent there, and kept until somebody enters, leaves or changes the
transport. The room that each client has of its own, named like its sid, is not kept at all: it is seen through the
room of all, whose name is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from streamserve.engine.broadcast import Targets, hub_here

if TYPE_CHECKING:
    from streamserve.engine.server import EngineServer

__all__ = ["Everyone", "Namespace", "Room", "union"]


class Room(dict[str, str]):
    """sid → eio_sid of those who are in it."""

    __slots__ = ("_targets", "_version")

    def __init__(self) -> None:
        super().__init__()
        self._targets: Targets | None = None
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
        self._targets = None

    def targets(self, eio: EngineServer) -> Targets:
        """Whom what is sent here goes to; several loops' threads may ask at once."""
        targets, hub = self._targets, hub_here(eio)
        epoch, version = eio.epoch, self._version  # of before: what changes while the array is made makes it old
        if targets is None or targets.hub is not hub or targets.epoch != epoch or targets.version != version:
            targets = self._targets = Targets([*self.values()], eio, hub, epoch, version)
        return targets


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
        return super().__contains__(name) or name in self.get(None, ())

    def __missing__(self, name: Any) -> Room:
        everyone = self.get(None)
        if name is None or everyone is None or name not in everyone:
            raise KeyError(name)
        own = Room()
        own[name] = everyone[name]
        return own


def union(rooms: Namespace, names: Iterable[Any]) -> Room:
    """Those who are in at least one of several rooms."""
    together = Room()
    for name in names:
        try:
            together.update(rooms[name])
        except KeyError:  # nobody is in it, or no more: another thread's last client may have just left
            continue
    return together
