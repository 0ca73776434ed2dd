"""WebSocket in the core: what comes of frames, however they are split, and how connections end."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from streamserve.core import ffi, lib
from tests.support.frames import TAIL, FrameCase, frame, read_frame_cases, server_frames
from tests.support.loop import BACKENDS, SECOND, Loop, made
from tests.support.websocket_listener import UPGRADE, WebSocketListener

CASES = [(case, way) for case in read_frame_cases() for way in ("whole", "bytewise", "tail")]
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


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize(("case", "way"), CASES, ids=lambda value: getattr(value, "name", value))
def test_frames(listening: Listening, case: FrameCase, way: str) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    pieces = [case.data]
    if way == "bytewise" and len(case.data) < 1000:
        pieces = [case.data[at : at + 1] for at in range(len(case.data))]
    expected = case.messages
    if way == "tail":
        pieces.append(frame(TEXT, TAIL.encode()))
        expected = [*expected, *[f"text {TAIL}"] * (not case.ends)]
    for piece in pieces:
        with contextlib.suppress(ConnectionError):  # it may have ended at an earlier byte
            client.sendall(piece)
        listener.poll()
    if not case.ends:
        client.sendall(frame(CLOSE, struct.pack("!H", 1000)))
        expected = [*expected, "close 1000"]
    assert listener.told(len(expected)) == expected
    assert listener.answers(client) == (case.answers if case.ends else [*case.answers, "close 1000"])
    assert listener.told(len(expected)) == expected, "a Close comes once, as the last message"
    listener.until_gone()


def test_bytes_behind_the_request_are_its_first_frames(listening: Listening) -> None:
    listener = listening()
    listener.upgraded(behind=frame(TEXT, b"early") + frame(TEXT, b"two"))
    assert listener.told(2) == ["text early", "text two"]


def test_a_large_message_can_be_taken_also_when_its_connection_ends_in_the_same_poll(listening: Listening) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    client.sendall(frame(BINARY, bytes(lib.SS_WS_SMALL), fin=False))
    for _ in range(50):
        listener.poll()
    client.sendall(frame(PONG) * 300 + frame(0, b"end"))  # more frames than a turn takes
    listener.poll(SECOND)
    assert listener.messages == []
    reset(client)
    assert listener.told(2) == [f"binary of {lib.SS_WS_SMALL + 3}", "close 1006"]
    listener.until_gone()


def test_a_large_message_that_was_taken_holds_no_memory_while_nothing_is_read(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    held = loop.counts()[lib.SS_COUNT_HELD_BYTES]
    sender = threading.Thread(target=client.sendall, args=[frame(BINARY, bytes(1 << 20))])
    sender.start()
    assert listener.told(1) == [f"binary of {1 << 20}"]
    sender.join()
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] >= held + (1 << 20)
    assert lib.ss_ws_reading(loop.core, handle, 0) == lib.SS_OK
    listener.poll()
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] <= held + SMALL


def test_many_messages_are_told_by_one_poll(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    client.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(100)))
    polls = loop.counts()[lib.SS_COUNT_POLLS]
    assert listener.told(100) == [f"text {number}" for number in range(100)]
    assert loop.counts()[lib.SS_COUNT_POLLS] - polls <= 3


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 1 << 20, (1 << 22) + 13])
def test_large_messages_come_whole_and_leave_nothing(loop: Loop, listening: Listening, length: int) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    payload = os.urandom(length)
    client.setblocking(False)
    data = memoryview(frame(BINARY, payload) + frame(TEXT, b"next"))
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[client.send(data) :]
        listener.poll()
    listener.told(2)
    assert listener.messages == [(handle, BINARY, payload), (handle, TEXT, b"next")]
    listener.poll()
    listener.poll()
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] == 0


def test_a_header_that_promises_much_holds_only_what_came(loop: Loop, listening: Listening) -> None:
    listener = listening(max_message=1 << 30)
    client, _ = listener.upgraded()
    client.sendall(frame(BINARY, b"x" * 100, options=("length=1000000000",)))
    for _ in range(5):
        listener.poll()
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] < 100_000


def test_an_idle_connection_holds_no_buffer(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    client.sendall(frame(TEXT, b"hello"))
    listener.told(1)
    listener.poll()
    counts = loop.counts()
    assert counts[lib.SS_COUNT_BUFFERS] == counts[lib.SS_COUNT_HELD_BYTES] == 0


# ---- sending


def test_messages_of_every_length_arrive(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]
    for length in lengths:
        assert listener.send(handle, b"y" * length) >= 0
    assert listener.close(handle) == lib.SS_OK
    client.sendall(frame(CLOSE, struct.pack("!H", 1000)))
    frames, _ = server_frames(listener.received(client))
    assert [(opcode, len(payload)) for opcode, payload in frames] == [
        *((BINARY, length) for length in lengths),
        (CLOSE, 2),
    ]


def test_the_first_message_of_a_turn_leaves_at_once_the_others_together(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    listener.poll()
    assert listener.send(handle, b"one") == 0
    assert client.recv(100) == b"\x82\x03one"
    assert listener.send(handle, b"two") == 5
    assert listener.send(handle, b"three") == 12
    listener.poll()
    assert client.recv(100) == b"\x82\x03two\x82\x05three"
    assert listener.send(handle, b"four") == 0


def test_a_writer_is_told_when_its_queue_has_drained(loop: Loop, listening: Listening) -> None:
    listener = listening()
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    client, handle = listener.upgraded(receive_buffer=SMALL)
    while listener.send(handle, b"x" * 10_000) < 65_536:
        listener.poll()
    client.setblocking(False)
    events: list[tuple[int, int, int]] = []
    while not events:
        with contextlib.suppress(BlockingIOError):
            client.recv(1 << 20)
        events = listener.poll(SECOND // 1000)
    assert events == [(lib.SS_EVENT_DRAINED | listener.number << lib.SS_EVENT_LISTENER_SHIFT, handle, 0)]
    reset(client)


def test_what_cannot_be_sent_is_misuse(listening: Listening) -> None:
    listener = listening()
    _, handle = listener.upgraded()
    assert listener.send(handle, b"", opcode=CLOSE) == lib.SS_MISUSE
    assert listener.send(handle, b"", opcode=3) == lib.SS_MISUSE
    assert listener.send(handle, b"x" * 126, opcode=PING) == lib.SS_MISUSE
    assert listener.send(handle, b"x", flags=lib.SS_WS_COMPRESSED) == lib.SS_MISUSE
    for code in (1, 999, 1004, 1005, 1006, 1015, 2999, 5000):
        assert listener.close(handle, code) == lib.SS_MISUSE
    assert listener.close(handle, 1000, b"x" * 124) == lib.SS_MISUSE
    assert listener.close(handle, 0, b"x") == lib.SS_MISUSE


def test_a_broadcast_is_one_frame_for_all(loop: Loop, listening: Listening) -> None:
    listener = listening()
    pairs = [listener.upgraded() for _ in range(20)]
    gone = pairs.pop(7)
    reset(gone[0])
    listener.told(1)
    handles = ffi.new("int64_t[]", [gone[1], *(handle for _, handle in pairs)])
    frame_ = lib.ss_ws_frame_new(TEXT, b"to all", 6, 0)
    skipped = ffi.new("int64_t *")
    assert lib.ss_ws_broadcast(loop.core, handles, 20, ffi.NULL, 0, frame_, skipped) == 19
    assert skipped[0] == 0
    lib.ss_frame_free(frame_)
    for client, _ in pairs:
        assert client.recv(100) == b"\x81\x06to all"


@pytest.mark.parametrize("drop", [0, 1])
def test_a_broadcast_waits_for_nobody(loop: Loop, listening: Listening, drop: int) -> None:
    listener = listening(out_limit=100_000, drop=drop)
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    slow, slow_handle = listener.upgraded(receive_buffer=SMALL)
    quick, quick_handle = listener.upgraded()
    handles = ffi.new("int64_t[]", [slow_handle, quick_handle])
    skipped = ffi.new("int64_t *")
    frame_ = lib.ss_ws_frame_new(BINARY, b"z" * 20_000, 20_000, 0)
    held = 0
    quick.setblocking(False)
    while not skipped[0]:
        assert lib.ss_ws_broadcast(loop.core, handles, 2, ffi.NULL, 0, frame_, skipped) >= 1
        held = max(held, loop.counts()[lib.SS_COUNT_HELD_BYTES])
        with contextlib.suppress(BlockingIOError):
            while quick.recv(1 << 20):
                continue
    lib.ss_frame_free(frame_)
    assert held < 50_000, "a queue holds frames by their pointers"
    assert loop.counts()[lib.SS_COUNT_SKIPPED if drop else lib.SS_COUNT_OVERLOADED] == 1
    assert loop.counts()[lib.SS_COUNT_OVERLOADED if drop else lib.SS_COUNT_SKIPPED] == 0
    if drop:
        assert listener.messages == []
        assert listener.close(slow_handle) == lib.SS_OK
    else:
        assert listener.told(1) == ["close 1013"]
    reset(slow)


# ---- ends


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
