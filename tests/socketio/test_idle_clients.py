"""Clients that are only there: a day of heartbeats leaves no byte, no timer and no greenlet behind."""

import gc
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from streamserve.core import lib
from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_protocol import Wire
from tests.socketio.test_torture import Memory
from tests.support.server import Running

SECOND = 1_000_000_000
INTERVAL = 25
DAY = int(os.environ.get("SOCKETIO_HEARTBEATS", "300"))
"""Heartbeats, each an interval after the one before; 3456 are a day."""
CLIENTS = 3
KEPT = 300_000
"""Bytes of RSS that an allocator may take and keep in that time."""


class Idle:
    """Clients of both transports, each in a room of a namespace with handlers; time moves by calls alone."""

    def __init__(self, server: Running, stack: ExitStack) -> None:
        self.server = server
        self.wires = [Wire(server.port) for _ in range(CLIENTS)]
        for wire in self.wires:
            stack.callback(wire.connection.shutdown)
            wire.join()
        self.timers = server.count(lib.SS_COUNT_TIMERS)
        self.http = stack.enter_context(requests.Session())
        self.url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
        self.url += f"&sid={json.loads(self.http.get(self.url, timeout=60).text[1:])['sid']}"
        assert self.http.post(self.url, data="40", timeout=60).text == "ok"
        assert self.http.get(self.url, timeout=60).text.startswith("40{")
        self.now: int = server.call(lib.ss_loop_now, server.hub.core)

    def beat(self) -> None:
        """An interval passes; all are asked, and answer."""
        self.now += (INTERVAL + 1) * SECOND
        self.server.call(lib.ss_loop_set_clock, self.server.hub.core, self.now)
        for wire in self.wires:
            assert wire.connection.recv() == "2"
            wire.connection.send("3")
        assert self.http.get(self.url, timeout=60).text == "2"
        assert self.http.post(self.url, data="3", timeout=60).text == "ok"

    def objects(self) -> Counter[str]:
        """How many there are of each type in this process."""
        self.server.call(gc.collect)
        return Counter(type(item).__qualname__ for item in gc.get_objects())


@pytest.fixture
def idle(host: Host) -> Iterator[Idle]:
    sio = SocketIOServer(ping_interval=INTERVAL, ping_timeout=20)

    def connect(sid: str, environ: Any) -> None:
        sio.enter_room(sid, "room")

    sio.on("connect", connect)
    sio.on("disconnect", lambda sid, reason: None)
    sio.on("event", lambda sid, data: data)
    with ExitStack() as stack:
        yield Idle(host(sio), stack)


def test_a_client_by_websocket_holds_no_timer_and_no_greenlet(idle: Idle) -> None:
    before = idle.objects()
    more = [Wire(idle.server.port) for _ in range(20)]
    for wire in more:
        wire.join()
    after = idle.objects()
    assert idle.server.count(lib.SS_COUNT_TIMERS) == idle.timers + 1  # of the one that polls
    for kind in ("Greenlet", "Runner", "Waiter"):
        assert after[kind] - before[kind] < 10, f"20 clients made {after[kind] - before[kind]} of {kind}"
    assert after["Session"] - before["Session"] == 20
    for wire in more:
        wire.connection.shutdown()


@pytest.mark.foreign
def test_a_day_of_heartbeats_leaves_memory_as_it_was(idle: Idle) -> None:
    for _ in range(100):
        idle.beat()
    objects, memory, counts = idle.objects(), Memory().resident, idle.server.call(idle.server._counts)
    for _ in range(DAY):
        idle.beat()
    grown = {kind: number - objects[kind] for kind, number in idle.objects().items() if number - objects[kind] > 20}
    assert not grown
    assert Memory().resident - memory < KEPT
    assert idle.server.call(idle.server._counts)[lib.SS_COUNT_HELD_BYTES] == counts[lib.SS_COUNT_HELD_BYTES]
    tracemalloc.start()
    try:
        for _ in range(20):
            idle.beat()
        first = tracemalloc.take_snapshot()
        for _ in range(200):
            idle.beat()
        second = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    ours = [line for line in second.compare_to(first, "lineno") if "/streamserve/" in line.traceback[0].filename]
    assert not [str(line) for line in ours if line.size_diff > 2000]
