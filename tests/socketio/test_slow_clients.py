"""Clients for which more is sent than they take: they are ended, memory stays bounded, and the others feel nothing."""

import json
import queue
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from streamserve.core import lib
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import left_behind
from tests.socketio.test_protocol import Wire
from tests.support.client import Client
from tests.support.frames import frame, server_frames
from tests.support.server import Running, eventually

TEXT = lib.SS_WS_TEXT
MAX_QUEUE = 100_000
FLOOD = 100_000
"""Events, of 100 bytes."""
KERNEL = 8 << 20
"""Bytes that the kernel takes for a client, at most."""


class Site:
    """A server that tells clients much."""

    def __init__(self, host: Host) -> None:
        self.sio = sio = SocketIOServer(max_queue=MAX_QUEUE, ping_interval=300)
        self.sids: queue.Queue[str] = queue.Queue()
        self.ended: dict[str, str] = {}
        self.waiting = -1
        self.ready = -1
        sio.on("connect", lambda sid, environ: self.sids.put(sid))
        sio.on("disconnect", self._leave)
        sio.on("echo", lambda sid, data: data)
        self.server: Running = host(sio)

    def _leave(self, sid: str, reason: str) -> None:
        self.ended[sid] = reason
        self.sio.emit("flood", "too late", to=sid)
        assert self.sio.get_environ(sid)["REQUEST_METHOD"] == "GET"

    def flood(self, to: str | None) -> None:
        """Emits much without letting others run."""
        for _ in range(FLOOD):
            self.sio.emit("flood", "x" * 90, to=to)
        self.waiting = self.server._counts()[lib.SS_COUNT_QUEUED_BYTES]
        self.ready = len(self.server.hub.ready)

    def slow(self) -> tuple[Client, str]:
        """A client by WebSocket that reads nothing more, in a small buffer; and its sid."""
        client = self.server.client(receive_buffer=4096)
        client.send(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.head().status == 101
        client.send(frame(TEXT, b"40"))
        return client, self.sids.get(timeout=60)

    def polling(self) -> tuple[str, str]:
        """A client that polls no more: its URL, and its sid."""
        url = f"http://127.0.0.1:{self.server.port}/socket.io/?EIO=4&transport=polling"
        url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
        assert requests.post(url, data="40", timeout=60).text == "ok"
        return url, self.sids.get(timeout=60)


@pytest.fixture
def site(host: Host) -> Site:
    return Site(host)


@pytest.fixture
def quick(site: Site) -> Iterator[Wire]:
    """A client that reads."""
    with ExitStack() as stack:
        wire = Wire(site.server.port)
        stack.callback(wire.connection.shutdown)
        wire.join()
        site.sids.get(timeout=60)
        yield wire
        wire.send('429["echo","unharmed"]')
        assert wire.receive() == '439["unharmed"]'


def test_a_flood_to_one_that_reads_nothing_ends_it_and_is_not_kept(site: Site, quick: Wire) -> None:
    client, sid = site.slow()
    site.server.spawn(site.flood, sid).result(60)
    assert site.waiting < MAX_QUEUE + 1000 and site.ready < 10
    eventually(lambda: site.ended, "its handler is told")
    assert site.ended == {sid: "transport error"}
    client.close()


def test_a_flood_to_one_that_does_not_poll_ends_it_and_is_not_kept(site: Site, quick: Wire) -> None:
    url, sid = site.polling()
    (session,) = (session for session in site.sio.eio.sockets.values() if not session.upgraded)
    site.server.spawn(site.flood, sid).result(60)
    assert not session.polling.waiting and site.ready < 10
    eventually(lambda: site.ended, "its handler is told")
    assert site.ended == {sid: "transport error"}
    assert requests.get(url, timeout=60).status_code == 400


def test_a_flood_while_a_connect_handler_waits_ends_its_client_and_is_not_kept(site: Site, quick: Wire) -> None:
    gate, kept = Event(), []
    site.sio.on("connect", lambda sid, environ: gate.wait() and None)
    late = Wire(site.server.port)
    late.send("40")
    eventually(lambda: site.sio.manager.pending_connect, "its handler waits")
    (eio_sid,) = site.sio.admission.clients("/")

    def flood() -> None:
        for _ in range(FLOOD // 10):
            site.sio.emit("flood", "x" * 90, skip_sid=next(iter(site.sio.manager.rooms["/"][None])))
            kept.append(site.sio.admission._waiting[eio_sid]["/"].bytes)

    site.server.spawn(flood).result(60)
    assert max(kept) <= MAX_QUEUE
    eventually(lambda: eio_sid not in site.sio.eio.sockets, "it is ended")
    site.sio.eio.in_loop(gate.set)
    late.connection.shutdown()
    eventually(lambda: len(site.ended) == 1, "it leaves again")


def test_a_broadcast_goes_on_for_those_who_read_and_ends_who_does_not(site: Site, quick: Wire) -> None:
    client, sid = site.slow()
    quicker = Wire(site.server.port)
    quicker.join()
    number = 0
    while sid not in site.ended:
        site.server.call(site.sio.emit, "flood", [number, "x" * 20_000])
        for wire in (quick, quicker):
            assert wire.receive().startswith(f'42["flood",[{number},')
        number += 1
        assert number * 20_000 < KERNEL
    quicker.connection.shutdown()
    assert site.ended[sid] in ("transport close", "transport error")
    frames, _ = server_frames(client.rest())
    assert frames[-1] == (lib.SS_WS_CLOSE, lib.SS_WS_OVERLOADED.to_bytes(2, "big"))


@pytest.mark.parametrize("way", ["websocket", "broadcast", "polling"])
def test_one_message_may_be_larger_than_what_may_wait(site: Site, way: str) -> None:
    large = [b"x" * 5 * MAX_QUEUE, "y" * 5 * MAX_QUEUE, b"z" * 5 * MAX_QUEUE]
    if way == "polling":
        url, sid = site.polling()
        assert requests.get(url, timeout=60).text.startswith("40{")
        site.server.call(lambda: site.sio.emit("large", large, to=sid))
        packets = requests.get(url, timeout=60).text.split("\x1e")
        assert [len(packet) > MAX_QUEUE for packet in packets] == [True, True, True]
    else:
        wire = Wire(site.server.port)
        sid = wire.join()["sid"]
        room = sid
        if way == "broadcast":
            room = "readers"
            site.server.call(site.sio.enter_room, sid, room)
        site.server.call(
            lambda: [site.sio.emit(*event, to=room) for event in (("small",), ("small",), ("large", large))]
        )
        assert [wire.receive(), wire.receive()] == ['42["small"]'] * 2
        assert wire.receive().startswith('452-["large",[{')
        assert [wire.receive(), wire.receive()] == [large[0], large[2]]
        wire.connection.shutdown()


def test_a_flood_of_attachments_ends_who_does_not_read_amid_none_of_its_events(site: Site, quick: Wire) -> None:
    client, sid = site.slow()
    number = 0
    while sid not in site.ended:
        site.server.call(site.sio.emit, "flood", [number, *[bytes(10_000)] * 3])
        assert quick.receive().startswith(f'453-["flood",[{number},')
        assert [quick.receive() for _ in range(3)] == [bytes(10_000)] * 3
        assert site.server._counts()[lib.SS_COUNT_QUEUED_BYTES] <= MAX_QUEUE
        number += 1
        assert number * 30_000 < KERNEL
    frames, _ = server_frames(client.rest())
    assert frames[-1] == (lib.SS_WS_CLOSE, lib.SS_WS_OVERLOADED.to_bytes(2, "big"))
    kinds = [opcode for opcode, payload in frames[:-1] if payload[:1] not in (b"0", b"2") or opcode == lib.SS_WS_BINARY]
    told = kinds[kinds.index(lib.SS_WS_BINARY) - 1 :]
    assert told == [TEXT, *[lib.SS_WS_BINARY] * 3] * (len(told) // 4)


def test_what_is_sent_to_the_gone_is_dropped_without_a_trace(site: Site) -> None:
    sio, client = site.sio, Wire(site.server.port)
    sid = client.join()["sid"]
    (eio_sid,) = sio.eio.sockets
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio), "it is gone")

    def talk() -> list[Any]:
        sio.emit("event", 1, to=sid)
        sio.emit("event", b"attached", to=sid, callback=print)
        sio.emit("event", 1, to=[sid, "nobody"], skip_sid=sid)
        sio.emit("event", 1)
        sio.disconnect(sid)
        sio.eio.disconnect(eio_sid)
        sio.eio.send(eio_sid, "x")
        sio.leave_room(sid, "room")
        sio.close_room("room")
        return [sio.rooms(sid), sio.get_environ(sid) if sid in sio.manager.rooms.get("/", {}) else None]

    assert site.server.spawn(talk).result(60) == [[], None]
    with pytest.raises(ValueError, match="not connected"):
        site.server.call(sio.enter_room, sid, "room")
    assert not left_behind(sio)
