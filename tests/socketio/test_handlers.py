"""Which handler an event goes to, with which arguments, how often, and what its answer becomes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import socketio

from streamserve.socketio_server import SocketIOServer
from tests.socketio.conftest import Host
from tests.socketio.test_protocol import Wire
from tests.support.logs import log_with
from tests.support.server import eventually

Open = Callable[[SocketIOServer], Wire]


@pytest.fixture
def wire(host: Host) -> Iterator[Open]:
    """Serves a server and opens a WebSocket to it."""
    with ExitStack() as stack:

        def open_wire(sio: SocketIOServer) -> Wire:
            wire = Wire(host(sio).port)
            stack.callback(wire.connection.shutdown)
            return wire

        yield open_wire


def left_behind(sio: SocketIOServer) -> list[Any]:
    """What a server holds of clients."""
    manager = sio.manager
    rooms = [dict(members) for of_namespace in manager.rooms.values() for members in of_namespace.values()]
    callbacks, pending = manager.callbacks, [sid for sids in manager.pending_disconnect.values() for sid in sids]
    held = (sio.eio.sockets, sio.environ, sio.arrivals, *rooms, manager.others, callbacks, pending)
    return [part for part in held if part]


def test_a_server_that_is_to_log_says_what_comes_and_goes(
    wire: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for name in ("socketio.server", "engineio.server"):  # the first server of a process decides
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", [])
        request.addfinalizer(partial(logger.setLevel, logger.level))
        logger.setLevel(logging.NOTSET)
    sio = SocketIOServer(logger=True, engineio_logger=True)
    sio.on("ask", lambda sid: sio.emit("told", to=sid))
    client = wire(sio)
    sid = client.join()["sid"]
    client.send('421["ask"]')
    assert {client.receive(), client.receive()} == {"431[]", '42["told"]'}
    log_with(caplog, f'received event "ask" from {sid} [/]')
    log_with(caplog, f'emitting event "told" to {sid} [/]')


# ---- which one

PLACES = [("/one", "event"), ("/one", "*"), ("*", "event"), ("*", "*"), "class /one", "class *"]
"""Those that come first are asked first."""


@pytest.mark.parametrize("first", range(len(PLACES)), ids=map(str, PLACES))
def test_the_nearest_handler_is_called_with_what_its_place_leaves_open(wire: Open, first: int) -> None:
    sio = SocketIOServer(namespaces="*")

    class Every(socketio.Namespace):  # type: ignore[misc]
        def trigger_event(self, event: str, *args: Any) -> Any:
            return [f"class {self.namespace}", event, *args]

    for place in PLACES[first:]:
        if isinstance(place, str):
            sio.register_namespace(Every(place.removeprefix("class ")))
        else:
            namespace, event = place
            sio.on(event, lambda *args, place=place: [list(place), *args], namespace=namespace)
    client = wire(sio)
    sid = client.join("/one")["sid"]
    client.send('42/one,7["event","data"]')
    place = PLACES[first]
    if isinstance(place, str):
        expected = [place, "event", *(["/one"] if place == "class *" else []), sid, "data"]
    else:
        namespace, event = place
        expected = [
            list(place),
            *(["event"] if event == "*" else []),
            *(["/one"] if namespace == "*" else []),
            sid,
            "data",
        ]
    assert client.receive() == f"43/one,7{sio.packet_class.json.dumps([expected], separators=(',', ':'))}"


def test_connect_and_disconnect_never_go_to_a_handler_of_all_events(wire: Open) -> None:
    sio, log = SocketIOServer(namespaces="*"), []
    for namespace in ("/", "*"):
        sio.on("*", lambda *args: log.append(args), namespace=namespace)
    sio.on("disconnect", lambda namespace, sid, reason: log.append((namespace, reason)), namespace="*")
    client = wire(sio)
    client.join()
    client.join("/two")
    client.send("41/two,", "41")
    eventually(lambda: len(log) == 2, "both are told")
    assert log == [("/two", "client disconnect"), ("/", "client disconnect")]


# ---- the answer


def test_an_event_that_nobody_handles_is_not_acknowledged(wire: Open) -> None:
    sio = SocketIOServer()
    sio.on("known", lambda sid: None)
    client = wire(sio)
    client.join()
    client.send('421["unknown"]', '422["known"]')
    assert client.receive() == "432[]"


def test_a_server_whose_handlers_run_one_by_one_refuses_to_wait_for_an_answer() -> None:
    with pytest.raises(RuntimeError, match="async_handlers"):
        SocketIOServer(async_handlers=False).call("event", to="somebody")


def test_a_call_needs_somebody_to_answer() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        SocketIOServer().call("event")


# ---- connect and disconnect

KINDS = ["function", "method", "class", "everywhere", "partial", "decorated"]


@pytest.mark.parametrize("auth", ["", '{"a":1}'])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [2, 3])
def test_a_connect_handler_may_leave_out_auth(wire: Open, kind: str, auth: str, number: int) -> None:
    sio, log = SocketIOServer(namespaces="*"), []
    _register(sio, "connect", kind, number, lambda *args: log.append(args))
    client = wire(sio)
    sid = client.join("", auth)["sid"]
    assert len(log) == 1 and log[0][0] == sid and log[0][1]["PATH_INFO"] == "/socket.io/"
    assert log[0][2:] == (() if number == 2 else ({"a": 1} if auth else None,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_disconnect_handler_may_leave_out_the_reason(wire: Open, kind: str, number: int) -> None:
    sio, log = SocketIOServer(namespaces="*"), []
    _register(sio, "disconnect", kind, number, lambda *args: log.append(args))
    client = wire(sio)
    sid = client.join()["sid"]
    client.send("41")
    eventually(lambda: log, "it is told")
    assert log == [(sid, "client disconnect")[:number]]


def _register(sio: SocketIOServer, event: str, kind: str, number: int, note: Callable[..., None]) -> None:
    """Registers a handler of a kind that takes so many arguments (and self or the namespace)."""
    names = ["a", "b", "c"][:number]
    arguments = ", ".join(names)
    scope: dict[str, Any] = {"note": note, "Namespace": socketio.Namespace}
    exec(
        f"def function({arguments}): note({arguments})\n"
        f"class Holder:\n    def on_{event}(self, {arguments}): note({arguments})\n"
        f"class Class(Holder, Namespace): pass\n"
        f"def everywhere(namespace, {arguments}): note({arguments})\n"
        "from functools import partial as make\n"
        "partial = make(everywhere, '/')\n"
        "def decorated(*args): return function(*args)\n",
        scope,
    )
    if kind == "class":
        sio.register_namespace(scope["Class"]("/"))
    elif kind == "method":
        sio.on(event, getattr(scope["Holder"](), f"on_{event}"))
    else:
        sio.on(event, scope[kind], namespace="*" if kind == "everywhere" else "/")


@pytest.mark.parametrize("kind", ["function", "class", "decorated"])
@pytest.mark.parametrize("event", ["connect", "disconnect"])
def test_a_handler_that_raises_typeerror_is_called_once_and_nothing_is_left(
    wire: Open, kind: str, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    sio, calls = SocketIOServer(), []

    def note(*args: Any) -> None:
        calls.append(args)
        raise TypeError("of its own")

    _register(sio, event, kind, {"connect": 3, "disconnect": 2}[event], note)
    client = wire(sio)
    client.send("40")
    if event == "connect":
        assert client.receive() == '44{"message":"Connection refused by server"}'
    else:
        assert client.receive().startswith("40{")
        client.send("41")
        eventually(lambda: calls, "it is called")
    client.send("1")
    assert client.is_closed()
    eventually(lambda: not left_behind(sio), "nothing is left")
    assert len(calls) == 1
    assert "of its own" in log_with(caplog, f"{event} handler error")


@pytest.mark.parametrize("how", ["client", "server", "gone"])
def test_a_disconnect_handler_finds_what_was_kept_of_its_client_and_then_it_is_gone(wire: Open, how: str) -> None:
    sio, found = SocketIOServer(), []

    def leave(sid: str, reason: str) -> None:
        environ = sio.get_environ(sid)
        found.append((sio.get_session(sid)["name"], "red" in sio.rooms(sid), environ["REQUEST_METHOD"], reason))
        sio.emit("too late", to=sid)
        raise RuntimeError("on purpose")

    sio.on("connect", lambda sid, environ: sio.save_session(sid, {"name": "ann"}) or sio.enter_room(sid, "red"))
    sio.on("disconnect", leave)
    sio.on("kick", lambda sid: sio.disconnect(sid))
    client = wire(sio)
    client.join()
    if how == "client":
        client.send("41", "1")
    elif how == "server":
        client.send('42["kick"]')
        assert client.receive() == "41"
        client.send("1")
    else:
        client.connection.shutdown()
    eventually(lambda: found and not left_behind(sio), "nothing is left")
    reason = {"client": "client disconnect", "server": "server disconnect", "gone": "transport close"}[how]
    assert found == [("ann", True, "GET", reason)]
