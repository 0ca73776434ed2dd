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
from tests.support.websocket_listener import WebSocketListener

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


def test_messages_of_one_kind_are_told_to_be_alike(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    text, binary = frame(TEXT, "ä".encode()), frame(BINARY, b"x")
    for sent, count, alike in [
        (text * 3, 3, TEXT),
        (binary, 1, BINARY),
        (text + binary, 2, 0),
        (frame(BINARY, bytes(lib.SS_WS_SMALL + 1)), 1, 0),
        (text + frame(CLOSE), 2, 0),
    ]:
        before = len(listener.messages)
        client.sendall(sent)
        listener.told(before + count)
        assert len(listener.messages) == before + count
        assert lib.ss_ws_alike(loop.core) == alike


def test_messages_of_two_listeners_are_not_alike(loop: Loop, listening: Listening) -> None:
    for client, _ in [listening().upgraded() for _ in range(2)]:
        client.sendall(frame(TEXT, b"hello"))
    assert lib.ss_loop_poll(loop.core, SECOND) >> 32 == 2
    assert lib.ss_ws_alike(loop.core) == 0


def test_what_the_core_does_by_itself_ends_no_poll(loop: Loop, listening: Listening) -> None:
    listener = listening()
    client, _ = listener.upgraded()
    listener.poll()

    def ping_then_say() -> None:
        for _ in range(3):
            client.sendall(frame(PING, b""))
            assert client.recv(2) == bytes([0x80 | PONG, 0])
        client.sendall(frame(TEXT, b"hello"))

    peer = threading.Thread(target=ping_then_say)
    peer.start()
    assert lib.ss_loop_poll(loop.core, -1) >> 32 == 1
    peer.join()


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


def test_a_peer_that_sent_several_messages_at_once_is_answered_at_once(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    _, other = listener.upgraded()

    def poll_for(messages: int) -> None:
        while not (told := lib.ss_loop_poll(listener.loop.core, 20 * SECOND) >> 32):
            pass
        assert told == messages

    client.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
    poll_for(2)
    assert listener.send(handle, b"to a") == 6
    assert listener.send(handle, b"to b") == 12
    assert listener.send(other, b"to whom sent nothing") == 0
    listener.poll()
    assert client.recv(100) == b"\x82\x04to a\x82\x04to b"
    client.sendall(frame(TEXT, b"c"))
    poll_for(1)
    assert listener.send(handle, b"to c") == 0


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


def test_another_thread_is_told_to_ask_elsewhere(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(listener.send(handle, b"from there")))
    thread.start()
    thread.join()
    assert answers == [lib.SS_ELSEWHERE]
    assert listener.send(handle, b"from here") >= 0
    assert client.recv(100) == b"\x82\x09from here"


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
