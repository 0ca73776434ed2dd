"""How WebSockets end in the core: by either side, by silence, by a stop; and who is not read meanwhile."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from streamserve.core import ffi, lib
from tests.core.test_websocket import reset
from tests.support.frames import frame
from tests.support.loop import BACKENDS, SECOND, Loop, made
from tests.support.websocket_listener import UPGRADE, WebSocketListener

TEXT, BINARY, CLOSE, PING, PONG = lib.SS_WS_TEXT, lib.SS_WS_BINARY, lib.SS_WS_CLOSE, lib.SS_WS_PING, lib.SS_WS_PONG
SMALL = 8192
Listening = Callable[..., WebSocketListener]


@pytest.fixture(params=BACKENDS, ids=["epoll", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture
def listening(loop: Loop) -> Iterator[Listening]:
    with contextlib.ExitStack() as cleanup:

        def listen(**limits: int) -> WebSocketListener:
            return WebSocketListener(loop, cleanup, **limits)

        yield listen


def test_our_close_is_answered_and_the_rest_is_dropped(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    assert listener.close(handle, 4000, b"enough") == lib.SS_OK
    assert listener.close(handle) == lib.SS_GONE
    assert listener.send(handle, b"late") == lib.SS_GONE
    client.sendall(frame(TEXT, b"late") + frame(CLOSE, struct.pack("!H", 4000)))
    assert listener.answers(client) == ["close 4000 enough"]
    assert listener.told(1) == ["close 4000"]


@pytest.mark.parametrize("abort", [True, False])
def test_a_peer_that_leaves_without_close_is_abnormal(listening: Listening, abort: bool) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    if abort:
        reset(client)
    else:
        client.close()
    assert listener.told(1) == ["close 1006"]
    assert listener.send(handle, b"late") == lib.SS_GONE
    assert listener.live() == 0


def test_a_peer_that_does_not_answer_our_close_is_let_go(loop: Loop, listening: Listening) -> None:
    listener = listening(close_timeout=5 * SECOND)
    now = lib.ss_loop_now(loop.core)
    lib.ss_loop_set_clock(loop.core, now)
    _, handle = listener.upgraded()
    assert listener.close(handle) == lib.SS_OK
    lib.ss_loop_set_clock(loop.core, now + 4 * SECOND)
    listener.poll()
    assert listener.messages == []
    lib.ss_loop_set_clock(loop.core, now + 6 * SECOND)
    listener.poll()
    assert listener.told(1) == ["close 1006"]
    assert listener.live() == 0


def test_a_silent_peer_is_asked_and_then_given_up(loop: Loop, listening: Listening) -> None:
    listener = listening(ping_interval=25 * SECOND, ping_timeout=20 * SECOND)
    now = lib.ss_loop_now(loop.core)
    lib.ss_loop_set_clock(loop.core, now)
    client, _ = listener.upgraded()
    lib.ss_loop_set_clock(loop.core, now + 26 * SECOND)
    listener.poll()
    assert client.recv(100) == b"\x89\x00"
    lib.ss_loop_set_clock(loop.core, now + 45 * SECOND)
    listener.poll()
    assert listener.messages == []
    lib.ss_loop_set_clock(loop.core, now + 47 * SECOND)
    listener.poll()
    assert listener.told(1) == ["close 1006"]
    assert client.recv(100) == b""


def test_a_peer_that_answers_stays(loop: Loop, listening: Listening) -> None:
    listener = listening(ping_interval=25 * SECOND, ping_timeout=20 * SECOND)
    now = lib.ss_loop_now(loop.core)
    lib.ss_loop_set_clock(loop.core, now)
    client, _ = listener.upgraded()
    for turn in range(1, 5):
        lib.ss_loop_set_clock(loop.core, now + turn * 50 * SECOND)
        listener.poll()
        assert client.recv(100) == b"\x89\x00"
        client.sendall(frame(PONG))
        listener.poll()
        lib.ss_loop_set_clock(loop.core, now + (turn * 50 + 21) * SECOND)
        listener.poll()
    assert listener.messages == []
    assert listener.live() == 1


def test_silence_counts_from_the_last_byte(loop: Loop, listening: Listening) -> None:
    listener = listening(ping_interval=25 * SECOND, ping_timeout=20 * SECOND)
    now = lib.ss_loop_now(loop.core)
    client, _ = listener.upgraded()
    client.setblocking(False)

    def at(seconds: float, data: bytes = b"") -> bytes:
        """What the client has received by then; it sends the data."""
        lib.ss_loop_set_clock(loop.core, now + int(seconds * SECOND))
        if data:
            client.sendall(data)
        listener.poll()
        listener.poll()
        try:
            return client.recv(100)
        except BlockingIOError:
            return b""

    assert at(10, frame(TEXT, b"here")) == b""
    assert at(26) == at(34.5) == b"", "24.5 seconds of silence"
    assert at(35.5) == b"\x89\x00"
    assert at(40, frame(PONG)) == b""
    assert at(56) == at(64.5) == b""
    assert at(65.5) == b"\x89\x00", "25 seconds after the pong"
    assert at(85) == b"" and listener.live() == 1
    at(86)
    assert listener.live() == 0, "45 seconds after the pong"


class Stopping:
    """A listener that stops, on a clock of the test's.

    Args:
        clients: Those that answer a Close at once.
        seconds: Until it is closed, whatever is unfinished.
    """

    def __init__(self, listener: WebSocketListener, clients: list[socket.socket], seconds: float) -> None:
        self.listener, self.clients, self.left = listener, clients, seconds
        self.core = listener.loop.core
        self.now = lib.ss_loop_now(self.core)
        self.told: list[float] = []  # the time left when each client was told

    def drain(self) -> int:
        """What is unfinished."""
        return int(lib.ss_listener_drain(self.core, self.listener.number, int(self.left * SECOND)))

    def until(self, left: float) -> int:
        """Goes on in steps of a tenth of a second, until so many are left; what is unfinished then."""
        lib.ss_loop_set_clock(self.core, self.now)
        unfinished = self.drain()
        while self.left > left:
            self.left -= 0.1
            self.now += SECOND // 10
            lib.ss_loop_set_clock(self.core, self.now)
            self.listener.poll()
            self._answer()
            self.listener.poll()
            unfinished = self.drain()
        return unfinished

    def _answer(self) -> None:
        for client in self.clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if client.recv(100) == b"\x88\x02" + struct.pack("!H", 1001):
                    self.told.append(self.left)
                    client.sendall(frame(CLOSE, struct.pack("!H", 1001)))


def test_a_server_that_stops_tells_all_within_a_quarter_of_its_time(listening: Listening) -> None:
    listener = listening()
    stopping = Stopping(listener, [listener.upgraded()[0] for _ in range(60)], 8.0)
    assert stopping.drain() == 60
    assert stopping.until(6) == 0
    assert len(stopping.told) == 60
    assert len(set(stopping.told)) > 3, "not all at once"
    for client in stopping.clients:
        client.close()
    listener.until_gone()


@pytest.mark.parametrize("connections", [3, 60])
def test_few_clients_or_little_time_end_a_stop_soon(listening: Listening, connections: int) -> None:
    listener = listening()
    stopping = Stopping(listener, [listener.upgraded()[0] for _ in range(connections)], 30 if connections == 3 else 0.3)
    assert stopping.until(stopping.left - 0.2) == 0
    assert len(stopping.told) == connections


def test_who_is_late_does_not_hold_a_stop_up(loop: Loop, listening: Listening) -> None:
    listener = listening()
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    silent, asked, full = listener.upgraded(), listener.upgraded(), listener.upgraded(receive_buffer=SMALL)
    assert listener.close(asked[1]) == lib.SS_OK
    assert listener.send(full[1], bytes(1 << 20)) > 0
    full[0].sendall(frame(CLOSE, struct.pack("!H", 1000)))
    stopping = Stopping(listener, [], 8.0)
    assert stopping.until(7.9) == 3
    assert stopping.until(3.8) == 0, "half of the time has passed"
    assert sorted(listener.told(3)) == ["close 1000", "close 1006", "close 1006"]
    assert listener.answers(silent[0]) == ["close 1001"]
    reset(full[0])


def test_a_paused_connection_is_not_read(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    assert lib.ss_ws_reading(loop.core, handle, 0) == lib.SS_OK
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.send(frame(BINARY, b"x" * 1000) * 10)
            listener.poll()
    assert listener.messages == []
    assert lib.ss_ws_reading(loop.core, handle, 1) == lib.SS_OK
    listener.told(sent // 1006 - 10)
    reset(client)


def test_a_peer_that_pings_and_reads_nothing_is_not_read_either(loop: Loop, listening: Listening) -> None:
    listener = listening(out_limit=100_000)
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    client, _ = listener.upgraded(receive_buffer=SMALL)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.send(frame(PING, b"x" * 125) * 100)
            listener.poll()
    assert loop.counts()[lib.SS_COUNT_QUEUED_BYTES] < 200_000
    reset(client)


def test_closing_the_listener_ends_every_connection(loop: Loop, listening: Listening) -> None:
    listener = listening()
    clients = [listener.upgraded()[0] for _ in range(5)]
    clients[1].sendall(frame(BINARY, b"half", options=("length=100000",)))
    listener.poll()
    assert lib.ss_listener_close(loop.core, listener.number) == lib.SS_OK
    assert listener.live() == 0
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] == 0
    for client in clients:
        assert client.recv(100) == b""


def test_an_upgrade_needs_a_request_without_a_body(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client = listener.connect()
    client.sendall(UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\nhello"))
    while not (found := lib.ss_loop_poll(loop.core, SECOND)) & 0xFFFF and loop.counts()[lib.SS_COUNT_REQUESTS] == 0:
        client.sendall(b"x")
    handle = ffi.unpack(lib.ss_loop_requests(loop.core), 2)[1]
    assert found and lib.ss_ws_upgrade(loop.core, handle, b"", 0, listener.config) == lib.SS_MISUSE
    assert lib.ss_conn_abort(loop.core, handle, 0) == lib.SS_OK
    assert lib.ss_ws_upgrade(loop.core, handle, b"", 0, listener.config) == lib.SS_GONE


def test_http_calls_know_nothing_of_an_upgraded_connection(loop: Loop, listening: Listening) -> None:
    listener = listening()
    _, handle = listener.upgraded()
    assert lib.ss_conn_send(loop.core, handle, b"", 0, b"", 0, lib.SS_SEND_LAST) == lib.SS_GONE
    assert lib.ss_conn_abort(loop.core, handle, 0) == lib.SS_GONE
    assert loop.counts()[lib.SS_COUNT_REQUESTS] == 0
