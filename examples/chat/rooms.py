"""Rooms, who is in them, and what was said there lately. All of it is in memory, and none of it knows Socket.IO."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from examples.chat.checks import File, Refused

HISTORY = 200  # messages that a room keeps
MOST_ROOMS = 40
COLOURS = 10  # of people, in chat.css
FILE_BYTES = 64 << 20  # of all rooms; then the oldest files go

FIRST_ROOMS = {
    "lobby": "Everyone starts here",
    "ideas": "What should exist, but does not yet",
    "show-and-tell": "Pictures and files welcome",
}

Message = dict[str, Any]


@dataclass
class Person:
    """Somebody who is here, in one window or several.

    Attributes:
        id: what the others know; only who has the key can be this person.
        colour: a number below COLOURS.
    """

    id: str
    name: str
    colour: int
    windows: set[str] = field(default_factory=set)

    @staticmethod
    def id_of(key: str) -> str:
        return blake2b(key.encode(), digest_size=8).hexdigest()

    def shown(self) -> dict[str, Any]:
        return {"person": self.id, "name": self.name, "colour": self.colour}


def free_colour(people: Iterable[Person]) -> int:
    """One that the fewest have."""
    taken = Counter(person.colour for person in people)
    return min(range(COLOURS), key=lambda colour: taken[colour])


class Room:
    """One room.

    Attributes:
        members: who is in there: person's id → their windows in here.
        reads: person's id → the time of the last message that they have seen.
    """

    def __init__(self, name: str, topic: str = "", permanent: bool = False) -> None:
        self.name = name
        self.topic = topic
        self.permanent = permanent
        self.messages: deque[Message] = deque(maxlen=HISTORY)
        self.members: dict[str, set[str]] = {}
        self.reads: dict[str, int] = {}
        self.last = 0

    def shown(self) -> dict[str, Any]:
        return {"room": self.name, "topic": self.topic, "members": len(self.members)}

    def enter(self, person: Person, window: str) -> bool:
        """Whether the person was not in here before, in no window."""
        windows = self.members.setdefault(person.id, set())
        windows.add(window)
        return len(windows) == 1

    def leave(self, person: Person, window: str) -> bool:
        """Whether the person is not in here any more."""
        windows = self.members.get(person.id, set())
        windows.discard(window)
        if windows or person.id not in self.members:
            return False
        del self.members[person.id]
        self.reads.pop(person.id, None)
        return True

    def has(self, person: Person, window: str) -> bool:
        return window in self.members.get(person.id, ())

    def said_before(self, person: Person, key: str) -> Message | None:
        """The message, if its sender sends it again because no answer came."""
        return next((old for old in self.messages if old["key"] == key and old["person"] == person.id), None)

    def add(self, person: Person, key: str, text: str, file: File | None) -> Message:
        """Keeps a message. Its time, in milliseconds, is later than that of all before it, and so its name too."""
        self.last = max(self.last + 1, int(time.time() * 1000))
        message = {"room": self.name, "at": self.last, "key": key, **person.shown(), "text": text}
        if file is not None:
            message["file"] = file.about
        self.messages.append(message)
        return message

    def read(self, person: Person, at: int) -> bool:
        """Whether it is news that the person has seen all up to this time."""
        if at <= self.reads.get(person.id, 0) or at > self.last:
            return False
        self.reads[person.id] = at
        return True


class Files:
    """The bytes of the files that were sent, of which the oldest go when there are too many."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], bytes] = {}
        self._size = 0

    def add(self, message: Message, data: bytes) -> None:
        self._kept[message["room"], message["at"]] = data
        self._size += len(data)
        while self._size > FILE_BYTES:
            oldest = next(iter(self._kept))
            self._size -= len(self._kept.pop(oldest))

    def find(self, room: str, at: int) -> bytes:
        """Raises Refused if it is no longer there."""
        data = self._kept.get((room, at))
        if data is None:
            raise Refused("This file is no longer kept here.")
        return data


class House:
    """All rooms."""

    def __init__(self) -> None:
        self.rooms = {name: Room(name, topic, permanent=True) for name, topic in FIRST_ROOMS.items()}

    def room(self, name: str) -> Room:
        """Raises Refused if there is no such room."""
        found = self.rooms.get(name)
        if found is None:
            raise Refused(f"There is no room named {name}.")
        return found

    def create(self, name: str) -> tuple[Room, Room | None]:
        """A new room, and the empty one that had to go for it.

        Raises:
            Refused: there are as many as there may be, and somebody is in each.
        """
        gone = None
        if len(self.rooms) >= MOST_ROOMS:
            empty = [room for room in self.rooms.values() if not room.permanent and not room.members]
            if not empty:
                raise Refused(f"There are {MOST_ROOMS} rooms, and somebody is in each. Join one of them.")
            gone = min(empty, key=lambda room: room.last)
            del self.rooms[gone.name]
        room = self.rooms[name] = Room(name)
        return room, gone
