"""Answers to many peers of one poll: the first leaves at once, the others a few in a row."""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from streamserve.core import ffi, lib
from tests.core.test_websocket import reset
from tests.support.frames import frame
from tests.support.loop import BACKENDS, SECOND, Loop, made
from tests.support.websocket_listener import WebSocketListener

HELD = 16  # SS_WS_HELD
MANY = 8  # messages of a poll
Peer = tuple[socket.socket, int]
Asked = Callable[[int], tuple[WebSocketListener, list[Peer]]]


def ask_all(loop: Loop, peers: list[Peer]) -> None:
    """Has one poll tell a message of each; on a slow machine the kernel may still be delivering some."""
    told = 0
    while told < len(peers):
        for client, _ in peers:
            client.sendall(frame(lib.SS_WS_TEXT, b"question"))
        told = rest = lib.ss_loop_poll(loop.core, 20 * SECOND) >> 32
        while rest < len(peers):
            rest += lib.ss_loop_poll(loop.core, 20 * SECOND) >> 32


@pytest.fixture(params=BACKENDS, ids=["epoll", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture
def asked(loop: Loop) -> Iterator[Asked]:
    """Gives a listener and so many peers, of each of which the last poll told a message."""
    with contextlib.ExitStack() as cleanup:

        def ask(count: int) -> tuple[WebSocketListener, list[Peer]]:
            listener = WebSocketListener(loop, cleanup)
            peers = [listener.upgraded() for _ in range(count)]
            listener.poll()
            ask_all(loop, peers)
            lib.ss_loop_set_clock(loop.core, lib.ss_loop_now(loop.core))  # however slow the machine, handlers are quick
            return listener, peers

        yield ask


def arrives(peer: Peer, expected: bytes) -> None:
    """Exactly this; what was sent may be on its way for a moment."""
    received = b""
    while len(received) < len(expected):
        received += peer[0].recv(len(expected) - len(received))
    assert received == expected
    assert has_nothing(peer)


def has_nothing(peer: Peer) -> bool:
    return not select.select([peer[0]], [], [], 0)[0]


def answer(number: int) -> bytes:
    return b"answer %02d" % number


def on_wire(payload: bytes) -> bytes:
    return bytes([0x82, len(payload)]) + payload


def test_the_first_answer_leaves_at_once_the_others_in_a_row(asked: Asked) -> None:
    listener, peers = asked(HELD + 4)
    listener.send(peers[0][1], answer(0))
    arrives(peers[0], on_wire(answer(0)))
    for number in range(1, HELD):
        assert listener.send(peers[number][1], answer(number)) == 0
    assert all(map(has_nothing, peers))
    for number in range(HELD, HELD + 4):
        assert listener.send(peers[number][1], answer(number)) == 0
    for number in range(1, HELD + 1):
        arrives(peers[number], on_wire(answer(number)))
    assert all(map(has_nothing, peers[HELD + 1 :]))
    listener.poll()
    for number in range(HELD + 1, HELD + 4):
        arrives(peers[number], on_wire(answer(number)))


def test_answers_to_few_leave_at_once(asked: Asked) -> None:
    listener, peers = asked(MANY - 1)
    for number, peer in enumerate(peers):
        listener.send(peer[1], answer(number))
        arrives(peer, on_wire(answer(number)))


def test_what_is_sent_in_the_next_turn_leaves_at_once(asked: Asked) -> None:
    listener, peers = asked(MANY)
    listener.poll()
    for number, peer in enumerate(peers):
        listener.send(peer[1], answer(number))
        arrives(peer, on_wire(answer(number)))


def test_a_second_message_follows_the_first(asked: Asked) -> None:
    listener, peers = asked(MANY)
    for number, peer in enumerate(peers[:4]):
        listener.send(peer[1], answer(number))
    listener.send(peers[2][1], b"more")
    for number, peer in enumerate(peers[:4]):
        arrives(peer, on_wire(answer(number)))
    listener.send(peers[4][1], answer(4))
    listener.poll()
    arrives(peers[2], on_wire(b"more"))
    arrives(peers[4], on_wire(answer(4)))


def test_a_long_message_leaves_at_once_also_behind_a_kept_one(asked: Asked) -> None:
    listener, peers = asked(MANY)
    long = b"x" * 1025
    header = b"\x82\x7e" + len(long).to_bytes(2, "big")
    listener.send(peers[0][1], b"first")
    listener.send(peers[1][1], long)
    arrives(peers[1], header + long)
    listener.send(peers[2][1], b"short")
    listener.send(peers[2][1], long)
    listener.poll()
    arrives(peers[2], on_wire(b"short") + header + long)


def test_a_close_and_a_broadcast_come_behind_what_is_kept(asked: Asked) -> None:
    listener, peers = asked(MANY)
    for number, peer in enumerate(peers[:4]):
        listener.send(peer[1], answer(number))
    listener.close(peers[1][1])
    listener.send(peers[4][1], answer(4))
    broadcast = lib.ss_ws_frame_new(lib.SS_WS_BINARY, b"all", 3, 0)
    skipped = ffi.new("int64_t *")
    handles = ffi.new("int64_t[]", [peer[1] for peer in peers])
    sent = lib.ss_ws_broadcast(listener.loop.core, handles, len(peers), ffi.NULL, 0, broadcast, skipped)
    lib.ss_frame_free(broadcast)
    assert (sent, skipped[0]) == (MANY - 1, 0)
    listener.poll()
    arrives(peers[1], on_wire(answer(1)) + b"\x88\x02\x03\xe8")
    arrives(peers[2], on_wire(answer(2)) + on_wire(b"all"))
    arrives(peers[4], on_wire(answer(4)) + on_wire(b"all"))
    arrives(peers[5], on_wire(b"all"))


def test_what_is_kept_for_a_peer_that_leaves_goes_nowhere(loop: Loop, asked: Asked) -> None:
    listener, peers = asked(MANY)
    for number, peer in enumerate(peers):
        listener.send(peer[1], answer(number))
    for client, _ in peers[:6]:
        reset(client)
    listener.told(6)
    arrives(peers[7], on_wire(answer(7)))
    assert loop.counts()[lib.SS_COUNT_CONNECTIONS] == MANY - 6


def test_what_is_kept_leaves_before_its_listener_closes(asked: Asked) -> None:
    listener, peers = asked(MANY)
    for number, peer in enumerate(peers):
        listener.send(peer[1], answer(number))
    lib.ss_listener_close(listener.loop.core, listener.number)
    for number, (client, _) in enumerate(peers):
        received = b""
        while piece := client.recv(100):
            received += piece
        assert received == on_wire(answer(number))


def test_nothing_is_kept_for_a_while_after_it_had_to_wait_for_one_that_computes(loop: Loop, asked: Asked) -> None:
    listener, peers = asked(MANY)
    now = lib.ss_loop_now(loop.core)

    def in_a_row(seconds: float) -> bool:
        """Is something kept in a turn in which the time between two messages is so long?"""
        nonlocal now
        listener.send(peers[0][1], answer(0))
        listener.send(peers[1][1], answer(1))
        arrives(peers[0], on_wire(answer(0)))
        kept = not select.select([peers[1][0]], [], [], 0.5)[0]
        now += int(seconds * SECOND)
        lib.ss_loop_set_clock(loop.core, now)
        ask_all(loop, peers)
        arrives(peers[1], on_wire(answer(1)))
        return kept

    assert in_a_row(0.0005)
    assert in_a_row(0.002)
    assert not in_a_row(9)
    assert not in_a_row(2)
    assert in_a_row(0)
