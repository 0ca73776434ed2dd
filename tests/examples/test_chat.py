"""examples/chat, served by the command that its README gives: what it tells its clients, and what it refuses."""

import base64
import hashlib
import queue
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import socketio

from examples.chat import checks
from examples.chat.checks import Refused
from examples.chat.rooms import COLOURS, FILE_BYTES, HISTORY, MOST_ROOMS, Files, House, Person, Room
from tests.support import node
from tests.support.process import ServedCommand

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("examples.chat.app:sio",)
INDEX = (ROOT / "examples/chat/static/index.html").read_text()
PATIENCE = 60.0  # seconds; only a failing test waits so long

Arrive = Callable[..., "Guest"]


class Guest:
    """Somebody in the chat, by python-socketio's client."""

    def __init__(self, url: str, auth: Any) -> None:
        self._heard: dict[str, queue.Queue[Any]] = {}
        self._client = socketio.Client(reconnection=False)
        self._client.on("*", lambda event, *data: self._told(event).put(data[0] if data else None))
        self._client.on("connect_error", lambda data: self._told("connect_error").put(data))
        self._client.connect(url, auth=auth, transports=["websocket"], wait_timeout=PATIENCE)

    def ask(self, event: str, *wish: Any, **fields: Any) -> Any:
        return self._client.call(event, wish[0] if wish else fields, timeout=PATIENCE)

    def hear(self, event: str) -> Any:
        return self._told(event).get(timeout=PATIENCE)

    def _told(self, event: str) -> queue.Queue[Any]:
        # setdefault is one step; a defaultdict lets a handler's thread make a second queue while the test makes one
        return self._heard.setdefault(event, queue.Queue())

    def leave(self) -> None:
        self._client.disconnect()


@contextmanager
def serving() -> Iterator[ServedCommand]:
    with ServedCommand(*ARGUMENTS, cwd=ROOT, CHAT_CLIENT="/nowhere") as server:
        yield server
    assert "Traceback" not in server.stderr


@contextmanager
def arriving(server: ServedCommand) -> Iterator[Arrive]:
    with ExitStack() as stack:

        def connected(name: str, key: str = "") -> Guest:
            guest = Guest(server.url, {"name": name, "key": key or f"key-of-{name.encode().hex()}"})
            stack.callback(guest.leave)
            return guest

        yield connected


@pytest.fixture(scope="module")
def server() -> Iterator[ServedCommand]:
    """One for the tests that leave nothing behind."""
    with serving() as server:
        yield server


@pytest.fixture
def visit(server: ServedCommand) -> Iterator[Arrive]:
    """Somebody comes in there, by name; their key is made of it."""
    with arriving(server) as arrive:
        yield arrive


@pytest.fixture
def arrive() -> Iterator[Arrive]:
    """The same at a server of the test's own."""
    with serving() as server, arriving(server) as arrive:
        yield arrive


# ---- people


def test_who_comes_is_told_of_the_rooms(arrive: Arrive) -> None:
    welcome = arrive("Ada").hear("welcome")
    assert [room["room"] for room in welcome["rooms"]] == ["lobby", "ideas", "show-and-tell"]
    assert (welcome["name"], welcome["colour"]) == ("Ada", 0) and re.fullmatch("[0-9a-f]{16}", welcome["person"])
    assert welcome["limits"] == {"name": 24, "room": 24, "text": 4000, "file": 4 << 20}


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        (None, "Please enter a name."),
        ({"name": "  \u200b\u202e ", "key": "k"}, "Please enter a name."),
        ({"name": "x" * 25, "key": "k"}, "A name may have 24 characters; this one has 25."),
        ({"name": ["x"], "key": "k"}, "The field 'name' must be text."),
        ({"name": "x", "key": "not a key"}, "A key has up to 64 letters"),
        ({"name": "ADA", "key": "k"}, "Somebody named ADA is here already."),
    ],
)
def test_who_may_not_come_in_is_told_why(server: ServedCommand, visit: Arrive, auth: Any, words: str) -> None:
    visit("Ada")
    told: list[Any] = []
    client = socketio.Client(reconnection=False)
    client.on("connect_error", told.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(server.url, auth=auth, transports=["websocket"], wait_timeout=PATIENCE)
    assert told[0]["message"].startswith(words) and told[0]["data"] == {"field": "name"}


def test_people_are_seen_to_come_and_go(arrive: Arrive) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    assert [person["name"] for person in ada.ask("enter", room="lobby")["people"]] == ["Ada"]
    assert {person["name"] for person in bob.ask("enter", room="lobby")["people"]} == {"Ada", "Bob"}
    joined = ada.hear("joined")
    assert (joined["room"], joined["name"]) == ("lobby", "Bob")
    bob.leave()
    assert ada.hear("left") == joined


def test_people_who_are_here_have_colours_of_their_own(arrive: Arrive) -> None:
    assert sorted(arrive(str(number)).hear("welcome")["colour"] for number in range(COLOURS)) == list(range(COLOURS))


def test_a_second_window_of_the_same_person_is_no_second_person(arrive: Arrive) -> None:
    ada, again = arrive("Ada", "one-key"), arrive("Ada", "one-key")
    for window in (ada, again):
        assert window.ask("enter", room="lobby")["members"] == 1
    again.leave()
    assert ada.ask("enter", room="lobby")["members"] == 1


# ---- rooms and messages


def test_what_is_said_reaches_the_others_and_those_who_come_later(arrive: Arrive) -> None:
    ada, bob, eve = (arrive(name) for name in ("Ada", "Bob", "Eve"))
    for guest in (ada, bob):
        guest.ask("enter", room="ideas")
    at = ada.ask("say", room="ideas", key="k1", text="  <b>Hello</b>\x07\n")["at"]
    said = bob.hear("said")
    person = ada.hear("welcome")["person"]
    assert said == {
        "room": "ideas",
        "at": at,
        "key": "k1",
        "person": person,
        "name": "Ada",
        "colour": 0,
        "text": "<b>Hello</b>",
    }
    assert eve.ask("enter", room="ideas")["messages"] == [said]
    assert bob.ask("say", room="ideas", key="k1", text="Bob has keys of his own")["at"] > at


def test_a_message_that_is_sent_again_is_there_once(arrive: Arrive) -> None:
    ada = arrive("Ada")
    ada.ask("enter", room="lobby")
    answers = [ada.ask("say", room="lobby", key="same", text="once") for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(ada.ask("enter", room="lobby")["messages"]) == 1


def test_rooms_are_opened_and_left(arrive: Arrive) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    opened = ada.ask("enter", room="# Coffee  Break", create=True)
    assert (opened["room"], opened["members"]) == ("coffee-break", 1)
    assert bob.hear("room") == {"room": "coffee-break", "topic": "", "members": 1}
    assert ada.ask("leave", room="coffee-break") == {}
    assert bob.hear("room")["members"] == 0
    assert ada.ask("say", room="coffee-break", key="k", text="x") == {"error": "Join coffee-break first."}


def test_typing_and_reading_are_told(arrive: Arrive) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    for guest in (ada, bob):
        guest.ask("enter", room="lobby")
    at = ada.ask("say", room="lobby", key="k", text="x")["at"]
    bob.ask("typing", room="lobby")
    assert ada.hear("typing")["name"] == "Bob"
    bob.ask("read", room="lobby", at=at)
    assert ada.hear("read") == {"room": "lobby", "person": bob.hear("welcome")["person"], "at": at}


def test_a_file_comes_to_who_asks_for_it(arrive: Arrive) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    for guest in (ada, bob):
        guest.ask("enter", room="lobby")
    data = bytes(range(256)) * 8000
    file = {"name": "../etc/ho\u202eme.png", "type": "image/png", "data": data, "width": 10, "height": 1 << 40}
    ada.ask("say", room="lobby", key="k", text="", file=file)
    said = bob.hear("said")
    assert said["file"] == {
        "name": ".._etc_home.png", "type": "image/png", "size": len(data), "width": 10, "height": checks.LARGEST_SIDE
    }  # fmt: skip
    assert bob.ask("file", room="lobby", at=said["at"]) == {"data": data}
    assert bob.ask("file", room="lobby", at=said["at"] + 1) == {"error": "This file is no longer kept here."}


@pytest.mark.parametrize(
    ("event", "wish", "words"),
    [
        ("say", "text", "An event of this chat comes with an object."),
        ("say", {}, "The field 'room' must be text."),
        ("say", {"room": "nowhere", "key": "k", "text": "x"}, "There is no room named nowhere."),
        ("say", {"room": "ideas", "key": "k", "text": "x"}, "Join ideas first."),
        ("say", {"room": "lobby", "key": "", "text": "x"}, "A key has up to 64 letters"),
        ("say", {"room": "lobby", "key": "k", "text": 7}, "The field 'text' must be text."),
        ("say", {"room": "lobby", "key": "k", "text": " \n "}, "There is nothing in this message."),
        ("say", {"room": "lobby", "key": "k", "text": "x" * 4001}, "A message may have 4000 characters"),
        ("say", {"room": "lobby", "key": "k", "text": "", "file": {"data": "text"}}, "A file has a name, a type"),
        ("say", {"room": "lobby", "key": "k", "text": "", "file": {"data": b""}}, "The file is empty."),
        ("say", {"room": "lobby", "key": "k", "text": "", "file": {"data": b"x", "name": 1}}, "The field 'name'"),
        ("say", {"room": "lobby", "key": "k", "text": "", "file": {"data": bytes((4 << 20) + 1)}}, "A file may have"),
        ("enter", {"room": "  "}, "Please enter a name for the room."),
        ("enter", {"room": "a/b", "create": True}, "A room's name has letters, digits and hyphens."),
        ("enter", {"room": "x" * 25, "create": True}, "A room's name may have 24 characters"),
        ("enter", {"room": "not-there"}, "There is no room named not-there."),
        ("read", {"room": "lobby", "at": -1}, "The field 'at' must be a whole number."),
        ("file", {"room": "lobby", "at": True}, "The field 'at' must be a whole number."),
        ("leave", {"room": "ideas"}, "Join ideas first."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_answered_in_words(visit: Arrive, event: str, wish: Any, words: str) -> None:
    ada = visit("Ada")
    ada.ask("enter", room="lobby")
    assert ada.ask(event, wish)["error"].startswith(words)
    assert "at" in ada.ask("say", room="lobby", key="fine", text="still here")


def test_who_sends_too_much_is_asked_to_wait(arrive: Arrive) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    for guest in (ada, bob):
        guest.ask("enter", room="lobby")
    answers = [ada.ask("say", room="lobby", key=f"k{number}", text="x") for number in range(400)]
    assert {"error": "That was a lot at once. Please wait a moment."} in answers
    assert "at" in bob.ask("say", room="lobby", key="k", text="I was not meant")


# ---- bounds


def test_a_room_keeps_its_last_messages_in_order() -> None:
    room, person = Room("r"), Person("id", "Ada", 0)
    times = [room.add(person, str(number), "x", None)["at"] for number in range(HISTORY + 10)]
    assert times == sorted(set(times))
    assert [message["at"] for message in room.messages] == times[10:]


def test_an_empty_room_makes_place_and_full_ones_do_not() -> None:
    house, person = House(), Person("id", "Ada", 0)
    made = []
    for number in range(MOST_ROOMS - len(house.rooms)):
        room, gone = house.create(f"room{number}")
        made.append(room)
        assert gone is None
    assert house.create("one-more")[1] is made[0]
    for room in house.rooms.values():
        room.enter(person, "window")
    with pytest.raises(Refused, match=f"There are {MOST_ROOMS} rooms"):
        house.create("too-many")


def test_the_oldest_files_go() -> None:
    files, quarter = Files(), bytes(FILE_BYTES // 4)
    for at in range(5):
        files.add({"room": "r", "at": at}, quarter)
    with pytest.raises(Refused):
        files.find("r", 0)
    assert files.find("r", 1) is quarter


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  Ada \t Lovelace\n", "Ada Lovelace"),
        ("A\u202ed\x00a", "Ada"),
        ("e\u0301", "\u00e9"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_a_name_is_one_line_of_what_can_be_seen(written: str, kept: str) -> None:
    assert checks.name(written) == kept


# ---- the page


def test_the_page_allows_only_what_it_has(server: ServedCommand) -> None:
    response = requests.get(server.url, timeout=PATIENCE)
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.search(r"<script>|\son\w+=|style=", response.text)
    assert requests.get(server.url + "/nothing", timeout=PATIENCE).status_code == 404
    assert requests.post(server.url, timeout=PATIENCE).status_code == 405
    assert requests.get(server.url + "/../app.py", timeout=PATIENCE).status_code == 404


def test_the_client_comes_from_its_cdn_by_hash(server: ServedCommand) -> None:
    page = requests.get(server.url, timeout=PATIENCE).text
    script = re.search(r'<script defer src="([^"]+)" integrity="sha384-([^"]+)" crossorigin="anonymous">', page)
    version = re.search(r"^SOCKET_IO_CLIENT := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert script and version
    assert script[1] == f"https://cdn.socket.io/{version[1]}/socket.io.min.js"
    file = node.package("socket.io-client", version[1]) / "socket.io-client/dist/socket.io.min.js"
    assert base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode() == script[2]


def test_the_client_comes_from_here_when_it_was_fetched(tmp_path: Path) -> None:
    (tmp_path / "client.js").write_text("fetched")
    with ServedCommand(*ARGUMENTS, cwd=ROOT, CHAT_CLIENT=str(tmp_path / "client.js")) as server:
        assert '<script defer src="socket.io.min.js"' in requests.get(server.url, timeout=PATIENCE).text
        assert requests.get(f"{server.url}/socket.io.min.js", timeout=PATIENCE).text == "fetched"


def test_the_documents_name_the_command_that_is_tested_here() -> None:
    assert f"    streamserve {' '.join(ARGUMENTS)}\n" in (ROOT / "examples/chat/README.md").read_text()
    assert f"APP ?= {ARGUMENTS[0]}\n" in (ROOT / "Makefile").read_text()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"make client +fetch socket\.io-client", shown)
