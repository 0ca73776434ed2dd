"""What `emit` takes, and whom it reaches; and what waits for a client that polls."""

import json
import queue
import sys
import threading
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from socketio.pubsub_manager import PubSubManager

from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from tests.socketio.conftest import Connect, Host
from tests.socketio.test_protocol import Wire
from tests.support.server import eventually


class Group:
    """Clients of one server, and what each has heard of `news`."""

    def __init__(self, sio: SocketIOServer, host: Host, connect: Connect, number: int) -> None:
        self.sio = sio
        sio.on("end", lambda sid: sio.emit("news", "end", to=sid))
        self.server = host(sio)
        self.boxes: list[queue.Queue[Any]] = [queue.Queue() for _ in range(number)]
        self.clients = [connect(self.server, on={"news": self._note(box)}) for box in self.boxes]
        self.sids = [client.get_sid() for client in self.clients]

    @staticmethod
    def _note(box: "queue.Queue[Any]") -> Any:
        return lambda *data: box.put(data[0] if len(data) == 1 else data)

    def emit(self, *args: Any, **options: Any) -> None:
        self.server.call(lambda: self.sio.emit("news", *args, **options))

    def heard(self) -> list[list[Any]]:
        """What each has heard since the last call."""
        for client in self.clients:
            client.emit("end")
        found: list[list[Any]] = []
        for box in self.boxes:
            found.append([])
            while (item := box.get(timeout=60)) != "end":
                found[-1].append(item)
        return found


@pytest.fixture
def group(host: Host, connect: Connect) -> Group:
    return Group(SocketIOServer(), host, connect, 3)


def test_several_rooms_are_reached_and_nobody_twice(group: Group) -> None:
    for sid, rooms in zip(group.sids, (["red", "blue"], ["blue"], []), strict=True):
        for room in rooms:
            group.server.call(group.sio.enter_room, sid, room)
    group.emit(1, to=["red", "blue", "nobody"])
    group.emit(2, room="red")
    group.emit(3, to=group.sids[2])
    assert group.heard() == [[1, 2], [1], [3]]


def test_who_is_skipped_hears_nothing(group: Group) -> None:
    group.emit(1, skip_sid=group.sids[0])
    group.emit(2, skip_sid=group.sids[:2])
    group.emit(3, to=group.sids[0], skip_sid=group.sids[0])
    assert group.heard() == [[], [1], [1, 2]]


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (None, ()),
        ("text", "text"),
        (("a", 2), ("a", 2)),
        (("one",), "one"),
        (["a", 2], ["a", 2]),
        ({"k": [b"\x00", {"n": b""}]}, {"k": [b"\x00", {"n": b""}]}),
        ((b"a", b"b"), (b"a", b"b")),
        ((), ()),
        (0, 0),
        ("ü\u2028\U0001f600", "ü\u2028\U0001f600"),
    ],
    ids=repr,
)
def test_a_tuple_becomes_several_arguments_and_all_else_one(group: Group, data: Any, arguments: Any) -> None:
    group.emit(data)
    assert group.heard() == [[arguments]] * 3


def test_a_room_that_is_closed_reaches_nobody(group: Group) -> None:
    group.server.call(group.sio.enter_room, group.sids[0], "red")
    group.server.call(group.sio.enter_room, group.sids[1], "red")
    assert "red" in group.server.call(group.sio.rooms, group.sids[0])
    group.server.call(group.sio.close_room, "red")
    group.emit(1, to="red")
    assert group.heard() == [[], [], []]
    assert group.server.call(group.sio.rooms, group.sids[0]) == [group.sids[0]]


def test_an_answer_is_given_to_the_callback(host: Host, connect: Connect) -> None:
    sio, answers = SocketIOServer(), []
    server = host(sio)
    client = connect(server, on={"ask": lambda data: (data, b"\x01"), "nothing": lambda: None})
    for event, data in (("ask", "one"), ("nothing", None)):
        server.call(lambda: sio.emit(event, data, to=client.get_sid(), callback=lambda *data: answers.append(data)))  # noqa: B023
        eventually(lambda: len(answers) == (1 if event == "ask" else 2), "it has answered")  # noqa: B023
    assert answers == [("one", b"\x01"), ()]


def test_attachments_follow_their_event_whoever_else_emits(host: Host) -> None:
    sio, count = SocketIOServer(), 50
    wire = Wire(host(sio).port)
    sid = wire.join()["sid"]
    rooms = [sid, None]  # to one, and to all
    interval = sys.getswitchinterval()

    def flood(name: int) -> None:
        for number in range(count):
            sio.emit("event", [name, bytes([name]), {"deep": bytes([name, name])}], to=rooms[number % 2])

    threads = [threading.Thread(target=flood, args=(name,)) for name in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(len(threads) * count):
            head = wire.receive()
            assert head.startswith('452-["event",['), head
            name = json.loads(head[4:])[1][0]
            assert [wire.receive(), wire.receive()] == [bytes([name]), bytes([name, name])]
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    wire.connection.shutdown()


def test_an_emit_takes_all_that_python_socketio_takes_at_once(host: Host) -> None:
    sio, answers = SocketIOServer(namespaces=["/a"]), []
    server = host(sio)
    with ExitStack() as stack:
        wires = [Wire(server.port) for _ in range(3)]
        for wire in wires:
            stack.callback(wire.connection.shutdown)
        sids = [wire.join("/a")["sid"] for wire in wires]
        for sid in sids:
            server.call(lambda sid=sid: sio.enter_room(sid, "red", namespace="/a"))
        server.call(
            lambda: sio.emit(
                "event", (1, {"b": 2}), to=["red", sids[0]], skip_sid=[sids[1]], namespace="/a",
                callback=lambda *data: answers.append(data), ignore_queue=True,
            )
        )  # fmt: skip
        for wire in (wires[0], wires[2]):
            assert wire.receive() == '42/a,1["event",1,{"b":2}]'
            wire.send('43/a,1["ok"]')
        eventually(lambda: answers == [("ok",)] * 2, "both have answered")
        server.call(lambda: sio.emit("last", to="red", namespace="/a", ignore_queue=True))
        assert wires[1].receive() == '42/a,["last"]'


def test_send_is_the_event_message(host: Host, connect: Connect) -> None:
    sio = SocketIOServer()
    sio.on("message", lambda sid, data: sio.send(data.upper(), to=sid))
    heard: queue.Queue[str] = queue.Queue()
    connect(host(sio), on={"message": heard.put}).send("hey")
    assert heard.get(timeout=60) == "HEY"


class Shouting:
    """A JSON module of a program's own."""

    dumps = staticmethod(lambda data, **options: json.dumps(data, **options).replace("hey", "HEY"))
    loads = staticmethod(json.loads)


def test_a_json_module_of_the_program_is_used(host: Host, connect: Connect) -> None:
    sio = SocketIOServer()
    before = sio.packet_class.json
    try:
        sio = SocketIOServer(json=Shouting)
        sio.on("echo", lambda sid, data: data)
        answer = connect(host(sio)).call("echo", "hey", timeout=60)
    finally:
        from engineio.packet import Packet

        sio.packet_class.json = Packet.json = before
    assert answer == "HEY"


def test_a_manager_of_several_servers_writes_by_the_json_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from engineio.packet import Packet as EnginePacket
    from socketio.packet import Packet

    for kind in (Packet, EnginePacket):  # upstream puts the module into the classes
        monkeypatch.setattr(kind, "json", kind.json)
    manager = PubSubManager(json=json)
    assert manager.json is json
    SocketIOServer(json=Shouting, client_manager=manager)
    assert manager.json is Shouting


def test_what_a_client_posts_waits_while_its_connect_handler_does(host: Host) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: log.append("connect") or (gate.wait() and None))
    sio.on("event", lambda sid, number: log.append(number))
    server = host(sio)
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    sid = json.loads(requests.get(url, timeout=60).text[1:])["sid"]
    posts = [
        threading.Thread(target=requests.post, args=(f"{url}&sid={sid}",), kwargs={"data": body, "timeout": 60})
        for body in ("40", '42["event",1]\x1e42["event",2]')
    ]
    posts[0].start()
    eventually(lambda: log == ["connect"], "the handler waits")
    posts[1].start()
    eventually(lambda: server.server.active >= 2, "the second request is here")
    assert log == ["connect"]
    server.call(gate.set)
    for post in posts:
        post.join(60)
    eventually(lambda: log == ["connect", 1, 2], "all is dealt with, in order")
