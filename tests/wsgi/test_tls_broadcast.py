"""One message to many over TLS: each gets it whole and in order, whichever way it was encrypted."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.errors import WebSocketClosed
from streamserve.gateway import tls
from streamserve.websocket import broadcast
from tests.support.frames import OPCODES, frame
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

MANY = 300  # more than are encrypted for in one call
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT = OPCODES["text"]
PIPES: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


class Hall:
    """What one client says, all hear; "me" is answered to the client alone, behind it."""

    def __init__(self) -> None:
        self.members: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        websocket.accept()
        self.members.append(websocket)
        try:
            for message in websocket:
                broadcast(self.members, message)
                if message == "me":
                    websocket.send("you")
                    broadcast(self.members, "again")
        except WebSocketClosed:
            pass
        self.members.remove(websocket)
        return []


def joined(running: Running, place: int, authority: Authority) -> TlsClient:
    client = TlsClient(running.addresses[place], authority.trust())
    client.send(UPGRADE)
    assert client.head().status == 101
    return client


def hear(client: TlsClient, *texts: bytes) -> None:
    expected = b"".join(frame(TEXT, text, options=("unmasked",)) for text in texts)
    assert client.exactly(len(expected)) == expected


@pytest.fixture
def hall(serve: Serve, tmp_path: Path) -> Any:
    authority = Authority(tmp_path)
    hall = Hall()
    places = ["127.0.0.1:0", "127.0.0.1:0"]
    options = {"certfile": authority.issue("localhost"), "websocket_compression": "off"}
    running = serve(hall, listener=places, websocket_ping_interval=3600, **options)  # pings too rare to come
    return running, authority, hall


def test_everybody_gets_everything_in_order(hall: Any) -> None:
    running, authority, application = hall
    with ExitStack() as stack:
        clients = []
        for number in range(MANY):
            client = stack.enter_context(joined(running, 0 if number % 10 else 1, authority))
            clients.append(client)
        eventually(lambda: len(application.members) == MANY, "all are there")
        speaker = clients[0]
        for text in (b"x", b"y" * 200, b"z" * 16_000, b"long " * 4_000, b"longer " * 30_000):
            speaker.send(frame(TEXT, text))
            for client in clients:
                hear(client, text)
        clients[7].send(frame(TEXT, b"me"))
        for client in clients:
            hear(client, b"me", *([b"you"] if client is clients[7] else []), b"again")
        running.verify()
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the core forgot them")


def test_those_who_leave_meanwhile_keep_nothing_from_the_others(hall: Any) -> None:
    running, authority, application = hall
    with ExitStack() as stack:
        stay = [stack.enter_context(joined(running, number % 2, authority)) for number in range(40)]
        leave = [stack.enter_context(joined(running, number % 2, authority)) for number in range(40)]
        eventually(lambda: len(application.members) == 80, "all are there")
        for number, client in enumerate(leave):
            stay[0].send(frame(TEXT, b"%d" % number * 50))
            client.reset() if number % 2 else client.close()
        for client in stay:
            hear(client, *(b"%d" % number * 50 for number in range(len(leave))))
        running.verify()
        eventually(lambda: len(application.members) == 40, "the others are gone")


def test_who_reads_nothing_holds_up_nobody(hall: Any) -> None:
    running, authority, application = hall
    with joined(running, 0, authority) as speaker, joined(running, 0, authority) as other:
        silent = TlsClient(running.addresses[0], authority.trust(), receive_buffer=4096)
        silent.send(UPGRADE)
        assert silent.head().status == 101
        eventually(lambda: len(application.members) == 3, "all are there")
        text = b"much " * 10_000
        for _ in range(100):
            speaker.send(frame(TEXT, text))
            hear(speaker, text)
            hear(other, text)
        silent.close()
        eventually(lambda: len(application.members) == 2, "it is gone")


def test_a_failure_amid_a_broadcast_leaves_no_connection_hanging(hall: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running, authority, application = hall
    push_all = tls._push_all

    def fail_once(*arguments: Any) -> Any:
        monkeypatch.setattr(tls, "_push_all", push_all)
        raise MemoryError("the test's")

    with ExitStack() as stack:
        clients = [stack.enter_context(joined(running, 0, authority)) for _ in range(5)]
        eventually(lambda: len(application.members) == 5, "all are there")
        monkeypatch.setattr(tls, "_push_all", fail_once)
        clients[0].send(frame(TEXT, b"lost"))
        for client in clients:
            with pytest.raises(OSError):
                client.exactly(1)
        eventually(lambda: not application.members, "all were told")
        later = stack.enter_context(joined(running, 0, authority))
        later.send(frame(TEXT, b"heard"))
        hear(later, b"heard")
    assert "MemoryError: the test's" in running.errors.getvalue()
    running.errors.truncate(0)
    running.errors.seek(0)


def test_who_asked_for_short_records_gets_them(hall: Any) -> None:
    """RFC 6066 section 4: max_fragment_length, which Python's clients cannot ask for."""
    running, authority, application = hall
    command = ["openssl", "s_client", "-quiet", "-maxfraglen", "512", "-tls1_2"]
    address = f"127.0.0.1:{running.port}"
    text = b"0123456789" * 200
    with subprocess.Popen([*command, "-connect", address], **PIPES) as openssl, joined(running, 0, authority) as other:
        try:
            openssl.stdin.write(UPGRADE)
            openssl.stdin.flush()
            while openssl.stdout.readline() != b"\r\n":
                pass
            eventually(lambda: len(application.members) == 2, "both are there")
            other.send(frame(TEXT, text) + frame(TEXT, b"short"))
            hear(other, text, b"short")
            expected = b"".join(frame(TEXT, said, options=("unmasked",)) for said in (text, b"short"))
            assert openssl.stdout.read(len(expected)) == expected
        finally:
            openssl.kill()
