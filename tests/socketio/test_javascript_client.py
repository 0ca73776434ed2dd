"""The client that browsers load, socket.io-client of npm: every transport, every kind of message, its reconnection."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from socketio.exceptions import ConnectionRefusedError, TimeoutError

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.support.javascript_client import Clients, JavaScriptClient, JavaScriptError
from tests.support.server import Running, eventually

Open = Callable[..., JavaScriptClient]

TRANSPORTS = {
    "websocket": ["websocket"],
    "polling": ["polling"],
    "change": ["polling", "websocket"],
}
NESTED = {"list": [b"one", {"deep": b"\x00\xff" * 1000}], "name": "grüße", "number": 1.5, "nothing": None}


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.stop()


@pytest.fixture
def open_client(clients: Clients) -> Iterator[Open]:
    """Opens a client by any transport; it has connected."""
    with ExitStack() as stack:

        def connected(server: Running, namespace: str = "", **options: Any) -> JavaScriptClient:
            client = stack.enter_context(clients.open(server.port, namespace, **options))
            client.next("connect")
            return client

        yield connected


@pytest.fixture(params=TRANSPORTS.values(), ids=TRANSPORTS.keys())
def connect(request: pytest.FixtureRequest, open_client: Open) -> Open:
    """Opens a client by the transport of this run; where that changes, it has changed."""

    def connected(server: Running, namespace: str = "", **options: Any) -> JavaScriptClient:
        client = open_client(server, namespace, transports=request.param, **options)
        name = client.run(
            "const engine = socket.io.engine;"
            "if (values[0] && engine.transport.name === 'polling')"
            " await new Promise((resolve) => engine.once('upgrade', resolve));"
            "return engine.transport.name",
            len(request.param) == 2,
        )
        assert name == request.param[-1]
        return client

    return connected


@pytest.fixture
def sio() -> SocketIOServer:
    return SocketIOServer(cors_allowed_origins="*")


def test_an_event_is_answered_by_an_event(sio: SocketIOServer, host: Host, connect: Open) -> None:
    sio.on("add", lambda sid, a, b: sio.emit("sum", a + b, to=sid))
    client = connect(host(sio))
    client.run("socket.emit('add', 2, 3)")
    assert client.next("sum") == [5]


def test_binary_travels_both_ways(sio: SocketIOServer, host: Host, connect: Open) -> None:
    heard: list[Any] = []

    def back(sid: str, *values: Any) -> None:
        heard.append(values)
        sio.emit("back", values, to=sid)

    sio.on("echo", back)
    client = connect(host(sio))
    client.run("socket.emit('echo', ...values)", b"\x01", NESTED, "text", b"")
    assert client.next("back") == [b"\x01", NESTED, "text", b""]
    assert heard == [(b"\x01", NESTED, "text", b"")]


@pytest.mark.parametrize("answer", ["values[0]", "values[1]"], ids=["text", "bytes"])
def test_answers_come_while_events_wait(host: Host, connect: Open, answer: str) -> None:
    sio, answers, began = SocketIOServer(max_events=1, cors_allowed_origins="*"), [], []
    sio.on("ask", lambda sid: answers.append(sio.call("question", to=sid, timeout=30)))
    sio.on("event", lambda sid, number: began.append(number))
    client = connect(host(sio))
    client.run(
        f"socket.on('question', (reply) => reply({answer}));"
        "for (let number = 0; number < 10; number++) { socket.emit('ask'); socket.emit('event', number); }",
        "text",
        b"bytes",
    )
    eventually(lambda: len(began) == 10, "all have begun")
    assert began == [*range(10)] and answers == [b"bytes" if answer == "values[1]" else "text"] * 10


def test_many_events_arrive_in_order(sio: SocketIOServer, host: Host, connect: Open) -> None:
    sio.async_handlers = False
    sio.on("count", lambda sid, number: sio.emit("counted", number, to=sid))
    client = connect(host(sio))
    script = (
        "for (let i = 0; i < 500; i++) socket.emit('count', i);"
        "const heard = []; while (heard.length < 500) heard.push((await next('counted'))[0]); return heard"
    )
    assert client.run(script) == list(range(500))


def test_a_volatile_event_arrives_while_the_client_is_connected(sio: SocketIOServer, host: Host, connect: Open) -> None:
    sio.on("ping", lambda sid, number: sio.emit("pong", number, to=sid))
    client = connect(host(sio))
    client.run(
        "const again = setInterval(() => socket.volatile.emit('ping', 1), 5); await next('pong'); clearInterval(again)"
    )


class TestAcknowledgements:
    def test_what_a_handler_returns_comes_back(self, sio: SocketIOServer, host: Host, connect: Open) -> None:
        sio.on("ask", lambda sid, value: {"you said": value, "bytes": b"\x07"})
        sio.on("two", lambda sid: ("a", b"b"))
        client = connect(host(sio))
        answer = client.run("return await socket.timeout(60000).emitWithAck('ask', values[0])", NESTED)
        assert answer == {"you said": NESTED, "bytes": b"\x07"}
        both = client.run("return await new Promise((done) => socket.emit('two', (...values) => done(values)))")
        assert both == ["a", b"b"]

    def test_one_that_does_not_come_in_time_is_an_error_there(
        self, sio: SocketIOServer, host: Host, connect: Open
    ) -> None:
        client = connect(host(sio))
        with pytest.raises(JavaScriptError, match="operation has timed out"):
            client.run("await socket.timeout(50).emitWithAck('nobody handles this', 1)")

    def test_the_server_gets_what_a_client_answers(self, sio: SocketIOServer, host: Host, connect: Open) -> None:
        answers: list[Any] = []
        sio.on("please", lambda sid, data: answers.append(sio.call("double", data, to=sid, timeout=60)))
        client = connect(host(sio))
        client.run("socket.on('double', (data, answer) => answer({ twice: [data, data] }))")
        client.run("await socket.emitWithAck('please', values[0])", b"\x01\x02")
        assert answers == [{"twice": [b"\x01\x02", b"\x01\x02"]}]

    def test_the_server_waits_for_one_no_longer_than_it_says(
        self, sio: SocketIOServer, host: Host, connect: Open
    ) -> None:
        def ask(sid: str) -> str:
            try:
                sio.call("silence", to=sid, timeout=0.05)
            except TimeoutError:
                return "it did not answer"
            return "it answered"

        sio.on("please", ask)
        client = connect(host(sio))
        assert client.run("return await socket.emitWithAck('please')") == "it did not answer"


class TestNamespaces:
    @pytest.fixture
    def sio(self, sio: SocketIOServer) -> SocketIOServer:
        def enter(sid: str, environ: Any, auth: Any = None) -> None:
            if not auth or auth.get("token") != "secret":
                raise ConnectionRefusedError("not for you", {"retry": 5})
            sio.emit("welcome", auth["name"], to=sid, namespace="/admin")

        sio.on("connect", enter, namespace="/admin")
        sio.on("connect", lambda sid, environ: None)
        sio.on("where", lambda sid: "admin", namespace="/admin")
        sio.on("where", lambda sid: "main")
        return sio

    def test_who_may_is_let_in(self, sio: SocketIOServer, host: Host, connect: Open) -> None:
        client = connect(host(sio), "/admin", auth={"token": "secret", "name": "Ada"})
        assert client.next("welcome") == ["Ada"]
        assert client.run("return await socket.emitWithAck('where')") == "admin"

    @pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS.keys())
    def test_who_may_not_is_told_why(
        self, sio: SocketIOServer, host: Host, clients: Clients, transports: list[str]
    ) -> None:
        with clients.open(host(sio).port, "/admin", transports=transports, auth={"token": "guess"}) as client:
            assert client.next("connect_error") == ["not for you", {"retry": 5}]
            assert client.run("return socket.connected") is False
            client.run("socket.auth = { token: 'secret', name: 'Bob' }; socket.connect()")
            assert client.next("welcome") == ["Bob"]

    def test_one_that_is_not_there_is_told_by_name(self, sio: SocketIOServer, host: Host, clients: Clients) -> None:
        with clients.open(host(sio).port, "/nobody") as client:
            assert client.next("connect_error") == ["Invalid namespace", None]

    def test_several_share_a_connection(self, sio: SocketIOServer, host: Host, connect: Open) -> None:
        client = connect(host(sio))
        script = (
            "const admin = socket.io.socket('/admin', { auth: { token: 'secret', name: 'Eve' } });"
            "const both = await Promise.all([socket.emitWithAck('where'), admin.emitWithAck('where')]);"
            "admin.disconnect(); return [...both, await socket.emitWithAck('where')]"
        )
        assert client.run(script) == ["main", "admin", "main"]
        assert len(sio.eio.sockets) == 1


class TestMessagePack:
    @pytest.fixture
    def sio(self) -> SocketIOServer:
        return SocketIOServer(serializer="msgpack", cors_allowed_origins="*")

    @pytest.fixture
    def packed(self, sio: SocketIOServer, host: Host, connect: Open) -> JavaScriptClient:
        sio.on("ask", lambda sid, *values: list(values))
        sio.on("please", lambda sid, value: sio.call("double", value, to=sid, timeout=60))
        sio.on("connect", lambda sid, environ, auth: sio.emit("welcome", auth, to=sid))
        return connect(host(sio), msgpack=True, auth={"name": "Ada", "key": b"\x00"})

    def test_events_and_acknowledgements_go_both_ways(self, packed: JavaScriptClient) -> None:
        assert packed.next("welcome") == [{"name": "Ada", "key": b"\x00"}]
        assert packed.run("return await socket.emitWithAck('ask', ...values)", NESTED, b"\x01", 7) == [
            NESTED,
            b"\x01",
            7,
        ]
        packed.run("socket.on('double', (data, answer) => answer([data, data]))")
        assert packed.run("return await socket.emitWithAck('please', values[0])", b"\x02") == [b"\x02", b"\x02"]

    def test_what_is_no_packet_ends_the_connection(self, sio: SocketIOServer, packed: JavaScriptClient) -> None:
        packed.run("socket.io.opts.reconnection = false; socket.io.reconnection(false); socket.io.engine.write('text')")
        assert packed.next("disconnect")[0] in ("transport close", "transport error")
        eventually(lambda: not sio.eio.sockets, "nothing is left of it")


class TestReconnection:
    def test_a_client_finds_the_server_that_was_started_again(self, connect: Open) -> None:
        def started(greeting: str, **options: Any) -> Running:
            sio = SocketIOServer(cors_allowed_origins="*")
            sio.on("connect", lambda sid, environ: sio.emit("greeting", greeting, to=sid))
            sio.on("say", lambda sid, what: f"{greeting}: {what}")
            return Running(sio, websocket_origins="*", **options)

        with started("first") as first:
            client = connect(first)
            assert client.next("greeting") == ["first"]
            first.stop(0).result(60)
            first.join()
        assert client.next("disconnect")[0] in ("transport close", "transport error")
        kept = client.begin("return await socket.emitWithAck('say', 'kept meanwhile')")
        with started("second", listener=f"127.0.0.1:{first.port}"):
            client.next("reconnect")
            assert client.next("greeting") == ["second"]
            assert kept.result(60) == "second: kept meanwhile"
            client.close()

    def test_a_client_that_the_server_disconnects_stays_away(
        self, sio: SocketIOServer, host: Host, connect: Open
    ) -> None:
        sio.on("kick", lambda sid: sio.disconnect(sid))
        client = connect(host(sio))
        client.run("socket.emit('kick')")
        assert client.next("disconnect") == ["io server disconnect"]
        assert client.run("return socket.active") is False

    def test_the_server_learns_that_a_client_left(self, sio: SocketIOServer, host: Host, connect: Open) -> None:
        reasons: list[str] = []
        sio.on("disconnect", lambda sid, reason: reasons.append(reason))
        client = connect(host(sio))
        client.run("socket.disconnect()")
        eventually(lambda: reasons, "the handler is told")
        assert reasons == ["client disconnect"]
        eventually(lambda: not sio.eio.sockets and not sio.environ, "nothing is left of it")
