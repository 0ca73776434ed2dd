"""The WebSocket that a WSGI application holds: messages both ways, and its end."""

import threading
from typing import Any

import pytest
import websocket as websocket_client

from streamserve import sleep, spawn
from streamserve.core import lib
from streamserve.errors import InvalidThreadUseError, LocalProtocolError, WebSocketClosed
from streamserve.websocket import WebSocket, broadcast
from streamserve.websocket.inbox import Inbox
from tests.support.logs import log_with
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


def test_one_greenlet_receives_at_a_time(serve: Serve, connect: Connect) -> None:
    faults: list[str] = []

    def twice(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()

        def other() -> None:
            with pytest.raises(LocalProtocolError) as caught:
                websocket.receive()
            faults.append(str(caught.value))
            websocket.send("refused")

        for _ in range(2):
            spawn(other)
            websocket.send(f"heard {websocket.receive()}")
        return []

    client = connect(serve(twice))
    for number in range(2):
        assert client.recv() == "refused"
        client.send(str(number))
        assert client.recv() == f"heard {number}"
    assert faults == ["another greenlet receives from this WebSocket: let one hand on what comes"] * 2


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


def test_pings_wait_for_a_slow_client_too(serve: Serve, connect: Connect) -> None:
    sent: list[int] = []

    def pings(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        with pytest.raises(LocalProtocolError, match="has 126 bytes; at most 125"):
            websocket.ping(b"x" * 126)
        with pytest.raises(WebSocketClosed):
            while True:
                websocket.ping(b"y" * 125)
                sent.append(1)
        return []

    server = serve(pings)
    client = connect(server, sockopt=[(1, 8, 4096)])  # SOL_SOCKET, SO_RCVBUF
    eventually(server.waiters, "the one who pings waits")
    assert server.count(lib.SS_COUNT_QUEUED_BYTES) < 200_000
    before = len(sent)
    while len(sent) == before:
        assert client.sock.recv(1 << 16)


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
    assert log_with(caplog, "handler's fault").count("handler's fault") == 1


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
