"""SocketIOServer: what python-socketio promises its applications, on the engine here, over every transport."""

import queue
from typing import Any

import pytest
import requests
import socketio
import websocket

from streamserve.errors import ConfigurationError
from streamserve.loop.timeout import Timeout
from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Connect, Host
from tests.support.server import eventually


@pytest.fixture
def sio() -> SocketIOServer:
    return SocketIOServer(cors_allowed_origins="*")


def test_an_event_is_answered_by_an_event(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    sio.on("add", lambda sid, a, b: sio.emit("sum", a + b, to=sid))
    heard: queue.Queue[Any] = queue.Queue()
    client = connect(host(sio), on={"sum": heard.put})
    client.emit("add", (2, 3))
    assert heard.get(timeout=60) == 5


@pytest.mark.parametrize(
    ("returned", "acknowledged"),
    [(None, None), ("one", "one"), (("a", 2), ["a", 2]), ({"k": b"\x00\xff"}, {"k": b"\x00\xff"})],
)
def test_what_a_handler_returns_is_the_acknowledgement(
    sio: SocketIOServer, host: Host, connect: Connect, returned: Any, acknowledged: Any
) -> None:
    sio.on("ask", lambda sid: returned)
    answer = connect(host(sio)).call("ask", timeout=60)
    assert (list(answer) if isinstance(answer, tuple) else answer) == acknowledged


def test_binary_travels_both_ways(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    sio.on("echo", lambda sid, data: sio.emit("back", data, to=sid))
    heard: queue.Queue[Any] = queue.Queue()
    client = connect(host(sio), on={"back": heard.put})
    data = {"files": [b"one", b"\x00" * 100_000], "name": "ü"}
    client.emit("echo", data)
    assert heard.get(timeout=60) == data


def test_rooms_reach_those_who_entered(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    sio.on("enter", lambda sid, room: sio.enter_room(sid, room))
    sio.on("leave", lambda sid, room: sio.leave_room(sid, room))
    server = host(sio)
    heard = [queue.Queue() for _ in range(3)]  # type: ignore[var-annotated]
    clients = [connect(server, on={"news": box.put}) for box in heard]
    for client in clients[:2]:
        client.call("enter", "red", timeout=60)
    server.call(sio.emit, "news", 1, "red")
    server.call(sio.emit, "news", 2)
    clients[0].call("leave", "red", timeout=60)
    server.call(sio.emit, "news", 3, "red")
    server.call(sio.emit, "news", "end")
    assert [[box.get(timeout=60) for _ in range(count)] for box, count in zip(heard, (3, 4, 2), strict=True)] == [
        [1, 2, "end"],
        [1, 2, 3, "end"],
        [2, "end"],
    ]


def test_an_emit_from_a_native_thread_arrives(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    connect(host(sio), on={"tick": heard.put})
    for number in range(20):
        sio.emit("tick", number)
    assert [heard.get(timeout=60) for _ in range(20)] == list(range(20))


def test_a_background_task_pushes(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    def push(sid: str) -> None:
        for number in range(3):
            sio.sleep(0.001)
            sio.emit("tick", number, to=sid)

    sio.on("start", lambda sid: sio.start_background_task(push, sid) and None)
    heard: queue.Queue[Any] = queue.Queue()
    connect(host(sio), on={"tick": heard.put}).emit("start")
    assert [heard.get(timeout=60) for _ in range(3)] == [0, 1, 2]


def test_the_server_may_call_a_client(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    sio.on("please", lambda sid: sio.call("double", 21, to=sid, timeout=60))
    client = connect(host(sio), on={"double": lambda number: 2 * number})
    assert client.call("please", timeout=60) == 42


def test_sessions_are_kept_for_each_client(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    sio.on("connect", lambda sid, environ, auth: sio.save_session(sid, {"name": auth["name"]}))
    sio.on("who", lambda sid: sio.get_session(sid)["name"])
    server = host(sio)
    clients = [connect(server, auth={"name": name}) for name in ("ann", "bob")]
    assert [client.call("who", timeout=60) for client in clients] == ["ann", "bob"]


def test_namespaces_are_apart(sio: SocketIOServer, host: Host, connect: Connect) -> None:
    class Chat(socketio.Namespace):  # type: ignore[misc]
        def on_say(self, sid: str, what: str) -> str:
            return f"chat: {what}"

    sio.register_namespace(Chat("/chat"))
    sio.on("say", lambda sid, what: f"main: {what}")
    client = connect(host(sio), namespaces=["/", "/chat"])
    assert client.call("say", "a", timeout=60) == "main: a"
    assert client.call("say", "a", namespace="/chat", timeout=60) == "chat: a"


def test_a_client_learns_that_it_was_disconnected_and_the_server_why(
    sio: SocketIOServer, host: Host, connect: Connect
) -> None:
    reasons: list[str] = []
    gone: queue.Queue[Any] = queue.Queue()
    sio.on("disconnect", lambda sid, reason: reasons.append(reason))
    sio.on("kick", lambda sid: sio.disconnect(sid))
    server = host(sio)
    connect(server, on={"disconnect": lambda reason: gone.put(reason)}).emit("kick")
    gone.get(timeout=60)
    eventually(lambda: reasons == ["server disconnect"], "the handler is told")
    connect(server).disconnect()
    eventually(lambda: len(reasons) == 2, "the handler is told")
    # python-engineio's client may stop before what it has queued, its goodbye, was sent.
    assert reasons[1] in ("client disconnect", "transport close", "ping timeout")
    # Nor does it say that it goes when its last namespace is taken from it: the heartbeat would find that.
    server.spawn(lambda: [session.close(abort=True) for session in [*sio.eio.sockets.values()]]).result(60)


@pytest.mark.parametrize(
    "failure", [False, socketio.exceptions.ConnectionRefusedError("no", 1), RuntimeError("oops"), Timeout()]
)
def test_a_connect_that_fails_leaves_nothing(sio: SocketIOServer, host: Host, connect: Connect, failure: Any) -> None:
    def refuse(sid: str, environ: dict[str, Any]) -> Any:
        if failure is False:
            return False
        raise failure

    sio.on("connect", refuse)
    with pytest.raises(socketio.exceptions.ConnectionError):
        connect(host(sio))
    eventually(lambda: not sio.eio.sockets and not sio.environ, "nothing is left of it")
    assert all(not rooms.get(None) for rooms in sio.manager.rooms.values())


class TestOnTheWire:
    """Packets as they are, by WebSocket."""

    @pytest.fixture
    def client(self, sio: SocketIOServer, host: Host) -> Any:
        sio.on("connect", lambda sid, environ: None)
        sio.on("echo", lambda sid, *data: data)
        url = f"ws://127.0.0.1:{host(sio).port}/socket.io/?EIO=4&transport=websocket"
        client = websocket.create_connection(url, timeout=60)
        assert client.recv()[0] == "0"
        yield client
        client.shutdown()

    def test_a_client_joins_and_is_acknowledged(self, client: Any) -> None:
        client.send("40")
        assert client.recv().startswith('40{"sid":"')
        client.send('4212["echo","a",{"b":1}]')
        assert client.recv() == '4312["a",{"b":1}]'

    def test_a_namespace_that_is_not_there_is_told_exactly(self, client: Any) -> None:
        client.send("40/nobody,")
        assert client.recv() == '44/nobody,{"message":"Invalid namespace"}'

    @pytest.mark.parametrize(
        "message",
        ["4", "4abc", "42{}", '42"echo"', "42[", '451-["a"]', '4511-["a",{"_placeholder":true,"num":0}]', "44", "48"],
    )
    def test_what_is_no_packet_ends_the_connection(self, client: Any, message: str) -> None:
        client.send("40")
        client.recv()
        client.send(message)
        if message == '451-["a"]':
            client.send("4no attachment")
        assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE

    def test_an_attachment_without_its_event_ends_the_connection(self, client: Any) -> None:
        client.send("40")
        client.recv()
        client.send_binary(b"alone")
        assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE


def test_other_paths_are_those_of_the_application_around(host: Host) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    server = host(SocketIOServer(wsgi_app=app, socketio_path="/live"))
    base = f"http://127.0.0.1:{server.port}"
    assert requests.get(f"{base}/page", timeout=60).text == "/page"
    assert requests.get(f"{base}/live/?EIO=4&transport=polling", timeout=60).text[0] == "0"
    assert requests.get(f"http://127.0.0.1:{host(SocketIOServer()).port}/page", timeout=60).status_code == 404


@pytest.mark.parametrize("mode", ["gevent", "eventlet", "threading"])
def test_another_async_mode_is_refused_by_name(mode: str) -> None:
    with pytest.raises(ConfigurationError, match=f"async_mode='{mode}' is another server's"):
        SocketIOServer(async_mode=mode)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"connect_timeout": None}, "connect_timeout=None is no number of seconds; give one from 0 up"),
        ({"connect_timeout": "x"}, "connect_timeout='x' is no number of seconds; give one from 0 up"),
        ({"connect_timeout": -1}, "connect_timeout=-1 is no number of seconds; give one from 0 up"),
        ({"json": 5}, "json=5 cannot write and read JSON; give a module with dumps and loads"),
        (
            {"serializer": "foo"},
            "serializer='foo' is none; give 'default', 'msgpack' or a class like socketio.packet.Packet",
        ),
        (
            {"parser": "foo"},
            "serializer='foo' is none; give 'default', 'msgpack' or a class like socketio.packet.Packet",
        ),
        (
            {"parser": "msgpack", "serializer": "default"},
            "parser='msgpack' and serializer='default' are two names of one option; give one of them",
        ),
        ({"socketio_path": None}, "socketio_path=None is no path; give text, 'socket.io' for instance"),
        ({"max_queue": 1.5}, "max_queue=1.5 is no whole number of bytes; give one without a fraction"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SocketIOServer(**options)
    assert str(refused.value) == line
    assert hasattr(socketio.packet.Packet.json, "dumps"), "nothing is left of it in the class of packets"


def test_parser_is_another_name_of_serializer() -> None:
    pytest.importorskip("msgpack")
    packets = SocketIOServer(serializer="msgpack").packet_class
    assert SocketIOServer(parser="msgpack").packet_class is packets
    assert SocketIOServer(parser="msgpack", serializer="msgpack").packet_class is packets
    assert SocketIOServer(None, False, "msgpack").packet_class is packets


def test_an_endless_connect_timeout_is_one() -> None:
    assert SocketIOServer(connect_timeout=float("inf")).arrivals._seconds == float("inf")


def test_an_application_in_the_place_of_the_manager_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"client_manager is of type function, .* goes into wsgi_app="):
        SocketIOServer(lambda environ, start_response: [])
    with pytest.raises(ConfigurationError, match="wsgi_app=3 cannot be called; give a WSGI application"):
        SocketIOServer(wsgi_app=3)  # type: ignore[arg-type]
