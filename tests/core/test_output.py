"""The output queue: bytes, frames that many connections share, and files leave in order, and nothing is kept."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamserve.core import ffi, lib
from tests.support.http_listener import OK, HttpListener
from tests.support.loop import BACKENDS, SECOND, Loop, made

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FRAME = os.urandom(1 << 20)
SMALL = 8192  # bytes of a socket's buffers: soon full


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture
def listener(loop: Loop) -> Iterator[HttpListener]:
    with contextlib.ExitStack() as cleanup:
        listener = HttpListener(loop, cleanup)
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)  # inherited by what it accepts
        yield listener


def streaming(listener: HttpListener) -> tuple[socket.socket, int]:
    """A client whose response has begun, and the handle of its connection."""
    client = listener.connect(receive_buffer=SMALL)
    client.sendall(GET)
    handle = listener.request()
    listener.begin(handle)
    return client, handle


def send(listener: HttpListener, handle: int, data: bytes) -> int:
    queued: int = lib.ss_conn_send(listener.loop.core, handle, b"", 0, data, len(data), 0)
    assert lib.ss_verify(listener.loop.core) == ffi.NULL
    return queued


def end(listener: HttpListener, handle: int) -> None:
    assert lib.ss_conn_send(listener.loop.core, handle, b"", 0, b"", 0, lib.SS_SEND_LAST) >= 0


def drained(listener: HttpListener, client: socket.socket) -> bytes:
    """What the client gets to its end, while the loop polls; without the head."""
    client.setblocking(False)
    data = bytearray()
    while True:
        listener.loop.poll(SECOND // 1000)
        try:
            part = client.recv(1 << 20)
        except BlockingIOError:
            continue
        if not part:
            return bytes(data).partition(b"\r\n\r\n")[2]
        data += part


def test_a_frame_is_kept_once_for_all_that_send_it(loop: Loop, listener: HttpListener) -> None:
    connections = [streaming(listener) for _ in range(3)]
    frame = lib.ss_frame_new(FRAME, len(FRAME))
    held = loop.counts()[lib.SS_COUNT_HELD_BYTES]
    queued = [lib.ss_conn_send_frame(loop.core, handle, frame) for _, handle in connections]
    lib.ss_frame_free(frame)  # the queues go on with it
    assert all(0 < left < len(FRAME) for left in queued)
    assert loop.counts()[lib.SS_COUNT_QUEUED_BYTES] == sum(queued)
    assert loop.counts()[lib.SS_COUNT_HELD_BYTES] == held
    for client, handle in connections:
        end(listener, handle)
        assert drained(listener, client) == FRAME


def test_a_frame_that_is_taken_at_once_is_not_queued(loop: Loop, listener: HttpListener) -> None:
    client, handle = streaming(listener)
    frame = lib.ss_frame_new(b"short", 5)
    assert lib.ss_conn_send_frame(loop.core, handle, frame) == 0
    lib.ss_frame_free(frame)
    end(listener, handle)
    assert drained(listener, client) == b"short"


def test_several_frames_become_one_with_their_bytes(loop: Loop, listener: HttpListener) -> None:
    client, handle = streaming(listener)
    parts = [lib.ss_frame_new(data, len(data)) for data in (b"one", b"", FRAME)]
    joined = lib.ss_frames_join(ffi.new("ss_frame *[]", parts), len(parts))
    for part in parts:
        lib.ss_frame_free(part)
    lib.ss_conn_send_frame(loop.core, handle, joined)
    lib.ss_frame_free(joined)
    end(listener, handle)
    assert drained(listener, client) == b"one" + FRAME


def test_more_than_a_queue_may_hold_becomes_no_frame() -> None:
    part = lib.ss_frame_new(FRAME, len(FRAME))
    count = (1 << 31) // len(FRAME) + 1
    assert lib.ss_frames_join(ffi.new("ss_frame *[]", [part] * count), count) == ffi.NULL
    lib.ss_frame_free(part)


def test_bytes_and_frames_leave_in_the_order_in_which_they_were_sent(loop: Loop, listener: HttpListener) -> None:
    client, handle = streaming(listener)
    frame = lib.ss_frame_new(FRAME, len(FRAME))
    expected = b""
    for number in range(200):
        if number % 20 == 3:
            lib.ss_conn_send_frame(loop.core, handle, frame)
            expected += FRAME
        else:
            data = b"%d," % number * (number + 1)
            send(listener, handle, data)
            expected += data
    lib.ss_frame_free(frame)
    end(listener, handle)
    assert drained(listener, client) == expected


def test_small_pieces_share_the_room_of_a_segment(loop: Loop, listener: HttpListener) -> None:
    client, handle = streaming(listener)
    while send(listener, handle, b"x" * SMALL) == 0:
        continue
    before = loop.counts()
    for _ in range(10_000):
        send(listener, handle, b"0123456789")
    after = loop.counts()
    queued = after[lib.SS_COUNT_QUEUED_BYTES] - before[lib.SS_COUNT_QUEUED_BYTES]
    assert queued == 100_000
    assert after[lib.SS_COUNT_HELD_BYTES] - before[lib.SS_COUNT_HELD_BYTES] <= queued + 65536
    lib.ss_conn_abort(loop.core, handle, 1)
    client.close()


def test_a_file_leaves_behind_what_is_queued(loop: Loop, listener: HttpListener, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(FRAME)
    client = listener.connect(receive_buffer=SMALL)
    client.sendall(GET)
    handle = listener.request()
    early = b"HTTP/1.1 103 Early Hints\r\nA: " + b"x" * 300_000 + b"\r\n\r\n"
    assert lib.ss_conn_interim(loop.core, handle, early, len(early)) > 0
    head = ffi.new("ss_response_head *")
    text = ffi.from_buffer(OK)
    head.data, head.length, head.flags = text, len(OK), lib.SS_SEND_LENGTH | lib.SS_SEND_CLOSE
    with path.open("rb") as file:
        assert lib.ss_conn_send_file(loop.core, handle, head, file.fileno(), 0, len(FRAME)) == lib.SS_OK
    assert loop.counts()[lib.SS_COUNT_FILES] == 1
    assert drained(listener, client).partition(b"\r\n\r\n")[2] == FRAME
    assert loop.counts()[lib.SS_COUNT_FILES] == 0


def test_what_a_lost_connection_had_queued_is_let_go(loop: Loop, listener: HttpListener) -> None:
    client, handle = streaming(listener)
    frame = lib.ss_frame_new(FRAME, len(FRAME))
    for _ in range(3):
        lib.ss_conn_send_frame(loop.core, handle, frame)
        send(listener, handle, b"x" * SMALL)
    lib.ss_frame_free(frame)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    while lib.ss_conn_queued(loop.core, handle) > 0:
        loop.poll(20 * SECOND)
    assert lib.ss_conn_abort(loop.core, handle, 0) == lib.SS_OK
    counts = loop.counts()
    assert counts[lib.SS_COUNT_QUEUED_BYTES] == counts[lib.SS_COUNT_HELD_BYTES] == 0


def test_a_frame_needs_a_response_that_has_begun(loop: Loop, listener: HttpListener) -> None:
    client = listener.connect()
    client.sendall(GET)
    handle = listener.request()
    frame = lib.ss_frame_new(b"x", 1)
    assert lib.ss_conn_send_frame(loop.core, handle, frame) == lib.SS_MISUSE
    lib.ss_conn_abort(loop.core, handle, 0)
    assert lib.ss_conn_send_frame(loop.core, handle, frame) == lib.SS_GONE
    lib.ss_frame_free(frame)
    lib.ss_frame_free(ffi.NULL)


def test_a_frame_cannot_have_a_length_below_zero_or_beyond_what_a_queue_holds() -> None:
    assert lib.ss_frame_new(b"", -1) == ffi.NULL
    assert lib.ss_frame_new(b"", 1 << 30) == ffi.NULL
