"""The WebSocket that a WSGI application holds: its beginning, messages both ways, and its end."""

import threading
from typing import Any, ClassVar

import pytest
import websocket as websocket_client

from streamserve import sleep, spawn
from streamserve.errors import InvalidThreadUseError, LocalProtocolError, WebSocketClosed
from streamserve.websocket import Resource, WebSocket, WebSocketApplication, broadcast, slow_clients
from streamserve.websocket.inbox import Inbox
from tests.support.server import Running, eventually
from tests.websocket.conftest import Connect, Serve

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    websocket: WebSocket = environ["wsgi.websocket"]
    for message in websocket:
        websocket.send(message)
    return []


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"websocket" if "wsgi.websocket" in environ else b"none"]


# ---- the beginning


def test_the_answer_is_that_of_the_rfcs_example(serve: Serve) -> None:
    with serve(echo).client() as client:
        client.send(HANDSHAKE + b"\r\n")
        head = client.head()
    assert (head.status, head.get("upgrade"), head.get("connection")) == (101, "websocket", "Upgrade")
    assert head.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ((b"Version: 13", b"Version: 12"), 426, "Sec-WebSocket-Version is '12'; this server speaks 13"),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 426, "Sec-WebSocket-Version is ''"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400, "Sec-WebSocket-Key is 'c2hvcnQ=', not 16 bytes"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff\xfe"), 400, "Sec-WebSocket-Key is"),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400, "Sec-WebSocket-Key is ''"),
        ((b"GET", b"POST"), 400, "is a GET of HTTP/1.1"),
        ((b"Host: a\r\n", b"Host: a\r\nOrigin: https://evil.example\r\n"), 403, "the origin 'https://evil.example'"),
    ],
)
def test_a_handshake_that_is_none_is_told_why(
    serve: Serve, change: tuple[bytes, bytes], status: int, reason: str
) -> None:
    response = serve(echo).ask(HANDSHAKE.replace(*change) + b"\r\n")
    assert response.status == status
    assert reason in response.body.decode("latin-1")
    assert response.get("server") == "streamserve"
    assert response.get("upgrade") == ("websocket" if status == 426 else None)
    assert response.get("sec-websocket-version") == ("13" if status == 426 else None)


@pytest.mark.parametrize("name", ["Origin", "Protocol", "Extensions", "Version", "Key", "Cookie"])
def test_bytes_beyond_ascii_in_a_handshake_are_no_crash(serve: Serve, name: str) -> None:
    field = name if name in ("Origin", "Cookie") else f"Sec-WebSocket-{name}"
    fields = [line for line in HANDSHAKE.splitlines() if not line.startswith(field.encode())]
    with serve(echo, websocket_compression="on").client() as client:
        client.send(b"\r\n".join([*fields, field.encode() + b": \xff\xe4\x80", b"", b""]))
        status = client.head().status
    assert status == {"Origin": 403, "Version": 426, "Key": 400}.get(name, 101)


def test_a_framework_that_catches_the_refusal_changes_nothing_of_its_answer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def catches(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            return echo(environ, start_response)
        except Exception:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"caught"]

    caplog.set_level("INFO")
    with serve(catches).client() as client:
        client.send(HANDSHAKE + b"Origin: https://evil.example\r\n\r\n")
        response = client.response()
        assert response.status == 403 and b"websocket_origins allows same" in response.body
        client.send(HANDSHAKE + b"\r\n")
        assert client.head().status == 101
    assert "refused with 403: the origin 'https://evil.example'" in caplog.text


def test_an_application_can_answer_a_handshake_like_any_request(serve: Serve) -> None:
    def refuses(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"Who are you?"]

    with serve(refuses).client() as client:
        for _ in range(2):
            client.send(HANDSHAKE + b"\r\n")
            assert client.response().status == 401


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", b"none"),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"none"),
        (b"Upgrade: websocket\r\n", b"none"),
        (b"Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n", b"websocket"),
    ],
)
def test_only_who_offers_it_has_a_websocket(serve: Serve, fields: bytes, expected: bytes) -> None:
    assert serve(plain).ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n").body == expected


@pytest.mark.parametrize(
    ("allowed", "origin", "accepted"),
    [
        ("same", "http://a", True),
        ("same", "http://a:80", False),
        ("same", "https://a", False),
        ("*", "https://anywhere.example", True),
        ("https://one.example, https://two.example", "https://two.example", True),
        ("https://one.example", "http://a", False),
        ("https://one.example", "null", False),
    ],
)
def test_the_origins_of_pages_are_a_setting(serve: Serve, allowed: str, origin: str, accepted: bool) -> None:
    with serve(echo, websocket_origins=allowed).client() as client:
        client.send(HANDSHAKE + b"Origin: " + origin.encode() + b"\r\n\r\n")
        assert client.head().status == (101 if accepted else 403)


def test_subprotocol_and_headers_are_the_applications_to_choose(serve: Serve, connect: Connect) -> None:
    def chooses(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        assert not websocket.accepted and websocket.subprotocols == ["a", "b"]
        websocket.accept("b", [("Set-Cookie", "x=1")])
        websocket.send(f"{websocket.accepted} {websocket.protocol}")
        return []

    client = connect(serve(chooses), subprotocols=["a", "b"])
    assert client.getsubprotocol() == "b"
    assert client.getheaders()["set-cookie"] == "x=1"
    assert client.recv() == "True b"


def test_what_may_not_stand_in_a_handshake_is_a_fault_of_the_application(serve: Serve, connect: Connect) -> None:
    faults: list[str] = []

    def errs(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        for arguments in [("c",), (None, [("Connection", "x")]), (None, [("A", "b\r\nC: d")]), ("b", [("A b", "c")])]:
            try:
                websocket.accept(*arguments)
            except LocalProtocolError as error:
                faults.append(str(error))
        websocket.accept("b")
        try:
            websocket.accept()
        except LocalProtocolError as error:
            faults.append(str(error))
        return []

    connect(serve(errs), subprotocols=["b"]).recv()
    assert len(faults) == 5 and "does not offer the subprotocol 'c'" in faults[0] and "'Connection'" in faults[1]


@pytest.mark.parametrize("use", ["accept", "receive", "send"])
def test_a_client_that_leaves_before_the_101_leaves_nothing(serve: Serve, use: str) -> None:
    asked, left = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def late(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.set()
        left.wait(60)
        websocket = environ["wsgi.websocket"]
        try:
            getattr(websocket, use)(*["message"] * (use == "send"))
        except WebSocketClosed as error:
            faults.append(error)
            raise
        return []

    with serve(late) as server:
        client = server.client()
        client.send(HANDSHAKE + b"\r\n")
        asked.wait(60)
        client.reset()
        left.set()
        eventually(lambda: faults, "the application learns of it")


# ---- messages


def test_text_comes_as_str_and_binary_as_bytes(serve: Serve, connect: Connect) -> None:
    client = connect(serve(echo))
    client.send("grüße")
    assert client.recv() == "grüße"
    client.send_binary(b"\x00\xff")
    assert client.recv() == b"\x00\xff"
    client.send("")
    assert client.recv() == ""


@pytest.mark.parametrize("length", [125, 126, 65_535, 65_536, 100_000, 3 << 20])
def test_messages_of_any_length_come_back(serve: Serve, connect: Connect, length: int) -> None:
    client = connect(serve(echo))
    client.send_binary(bytes(range(256)) * (length // 256) + b"x" * (length % 256))
    assert client.recv() == bytes(range(256)) * (length // 256) + b"x" * (length % 256)


def test_receive_waits_no_longer_than_asked(serve: Serve, connect: Connect) -> None:
    def waits(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        try:
            websocket.receive(timeout=0.001)
        except TimeoutError as error:
            websocket.send(str(error))
        websocket.send(str(websocket.receive(timeout=60)))
        return []

    client = connect(serve(waits))
    assert client.recv() == "no message came within 0.001 seconds"
    client.send("then")
    assert client.recv() == "then"


def paused_inbox(server: Running) -> Inbox | None:
    """That of a client which is not read."""
    inboxes = [websocket._inbox for websocket in list(server.server._endpoints[0].sockets.open.values())]
    return next((inbox for inbox in inboxes if inbox is not None and inbox.paused), None)


def test_what_nobody_takes_stops_the_peer(serve: Serve, connect: Connect) -> None:
    go = threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        while not go.is_set():
            sleep(0.001)
        for count, message in enumerate(websocket):
            assert message == str(count) + "x" * 100_000
            if count == 99:
                websocket.send("all")
        return []

    server = serve(slow)
    client = connect(server)
    writer = threading.Thread(target=lambda: [client.send(str(count) + "x" * 100_000) for count in range(100)])
    writer.start()
    inbox = eventually(lambda: paused_inbox(server), "it pauses")
    assert inbox.bytes < 2_000_000
    go.set()
    assert client.recv() == "all"
    writer.join()


def test_a_writer_waits_for_a_slow_client(serve: Serve, connect: Connect) -> None:
    sent: list[int] = []

    def writes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        for count in range(100):
            websocket.send(b"y" * 100_000)
            sent.append(count)
        return []

    server = serve(writes)
    client = connect(server, sockopt=[(1, 8, 8192)])  # SOL_SOCKET, SO_RCVBUF
    eventually(server.waiters, "the writer waits")
    assert len(sent) < 90
    for _ in range(100):
        assert client.recv() == b"y" * 100_000
    assert eventually(lambda: len(sent) == 100, "all is sent")


def test_send_from_another_native_thread(serve: Serve, connect: Connect) -> None:
    def hands_over(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        thread = threading.Thread(target=lambda: [websocket.send(f"{number}") for number in range(10)])
        thread.start()
        websocket.receive()
        thread.join()
        return []

    client = connect(serve(hands_over))
    assert [client.recv() for _ in range(10)] == [str(number) for number in range(10)]
    client.send("done")


@pytest.mark.parametrize("use", ["accept", "receive", "send", "ping", "close"])
def test_another_native_thread_cannot_accept(serve: Serve, connect: Connect, use: str) -> None:
    faults: list[BaseException] = []

    def uses(websocket: WebSocket) -> None:
        with pytest.raises(InvalidThreadUseError, match="accepted in the thread that serves its request") as caught:
            getattr(websocket, use)(*["message"] * (use == "send"))
        faults.append(caught.value)

    def hands_over(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        thread = threading.Thread(target=uses, args=[environ["wsgi.websocket"]])
        thread.start()
        thread.join()
        environ["wsgi.websocket"].send("here")
        return []

    assert connect(serve(hands_over)).recv() == "here"
    assert len(faults) == 1


def test_what_is_no_message_is_a_type_error(serve: Serve, connect: Connect) -> None:
    def errs(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        for wrong in ({"a": 1}, 5, None, ["a"]):
            with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
                websocket.send(wrong)
            with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
                broadcast([websocket], wrong)
        websocket.send(bytearray(b"right"))
        return []

    assert connect(serve(errs)).recv() == b"right"


# ---- the end


def test_the_end_of_the_application_is_the_end_of_the_connection(serve: Serve, connect: Connect) -> None:
    def one(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.websocket"].send("bye")
        return []

    client = connect(serve(one))
    assert client.recv() == "bye"
    opcode, data = client.recv_data()
    assert (opcode, data) == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xe8")


def test_a_handler_that_raises_ends_with_1011_and_one_traceback(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.websocket"].receive()
        raise RuntimeError("handler's fault")

    client = connect(serve(fails))
    client.send("x")
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xf3")
    assert caplog.text.count("RuntimeError: handler's fault") == 1


def test_the_peers_code_and_reason_are_known(serve: Serve, connect: Connect) -> None:
    seen: list[Any] = []

    def sees(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        assert list(websocket) == ["last"]
        seen.extend([websocket.closed, websocket.close_code, websocket.close_reason, websocket.receive()])
        with pytest.raises(WebSocketClosed, match="has ended with 4001: enough"):
            websocket.send("late")
        seen.append("done")
        return []

    client = connect(serve(sees))
    client.send("last")
    client.close(4001, b"enough")
    eventually(lambda: len(seen) == 5, "the application sees the end")
    assert seen[:4] == [True, 4001, "enough", None]


def test_a_peer_that_vanishes_is_1006(serve: Serve, connect: Connect) -> None:
    seen: list[Any] = []

    def sees(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.receive()
        seen.append(websocket.close_code)
        return []

    client = connect(serve(sees))
    client.shutdown()
    eventually(lambda: seen == [1006], "the application sees the end")


def test_close_says_what_may_be_said(serve: Serve, connect: Connect) -> None:
    def closes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        for code, reason in [(1005, ""), (999, ""), (1000, "x" * 124)]:
            with pytest.raises(LocalProtocolError, match=f"cannot be closed with {code}"):
                websocket.close(code, reason)
        websocket.close(4999, "ä" * 61)
        websocket.close()
        return []

    opcode, data = connect(serve(closes)).recv_data()
    assert (opcode, data) == (websocket_client.ABNF.OPCODE_CLOSE, b"\x13\x87" + "ä".encode() * 61)


def test_a_stop_tells_every_client_and_is_complete(serve: Serve, connect: Connect) -> None:
    server = serve(echo)
    clients = [connect(server) for _ in range(5)]
    stopped = server.stop()
    for client in clients:
        assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xe9")
    assert stopped.result(60) == 0


def test_a_client_that_never_answers_does_not_hold_a_stop_up(serve: Serve, connect: Connect) -> None:
    codes: list[int | None] = []

    def sees(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        assert websocket.receive() is None
        codes.append(websocket.close_code)
        return []

    server = serve(sees)
    client = connect(server)
    assert server.stop(timeout=2).result(60) == 0, "the application sees the end before the deadline"
    assert codes == [1006]
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xe9")


# ---- without a greenlet, and to many


class Room(WebSocketApplication):
    """What is said by one is heard by all."""

    clients: ClassVar[list[WebSocket]] = []
    log: ClassVar[list[str]] = []

    def on_open(self) -> None:
        self.clients.append(self.ws)

    def on_message(self, message: str | bytes) -> None:
        if message == "wait":
            sleep(0.01)
        if message == "fail":
            raise RuntimeError("on_message failed")
        broadcast(self.clients, message)

    def on_close(self, reason: str) -> None:
        self.clients.remove(self.ws)
        self.log.append(f"{self.ws.close_code} {reason}")


@pytest.fixture
def room() -> type[Room]:
    return type("Room", (Room,), {"clients": [], "log": []})


def test_a_resource_holds_no_greenlet_between_messages(serve: Serve, connect: Connect, room: type[Room]) -> None:
    server = serve(Resource({"/room": room, "/.*": plain}))
    assert server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body == b"none"
    clients = [connect(server, "/room") for _ in range(3)]
    eventually(lambda: len(room.clients) == 3, "all are in")
    assert server.server.active == 0
    clients[0].send("hello")
    assert [client.recv() for client in clients] == ["hello"] * 3
    clients[0].close(1000, b"bye")
    eventually(lambda: room.log == ["1000 bye"], "it leaves")
    clients[1].send("again")
    assert [client.recv() for client in clients[1:]] == ["again"] * 2


def test_messages_of_one_client_are_handled_in_order_also_when_a_handler_waits(
    serve: Serve, connect: Connect, room: type[Room]
) -> None:
    client = connect(serve(Resource({"/": room})))
    for message in ["wait", "1", "wait", "2", "3"]:
        client.send(message)
    assert [client.recv() for _ in range(5)] == ["wait", "1", "wait", "2", "3"]


def test_a_handler_gets_all_that_came_before_it_also_from_a_peer_that_was_stopped(
    serve: Serve, connect: Connect
) -> None:
    go = threading.Event()

    class Last:
        def __init__(self, websocket: WebSocket) -> None:
            self.ws, self.seen = websocket, 0

        def on_message(self, message: str | bytes) -> None:
            assert message == bytes([self.seen]) * 100_000
            self.seen += 1
            if self.seen == 50:
                self.ws.send("all")

        def on_close(self, reason: str) -> None:
            pass

    def late(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        while not go.is_set():
            sleep(0.001)
        websocket.handle_by(Last(websocket))
        return []

    server = serve(late)
    client = connect(server)
    writer = threading.Thread(target=lambda: [client.send_binary(bytes([number]) * 100_000) for number in range(50)])
    writer.start()
    eventually(lambda: paused_inbox(server), "it pauses")
    go.set()
    assert client.recv() == "all"
    writer.join()


def test_a_handler_that_waits_keeps_nobody_else_waiting(serve: Serve, connect: Connect) -> None:
    release = threading.Event()

    class Waits(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            while message == "wait" and not release.is_set():
                sleep(0.001)
            self.ws.send(message)

    server = serve(Resource({"/": Waits}))
    slow, quick = connect(server), connect(server)
    slow.send("wait")
    quick.send("quick")
    assert quick.recv() == "quick"
    release.set()
    assert slow.recv() == "wait"


def test_a_handler_that_closes_and_is_still_busy_when_the_answer_comes_hears_of_the_end(
    serve: Serve, connect: Connect
) -> None:
    ended = threading.Event()

    class Closes(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.close(4000)
            while self.ws.handle in self.ws._sockets.open:
                sleep(0.001)

        def on_close(self, reason: str) -> None:
            ended.set()

    client = connect(serve(Resource({"/": Closes})))
    client.send("close")
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x0f\xa0")  # and answers it
    assert ended.wait(60)


def test_messages_of_one_poll_come_as_they_were_sent(serve: Serve, connect: Connect) -> None:
    class Echo(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send(message)

    client = connect(serve(Resource({"/": Echo})))
    for sent in (
        ["a", "", "bc"],
        ["ä", "", "b", "€"],
        [b"\xff\x00", "a", b"", "ä"],
        [b"x" * 1024, b"y" * 1025, "z" * 70000, "a"],
    ):
        client.sock.sendall(
            b"".join(websocket_client.ABNF.create_frame(one, 1 if isinstance(one, str) else 2).format() for one in sent)
        )
        got = [client.recv_data() for _ in sent]
        assert got == [(1, one.encode()) if isinstance(one, str) else (2, one) for one in sent]


def test_an_on_message_that_raises_ends_with_1011(
    serve: Serve, connect: Connect, room: type[Room], caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(serve(Resource({"/": room})))
    client.send("fail")
    assert client.recv_data() == (websocket_client.ABNF.OPCODE_CLOSE, b"\x03\xf3")
    assert caplog.text.count("RuntimeError: on_message failed") == 1


def test_a_path_of_websockets_asks_for_an_upgrade(serve: Serve, room: type[Room]) -> None:
    response = serve(Resource({"/": room})).ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (response.status, response.get("upgrade")) == (426, "websocket")
    response = serve(Resource({"/": room})).ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 404


def test_broadcast_from_a_native_thread(serve: Serve, connect: Connect, room: type[Room]) -> None:
    clients = [connect(server, "/") for server in [serve(Resource({"/": room}))] for _ in range(3)]
    eventually(lambda: len(room.clients) == 3, "all are in")
    assert broadcast(room.clients, b"to all") == 3
    assert [client.recv() for client in clients] == [b"to all"] * 3


@pytest.mark.parametrize("slow", ["skip", "close"])
def test_a_broadcast_waits_for_no_slow_client_and_counts_it(
    serve: Serve, connect: Connect, room: type[Room], slow: str
) -> None:
    server = serve(Resource({"/": room}), websocket_slow=slow, websocket_queue=65536)
    stuck = connect(server, sockopt=[(1, 8, 4096)])  # SOL_SOCKET, SO_RCVBUF
    quick = connect(server)
    eventually(lambda: len(room.clients) == 2, "both are in")
    sent, reached = 0, 2
    while reached == 2:
        assert sent < 10_000, "the kernel takes no end of it"
        reached = server.call(broadcast, room.clients, b"x" * 50_000)
        assert quick.recv() == b"x" * 50_000
        sent += 1
    assert server.call(slow_clients) == ((1, 0) if slow == "skip" else (0, 1))
    if slow == "close":
        eventually(lambda: room.log == ["1013 "], "it is thrown out")
    else:
        assert [len(stuck.recv()) for _ in range(sent - 1)] == [50_000] * (sent - 1)
        eventually(lambda: server.call(broadcast, room.clients, "once more") == 2, "it gets what comes later")
        assert stuck.recv() == "once more"


def test_a_background_greenlet_pushes(serve: Serve, connect: Connect) -> None:
    def pushes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        spawn(lambda: [websocket.send(str(number)) for number in range(3)])
        websocket.receive()
        return []

    client = connect(serve(pushes))
    assert [client.recv() for _ in range(3)] == ["0", "1", "2"]
