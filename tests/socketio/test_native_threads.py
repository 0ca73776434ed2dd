"""What a native thread that is not the loop's does comes in the order in which it does it."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from streamserve.engine import rooms
from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Connect, Host
from tests.socketio.test_protocol import Wire
from tests.support.server import eventually
from tests.support.threads import in_threads


class Site:
    """Two clients; what `act` calls has a native thread of its own, and the loop comes to all of it later.

    The first client is in the room "red".
    """

    def __init__(self, host: Host, connect: Connect) -> None:
        self.sio = sio = SocketIOServer()
        self.log: list[list[Any]] = [[], []]
        self.server = host(sio)
        clients = [self._client(connect, log) for log in self.log]
        self.sids = [client.get_sid() for client in clients]
        sio.enter_room(self.sids[0], "red")

    def _client(self, connect: Connect, log: list[Any]) -> Any:
        note = {event: lambda *data, event=event: log.append((event, *data)) for event in ("said", "end")}
        return connect(self.server, on={**note, "disconnect": lambda reason: log.append("gone")})

    def act(self, act: Callable[[], object]) -> None:
        still, done = threading.Event(), threading.Event()
        self.server.hub.run_callback_threadsafe(lambda: still.set() or done.wait(60))
        try:
            assert still.wait(60)
            act()
        finally:
            done.set()

    def heard(self, number: int) -> list[Any]:
        """What a client has heard by now, unless it is gone."""
        self.sio.emit("end", to=self.sids[number])
        log = self.log[number]
        eventually(lambda: log and log[-1] in (("end",), "gone"), "it has heard all of it")
        return [entry for entry in log if entry != ("end",)]


@pytest.fixture
def site(host: Host, connect: Connect) -> Site:
    return Site(host, connect)


def test_an_event_to_a_room_that_is_closed_then_reaches_those_who_were_in_it(site: Site) -> None:
    site.act(lambda: (site.sio.emit("said", 1, room="red"), site.sio.close_room("red")))
    assert (site.heard(0), site.heard(1)) == ([("said", 1)], [])


def test_so_it_does_where_several_rooms_are_closed(site: Site) -> None:
    site.act(lambda: (site.sio.emit("said", 1, room=["red", "blue"]), site.sio.close_room("red")))
    assert (site.heard(0), site.heard(1)) == ([("said", 1)], [])


def test_who_enters_a_room_after_an_event_to_it_does_not_hear_of_that(site: Site) -> None:
    site.act(lambda: (site.sio.emit("said", "secret", room="red"), site.sio.enter_room(site.sids[1], "red")))
    assert (site.heard(0), site.heard(1)) == ([("said", "secret")], [])


def test_who_enters_a_room_that_was_empty_does_not_either(site: Site) -> None:
    site.act(lambda: (site.sio.emit("said", "secret", room="new"), site.sio.enter_room(site.sids[1], "new")))
    assert (site.heard(0), site.heard(1)) == ([], [])


def test_who_leaves_a_room_before_an_event_does_not_hear_it(site: Site) -> None:
    site.sio.emit("said", 0, room="red")
    site.act(lambda: (site.sio.leave_room(site.sids[0], "red"), site.sio.emit("said", 1, room="red")))
    assert site.heard(0) == [("said", 0)]


@pytest.mark.parametrize("to", ["sid", "red", None])
def test_an_event_to_a_client_that_is_disconnected_then_comes_before_its_end(site: Site, to: str | None) -> None:
    sid = site.sids[0]
    site.act(lambda: (site.sio.emit("said", "bye", to=sid if to == "sid" else to), site.sio.disconnect(sid)))
    eventually(lambda: site.log[0][-1:] == ["gone"], "it is disconnected")
    assert site.log[0] == [("said", "bye"), "gone"]


def test_who_is_left_out_is_left_out_though_it_leaves(site: Site) -> None:
    site.sio.enter_room(site.sids[1], "red")
    site.act(
        lambda: (site.sio.emit("said", 1, room="red", skip_sid=site.sids[0]), site.sio.leave_room(site.sids[0], "red"))
    )
    assert (site.heard(0), site.heard(1)) == ([], [("said", 1)])


def test_events_of_a_thread_come_in_order_whatever_they_are_sent_to(site: Site) -> None:
    targets = [site.sids[0], "red", None, ["red", "blue"]] * 5
    site.act(lambda: [site.sio.emit("said", number, to=to) for number, to in enumerate(targets)])
    assert site.heard(0) == [("said", number) for number in range(20)]


def test_a_room_that_nobody_enters_or_leaves_is_sent_to_by_one_array(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a flood of a native thread costs the loop no more than one of its own."""
    sio, made, real = SocketIOServer(), [], rooms.Targets
    monkeypatch.setattr(rooms, "Targets", lambda *args: made.append(args) or real(*args))
    with ExitStack() as stack:
        server = host(sio)
        wires = [Wire(server.port) for _ in range(3)]
        for wire in wires:
            stack.callback(wire.connection.shutdown)
            wire.join()
        for number in range(50):
            sio.emit("said", number)
        for wire in wires:
            assert [wire.receive() for _ in range(50)] == [f'42["said",{number}]' for number in range(50)]
    assert len(made) == 1


def test_clients_of_two_loops_get_what_was_for_them_before_they_left(host: Host) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        servers = [host(sio), host(sio)]
        wires = [Wire(server.port) for server in servers]
        sids = []
        for wire in wires:
            stack.callback(wire.connection.shutdown)
            sids.append(wire.join()["sid"])
            sio.enter_room(sids[-1], "red")
        for number in range(50):
            sio.emit("said", number, room="red")
        sio.close_room("red")
        for sid in sids:
            sio.emit("said", "bye")
            sio.disconnect(sid)
        for wire, byes in zip(wires, (1, 2), strict=True):
            assert [wire.receive() for _ in range(50)] == [f'42["said",{number}]' for number in range(50)]
            assert [wire.receive() for _ in range(byes + 1)] == ['42["said","bye"]'] * byes + ["41"]


# ---- background tasks


@pytest.mark.parametrize("sleeps", [False, True], ids=["without a hub", "with a hub that stands still"])
def test_a_task_that_a_native_thread_starts_runs_in_the_loop(host: Host, sleeps: bool) -> None:
    sio = SocketIOServer()
    with ExitStack() as stack:
        server = host(sio)
        wire = Wire(server.port)
        stack.callback(wire.connection.shutdown)
        wire.join()
        ran: list[Any] = []

        def work(*args: Any, **options: Any) -> None:
            sio.sleep(0)
            ran.append((threading.current_thread().name, args, options))

        def start() -> None:
            if sleeps:
                sio.sleep(0)
            task = sio.start_background_task(work, 1, a=2)
            task.join(60)
            assert not task.is_alive()

        in_threads([start, start])
        assert ran == [("server", (1,), {"a": 2})] * 2
        sio.start_background_task(sio.emit, "said", 1)
        assert wire.receive() == '42["said",1]'


def test_a_task_of_a_loop_runs_there_also_where_another_one_has_the_last_client(host: Host) -> None:
    sio, threads = SocketIOServer(), []
    sio.on("start", lambda sid: sio.start_background_task(lambda: threads.append(threading.get_ident())).join())
    with ExitStack() as stack:
        servers = [host(sio), host(sio)]
        wires = [Wire(server.port) for server in servers]
        for wire in wires:
            stack.callback(wire.connection.shutdown)
            wire.join()
        for wire in wires:
            wire.send('421["start"]')
            assert wire.receive() == "431[]"
        assert threads == [server.hub.thread_ident for server in servers]


def test_a_task_that_is_started_before_any_client_came_runs_where_it_is_started(host: Host) -> None:
    sio, threads = SocketIOServer(), []
    server = host(sio)
    server.call(lambda: sio.start_background_task(lambda: threads.append(threading.get_ident())))
    eventually(lambda: threads == [server.hub.thread_ident], "it runs")
