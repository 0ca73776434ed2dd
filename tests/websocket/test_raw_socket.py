"""The raw socket of a request: how it leaves the server, and what runs on it."""

import io
import socket
from pathlib import Path
from typing import Any

import pytest
import simple_websocket
import websocket as websocket_client

from streamserve import spawn
from streamserve.core import lib
from streamserve.errors import InvalidThreadUseError, LocalProtocolError
from streamserve.green import socket as green_socket
from streamserve.loop.joining import sleep
from tests.support.logs import log_with
from tests.support.process import ServedCommand
from tests.support.server import eventually
from tests.support.tls import Authority, TlsClient
from tests.websocket.conftest import Connect, Serve
from tests.websocket.test_websocket import HANDSHAKE

OFFER = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: lines\r\n"
KEYS = ("werkzeug.socket", "gunicorn.socket", "streamserve.socket")


def shouting(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A protocol of its own: each line comes back in capitals, until an empty one."""
    raw = environ["streamserve.socket"]
    raw.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: upgrade\r\n\r\n")
    for line in raw.makefile("rb"):
        if line == b"\n":
            break
        raw.sendall(line.upper())
    return []


def test_only_who_offers_an_upgrade_has_one(serve: Serve) -> None:
    seen: list[list[bool]] = []

    def sees(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append([key in environ for key in KEYS])
        start_response("200 OK", [])
        return []

    server = serve(sees)
    for fields in (b"", b"Upgrade: lines\r\n", b"Connection: upgrade, keep-alive\r\nUpgrade: lines\r\n"):
        server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    assert seen == [[False] * 3, [False] * 3, [True] * 3]


def test_what_had_been_read_comes_first(serve: Serve) -> None:
    with serve(shouting).client() as client:
        client.send(OFFER + b"\r\nfirst\nsec")
        assert client.head().status == 101
        assert client.exactly(6) == b"FIRST\n"
        client.send(b"ond\n\n")
        assert client.exactly(7) == b"SECOND\n"
        assert client.ended()


@pytest.mark.parametrize("way", ["recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"])
def test_every_way_to_receive_gives_the_bytes_in_order(serve: Serve, way: str) -> None:
    def receives(raw: Any, size: int, flags: int) -> bytes:
        buffer = bytearray(size)
        match way:
            case "recv":
                return bytes(raw.recv(size, flags))
            case "recv_into":
                return bytes(buffer[: raw.recv_into(buffer, 0, flags)])
            case "recvfrom":
                return bytes(raw.recvfrom(size, flags)[0])
            case "recvfrom_into":
                return bytes(buffer[: raw.recvfrom_into(buffer, 0, flags)[0]])
            case "recvmsg":
                return bytes(raw.recvmsg(size, 0, flags)[0])
            case _:
                return bytes(buffer[: raw.recvmsg_into([buffer], 0, flags)[0]])

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw = environ["werkzeug.socket"]
        data = receives(raw, 4, socket.MSG_PEEK) + receives(raw, 4, 0)
        raw.sendall(b"?")
        while not data.endswith(b"."):
            data += receives(raw, 3, 0)
        raw.sendall(data)
        return []

    with serve(app).client() as client:
        client.send(OFFER + b"\r\n0123456789")
        assert client.exactly(1) == b"?"
        client.send(b"abc.")
        assert client.rest() == b"01230123456789abc."


def test_it_is_a_cooperative_socket(serve: Serve) -> None:
    seen: dict[str, Any] = {}

    def looks(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw, *others = (environ[key] for key in KEYS)
        assert all(other is raw for other in others)
        assert isinstance(raw, green_socket.socket) and isinstance(raw, socket.socket)
        raw.settimeout(30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen.update(
            timeout=raw.gettimeout(),
            peer=raw.getpeername(),
            local=raw.getsockname(),
            family=raw.family,
            nodelay=raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0,
            ticks=0,
        )

        def tick() -> None:
            while not raw._closed:
                seen["ticks"] += 1
                sleep(0)

        ticker = spawn(tick)
        data = raw.recv(100)  # the others go on meanwhile
        ticker.kill()
        raw.send(data)
        raw.shutdown(socket.SHUT_WR)
        return []

    server = serve(looks)
    client = server.client()
    client.send(OFFER + b"\r\n")
    eventually(lambda: seen.get("ticks", 0) > 10, "others run while it receives")
    client.send(b"hello")
    assert client.rest() == b"hello"
    assert seen["peer"] == client.socket.getsockname() and seen["local"] == client.socket.getpeername()
    assert (seen["timeout"], seen["family"], seen["nodelay"]) == (30, socket.AF_INET, True)


def test_who_only_looks_takes_nothing(serve: Serve) -> None:
    def looks(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw = environ["werkzeug.socket"]
        assert isinstance(raw, socket.socket) and raw and raw == raw and hash(raw)
        assert "not taken yet" in repr(environ) and hasattr(raw, "__enter__")
        start_response("200 OK", [])
        return [b"answered"]

    with serve(looks).client() as client:
        for _ in range(2):
            client.send(HANDSHAKE + b"\r\n")
            assert client.response().body == b"answered"


@pytest.mark.parametrize("end", ["raise", "StopIteration", "answer", "write", "generator"])
def test_what_the_application_does_once_it_owns_it_is_no_error(
    serve: Serve, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    def owns(environ: dict[str, Any], start_response: Any) -> Any:
        environ["gunicorn.socket"].sendall(b"mine")
        if end == "raise":
            raise RuntimeError("nobody's business")
        if end == "StopIteration":
            raise StopIteration
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if end == "write":
            write(b"more")
        return [b"an answer"] if end == "answer" else (piece for piece in [b"an", b"answer"])

    log = io.StringIO()
    server = serve(owns, log=log)
    with server.client() as client:
        client.send(OFFER + b"\r\n")
        assert client.rest() == b"mine"
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    line = eventually(log.getvalue, "the access log has its line")
    assert '"GET / HTTP/1.1" 101 ' in line and line.count("\n") == 1
    assert server.count(lib.SS_COUNT_CONNECTIONS) == 0


def test_the_end_of_the_application_closes_it_unless_a_duplicate_was_taken(serve: Serve) -> None:
    kept: list[Any] = []
    told: list[OSError] = []

    def waits(raw: Any) -> None:
        try:
            raw.recv(1)
        except OSError as error:
            told.append(error)

    def ends(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw = environ["streamserve.socket"]
        if environ["QUERY_STRING"]:
            kept.append(raw.dup())
        else:
            spawn(waits, raw)
            sleep(0)
        raw.sendall(b"bye")
        return []

    server = serve(ends)
    with server.client() as client:
        client.send(OFFER + b"\r\n")
        assert client.rest() == b"bye"
        eventually(lambda: told, "who waits for it learns of the end")
    with server.client() as client:
        client.send(OFFER.replace(b"/ ", b"/?dup ", 1) + b"\r\n")
        assert client.exactly(3) == b"bye"
        client.send(b"still here")
        assert server.spawn(kept[0].recv, 100).result(60) == b"still here"
        server.spawn(kept[0].close).result(60)
        assert client.ended()


# ---- misuse


@pytest.mark.parametrize("when", ["written", "accepted", "body", "over", "thread"])
def test_what_cannot_leave_any_more_says_so(serve: Serve, when: str) -> None:
    faults: list[Any] = []
    kept: list[Any] = []

    def errs(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raw = environ["streamserve.socket"]
        kept.append(raw)
        if when == "written":
            start_response("200 OK", [])(b"begun")
        elif when == "accepted":
            environ["wsgi.websocket"].accept()
        elif when == "body":
            environ["wsgi.input"].read(1)
        if when not in ("over", "thread"):
            with pytest.raises(LocalProtocolError, match="a raw socket is taken before") as caught:
                raw.recv(1)
            faults.append(caught.value)
        if when in ("body", "over", "thread"):
            start_response("200 OK", [])
        return [b""]

    server = serve(errs)
    with server.client() as client:
        body = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" if when == "body" else b"\r\n"
        client.send(HANDSHAKE + body)
        assert client.head().status == (101 if when == "accepted" else 200)
    if when == "over":
        fault = server.spawn(lambda: kept[0].fileno())
        with pytest.raises(LocalProtocolError, match="or over"):
            fault.result(60)
    elif when == "thread":
        with pytest.raises(InvalidThreadUseError, match="first used in the thread"):
            kept[0].recv(1)
    else:
        eventually(lambda: len(faults) == 1, "it says so")


def test_a_websocket_cannot_be_accepted_once_the_socket_is_taken(serve: Serve) -> None:
    faults: list[str] = []

    def errs(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["werkzeug.socket"].sendall(b"raw")
        with pytest.raises(LocalProtocolError) as caught:
            environ["wsgi.websocket"].accept()
        faults.append(str(caught.value))
        return []

    with serve(errs).client() as client:
        client.send(HANDSHAKE + b"\r\n")
        assert client.rest() == b"raw"
    assert len(faults) == 1


def test_over_tls_it_says_what_to_do_instead(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    server = serve(shouting, certfile=authority.issue("localhost", "127.0.0.1"))
    with TlsClient(server.addresses[0], authority.trust()) as client:
        client.send(OFFER + b"\r\n")
        assert client.response().status == 500
    log_with(caplog, "a connection of TLS has no raw socket: use environ['wsgi.websocket']")


# ---- what runs on it


def test_simple_websocket_echoes(serve: Serve, connect: Connect) -> None:
    def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with pytest.raises(simple_websocket.ConnectionClosed):
            websocket = simple_websocket.Server.accept(environ)
            while True:
                websocket.send(websocket.receive())
        return []

    client = connect(serve(echo))
    for message in ["grüße", "x" * 100_000, ""]:
        client.send(message)
        assert client.recv() == message
    client.send_binary(b"\x00\xff")
    assert client.recv() == b"\x00\xff"
    client.close()


FLASK_SOCK = """
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    while (message := ws.receive()) != "end":
        ws.send(message)
"""

FLASK_SOCKETIO = """
from flask import Flask
from flask_socketio import SocketIO

flask = Flask(__name__)
SocketIO(flask, async_mode="threading").on_event("echo", lambda message: "heard " + message)


@flask.get("/")
def index():
    return "plain"


app = flask
"""


@pytest.mark.parametrize("patched", [True, False])
def test_flask_sock_echoes(tmp_path: Path, patched: bool) -> None:
    (tmp_path / "project.py").write_text(FLASK_SOCK)
    with ServedCommand("project:app", *["--no-patch"] * (not patched), cwd=tmp_path) as server:
        address = server.url.replace("http", "ws") + "/echo"
        # Not patched, it blocks the loop while it waits, and is alone.
        clients = [websocket_client.create_connection(address, timeout=60) for _ in range(3 if patched else 1)]
        for number in range(3):
            for client in clients:
                client.send(f"message {number}")
                assert client.recv() == f"message {number}"
        for client in clients:
            client.send("end")
            assert client.recv_data()[0] == websocket_client.ABNF.OPCODE_CLOSE
            client.shutdown()
    assert "Traceback" not in server.stderr


def test_flask_socketio_in_threading_mode_echoes(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(FLASK_SOCKETIO)
    with ServedCommand("project:app", cwd=tmp_path) as server:
        address = server.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
        client = websocket_client.create_connection(address, timeout=60)
        assert client.recv().startswith('0{"sid"')
        client.send("40")
        assert client.recv().startswith("40")
        client.send('420["echo","hello"]')
        assert client.recv() == '430["heard hello"]'
        client.close()
    assert "Traceback" not in server.stderr
