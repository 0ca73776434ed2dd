"""A chat with rooms, on SocketIOServer.

What a client asks for, each an event with an object, acknowledged with an object; where that has `error`, it is words
for the person who asked:

    enter   {room, create}          → {room, topic, members, messages, people, reads}
    leave   {room}
    say     {room, key, text, file} → {at}       the file's bytes are an attachment, {name, type, data, width, height}
    file    {room, at}              → {data}     the bytes of the file of a message
    typing  {room}, read {room, at}              which nobody answers

and what it is told: `welcome` first; `room` when one is new or its number of people changed, `gone` when one is closed;
`said`, `typing`, `read`, `joined` and `left` in the rooms where it is.

No handler waits for anything, so each runs to its end before another begins, and nothing here needs a lock.
"""

import time
from collections.abc import Callable
from typing import Any

from socketio.exceptions import ConnectionRefusedError

from examples.chat import checks
from examples.chat.checks import Refused
from examples.chat.page import page
from examples.chat.rooms import Files, House, Person, Room, free_colour
from streamserve.socketio_server import SocketIOServer

SENT_ON_JOIN = 100  # messages
READ_RECEIPTS = 50  # people in a room; in a larger one nobody is told who has read what
EVENTS_AT_ONCE, EVENTS_PER_SECOND = 40.0, 8.0  # of one window

sio = SocketIOServer(
    wsgi_app=page,
    max_http_buffer_size=6 << 20,  # a file as base64, which it is while a client polls
    max_queue=16 << 20,
)
house = House()
files = Files()
people: dict[str, Person] = {}  # by id
windows: dict[str, "Window"] = {}  # by sid


class Window:
    """A page that is open."""

    def __init__(self, sid: str, person: Person) -> None:
        self.sid = sid
        self.person = person
        self.allowance, self.asked = EVENTS_AT_ONCE, time.monotonic()

    def spend(self) -> None:
        """Takes an event of what it may send, which grows again with time."""
        now = time.monotonic()
        self.allowance = min(EVENTS_AT_ONCE, self.allowance + (now - self.asked) * EVENTS_PER_SECOND)
        self.asked = now
        if self.allowance < 1:
            raise Refused("That was a lot at once. Please wait a moment.")
        self.allowance -= 1

    def room(self, wish: dict[str, Any]) -> Room:
        """The room of a wish, in which it must be."""
        room = house.room(checks.string(wish, "room"))
        if not room.has(self.person, self.sid):
            raise Refused(f"Join {room.name} first.")
        return room


def answers(handler: Callable[[Window, dict[str, Any]], dict[str, Any] | None]) -> None:
    """Makes a function the handler of the event of its name; what it returns is the acknowledgement."""

    def handle(sid: str, wish: Any = None, *_: Any) -> dict[str, Any]:
        window = windows.get(sid)
        if window is None:
            return {"error": "You have left."}  # while this event was on its way
        try:
            window.spend()
            if not isinstance(wish, dict):
                raise Refused("An event of this chat comes with an object.")
            return handler(window, wish) or {}
        except Refused as refused:
            return {"error": str(refused)}

    sio.on(handler.__name__, handle)


def tell(room: Room, event: str, data: dict[str, Any], but: str | None = None) -> None:
    """Tells everyone in a room, `but` one window."""
    sio.emit(event, {"room": room.name, **data}, room=f"room {room.name}", skip_sid=but)


# ---- coming and going


@sio.event
def connect(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
    try:
        if not isinstance(auth, dict):
            raise Refused("Please enter a name.")
        name, person_id = checks.name(checks.string(auth, "name")), Person.id_of(checks.key(auth))
        if any(other.name.casefold() == name.casefold() for other in people.values() if other.id != person_id):
            raise Refused(f"Somebody named {name} is here already. Please choose another name.")
    except Refused as refused:
        raise ConnectionRefusedError(str(refused), {"field": "name"}) from None
    person = people.get(person_id)
    if person is None:
        person = people[person_id] = Person(person_id, name, free_colour(people.values()))
    person.name = name
    person.windows.add(sid)
    windows[sid] = Window(sid, person)
    rooms = [room.shown() for room in house.rooms.values()]
    sio.emit("welcome", {**person.shown(), "rooms": rooms, "limits": checks.LIMITS}, to=sid)


@sio.event
def disconnect(sid: str, reason: str) -> None:
    person = windows[sid].person
    for room in list(house.rooms.values()):
        if room.has(person, sid):
            depart(room, person, sid)
    del windows[sid]
    person.windows.discard(sid)
    if not person.windows:
        del people[person.id]


@answers
def enter(window: Window, wish: dict[str, Any]) -> dict[str, Any]:
    name, gone = checks.room(checks.string(wish, "room")), None
    if name not in house.rooms and wish.get("create") is True:
        _, gone = house.create(name)
    room = house.room(name)
    if gone is not None:
        sio.emit("gone", {"room": gone.name})
    if room.enter(window.person, window.sid):
        tell(room, "joined", window.person.shown())
    sio.enter_room(window.sid, f"room {room.name}")
    sio.emit("room", room.shown())
    return {
        **room.shown(),
        "messages": list(room.messages)[-SENT_ON_JOIN:],
        "people": [people[person].shown() for person in room.members],
        "reads": {person: at for person, at in room.reads.items() if person in room.members},
    }


@answers
def leave(window: Window, wish: dict[str, Any]) -> None:
    room = window.room(wish)
    sio.leave_room(window.sid, f"room {room.name}")
    depart(room, window.person, window.sid)


def depart(room: Room, person: Person, sid: str) -> None:
    if room.leave(person, sid):
        tell(room, "left", person.shown(), but=sid)
        sio.emit("room", room.shown())


# ---- in a room


@answers
def say(window: Window, wish: dict[str, Any]) -> dict[str, Any]:
    room, person, key = window.room(wish), window.person, checks.key(wish)
    message = room.said_before(person, key)
    if message is None:
        text, file = checks.text(wish), checks.file(wish)
        if not text and file is None:
            raise Refused("There is nothing in this message.")
        message = room.add(person, key, text, file)
        if file is not None:
            files.add(message, file.data)
        tell(room, "said", message, but=window.sid)
    return {"at": message["at"]}


@answers
def file(window: Window, wish: dict[str, Any]) -> dict[str, Any]:
    return {"data": files.find(window.room(wish).name, checks.number(wish, "at"))}


@answers
def typing(window: Window, wish: dict[str, Any]) -> None:
    tell(window.room(wish), "typing", window.person.shown(), but=window.sid)


@answers
def read(window: Window, wish: dict[str, Any]) -> None:
    room, at = window.room(wish), checks.number(wish, "at")
    if room.read(window.person, at) and len(room.members) <= READ_RECEIPTS:
        tell(room, "read", {"person": window.person.id, "at": at}, but=window.sid)
