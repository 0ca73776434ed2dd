"""Handshakes take turns with requests: in order, a slice in each turn of the loop, and none is lost."""

import ssl
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.gateway import handshake_turns
from streamserve.gateway.handshake_turns import HandshakeTurns
from streamserve.gateway.tls import TlsSessions
from tests.support.server import PATIENCE, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CROWD = 30


class Turns:
    """Stands for a hub: its turns are the test's."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self.timers: list[Any] = []

    def run_callback(self, function: Any) -> None:
        self.callbacks.append(function)

    def start_timer(self, seconds: float, target: Any, counts: bool = True) -> int:
        assert seconds == 0 and not counts
        self.timers.append(target)
        return 1

    def stop_timer(self, _slot: int, target: Any) -> None:
        self.timers.remove(target)

    def pass_one(self) -> None:
        """One turn of the loop: timers that have ended, and what is to be called."""
        timers, self.timers = self.timers, []
        for target in timers:
            target.fire()
        callbacks, self.callbacks = self.callbacks, []
        for function in callbacks:
            function()


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice is over after one step, however quick the machine is."""
    monkeypatch.setattr(handshake_turns, "SLICE", 0.0)


@pytest.fixture
def hub() -> Any:
    return Turns()


@pytest.mark.usefixtures("one_step")
def test_each_turn_makes_steps_in_the_order_of_coming(hub: Any) -> None:
    made: list[int] = []
    turns = HandshakeTurns(hub, made.append)
    for handle in (3, 1, 2):
        turns.add(handle)
    for expected in ([3], [3, 1], [3, 1, 2]):
        hub.pass_one()
        assert made == expected
    assert not hub.timers and not hub.callbacks
    turns.add(4)
    hub.pass_one()
    assert made == [3, 1, 2, 4]


def test_a_slice_has_room_for_what_is_quick(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_turns, "SLICE", PATIENCE)
    made: list[int] = []
    turns = HandshakeTurns(hub, made.append)
    for handle in range(5):
        turns.add(handle)
    hub.pass_one()
    assert made == list(range(5))


@pytest.mark.usefixtures("one_step")
def test_turns_pass_without_a_step_when_requests_came_but_not_two_in_a_row(hub: Any) -> None:
    made: list[int] = []
    turns = HandshakeTurns(hub, made.append)
    for handle in (1, 2, 3):
        turns.add(handle)
    for expected in ([], [1], [1], [1, 2], [1, 2]):
        turns.requested = True
        hub.pass_one()
        assert made == expected
    hub.pass_one()
    assert made == [1, 2, 3]


@pytest.mark.usefixtures("one_step")
def test_what_is_over_makes_no_step_and_what_fails_stops_no_other(hub: Any) -> None:
    made: list[int] = []

    def step(handle: int) -> None:
        if handle == 1:
            raise MemoryError
        made.append(handle)

    turns = HandshakeTurns(hub, step)
    for handle in (1, 2, 3):
        turns.add(handle)
    turns.drop(2)
    with pytest.raises(MemoryError):
        hub.pass_one()
    hub.pass_one()
    assert made == [3]


@pytest.mark.usefixtures("one_step")
def test_nothing_is_left_after_the_end(hub: Any) -> None:
    made: list[int] = []
    turns = HandshakeTurns(hub, made.append)
    for handle in (1, 2, 3):
        turns.add(handle)
    hub.pass_one()
    turns.close()
    assert not hub.timers
    hub.pass_one()
    assert made == [1]


@pytest.mark.usefixtures("one_step")
def test_a_request_runs_before_a_crowd_of_handshakes_is_through(
    serve: Serve, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    seen: list[int] = []
    shake_hands = TlsSessions._shake_hands

    def counted(self: TlsSessions, handle: int, session: Any) -> bool:
        steps.append(handle)
        return shake_hands(self, handle, session)

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        seen.append(len(steps))
        start_response("200 OK", [])
        return [b"ok"]

    authority = Authority(tmp_path)
    monkeypatch.setattr(TlsSessions, "_shake_hands", counted)
    running = serve(application, certfile=authority.issue("localhost"))
    with TlsClient(running.addresses[0], authority.trust()) as known:
        known.send(GET)
        assert known.response().body == b"ok"
        crowd = [running.client() for _ in range(CROWD)]
        eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == CROWD + 1, "all are accepted")
        before = len(steps)
        with running.held():
            for client in crowd:
                client.send(client_hello())
            known.send(GET)
        assert known.response().body == b"ok"
        assert seen[-1] - before <= 3, "the request waited for the crowd"
        for client in crowd:
            assert client.exactly(1) == b"\x16"  # each has its turn


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
