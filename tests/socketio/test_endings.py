"""Clients that end, or are ended, while something of theirs is under way: nothing is left of them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from greenlet import GreenletExit
from socketio.packet import Packet

from streamserve.core import lib
from streamserve.engine.admission import Admission
from streamserve.engine.manager import MOST_CALLBACKS
from streamserve.loop.timeout import Timeout
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import Open, left_behind, wire
from tests.socketio.test_protocol import Wire
from tests.support.server import eventually

__all__ = ["wire"]


@pytest.mark.parametrize("always_connect", [False, True])
@pytest.mark.parametrize("answer", [None, False])
def test_who_is_gone_when_its_connect_handler_returns_leaves_again(
    wire: Open, always_connect: bool, answer: bool | None
) -> None:
    sio, gate, log = SocketIOServer(always_connect=always_connect), Event(), []

    def connect(sid: str, environ: Any) -> bool | None:
        log.append("connect")
        sio.enter_room(sid, "red")
        gate.wait()
        return answer

    sio.on("connect", connect)
    sio.on("disconnect", lambda sid, reason: log.append((reason, "red" in sio.rooms(sid))))
    client = wire(sio)
    client.send("40")
    eventually(lambda: log == ["connect"], "the handler waits")
    (eio_sid,) = sio.eio.sockets
    sio.eio.in_loop(sio.start_background_task, sio.eio.disconnect, eio_sid)
    eventually(lambda: eio_sid not in sio.eio.sockets, "the session has ended")
    sio.eio.in_loop(gate.set)
    eventually(lambda: not left_behind(sio), "nothing is left")
    joined = always_connect or answer is None
    assert log == ["connect", *([("server disconnect", True)] if joined else [])]


def test_a_connect_handler_may_end_its_client(wire: Open) -> None:
    sio, reasons = SocketIOServer(), []
    sio.on("connect", lambda sid, environ: sio.eio.disconnect(sio.manager.eio_sid_from_sid(sid, "/")))
    sio.on("disconnect", lambda sid, reason: reasons.append(reason))
    client = wire(sio)
    client.send("40")
    assert client.receive() == "1" and client.is_closed()
    eventually(lambda: reasons and not left_behind(sio), "nothing is left")
    assert reasons == ["server disconnect"]


def test_who_is_about_to_end_joins_nothing_more(wire: Open) -> None:
    sio, gate, log = SocketIOServer(namespaces="*"), Event(), []
    sio.on("disconnect", lambda sid, reason: log.append("disconnect") or gate.wait())
    sio.on("connect", lambda sid, environ: log.append("connect"), namespace="/late")
    client = wire(sio)
    client.join()
    (session,) = sio.eio.sockets.values()
    sio.eio.in_loop(sio.start_background_task, session.close)
    eventually(lambda: log == ["disconnect"], "its disconnect handler waits")
    client.send("40/late,")
    client.connection.send_close(lib.SS_WS_NORMAL)
    eventually(lambda: session._inbox is None and session.handle >= 0, "it is still there")
    sio.eio.in_loop(gate.set)
    eventually(lambda: not left_behind(sio), "nothing is left")
    assert log == ["disconnect"]


def test_an_event_whose_attachment_never_comes_is_forgotten_with_its_client(wire: Open) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("disconnect", lambda sid, reason: log.append(reason) or gate.wait())
    sio.on("kick", lambda sid: sio.disconnect(sid))
    client = wire(sio)
    client.join()
    client.send('42["kick"]', '451-["event",{"_placeholder":true,"num":0}]')
    eventually(lambda: sio._binary_packet and log, "it waits for its attachment")
    client.connection.shutdown()
    eventually(lambda: not sio.eio.sockets, "the client is gone")
    assert not sio._binary_packet
    sio.eio.in_loop(gate.set)
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_no_acknowledgement_takes_away_the_numbers_of_others(wire: Open) -> None:
    sio, answers = SocketIOServer(), []
    sio.on("ask", lambda sid: sio.emit("question", to=sid, callback=lambda *data: answers.append(data)))
    client = wire(sio)
    client.join()
    for number in (1, 2):
        client.send("430[]", '42["ask"]')
        assert client.receive() == f'42{number}["question"]'
        client.send(f"43{number}[{number}]")
    eventually(lambda: answers == [(1,), (2,)], "both are answered")


def test_the_callbacks_of_one_that_never_answers_are_bounded_and_go_with_it(
    wire: Open, caplog: pytest.LogCaptureFixture
) -> None:
    sio, answers, more = SocketIOServer(), [], 5
    sio.on("flood", lambda sid, count: [sio.emit("?", to=sid, callback=answers.append) for _ in range(count)] and None)
    client = wire(sio)
    sid = client.join()["sid"]
    client.send(f'421["flood",{MOST_CALLBACKS + more}]')
    while (message := client.receive()) != "431[]":
        last = message
    assert last == f'42{MOST_CALLBACKS + more}["?"]'
    assert len(sio.manager.callbacks[sid]) == MOST_CALLBACKS + 1  # and the counter
    assert [f"left {MOST_CALLBACKS} events" in line for line in caplog.messages] == [True]
    client.send(f'43{more}["too late"]', f'43{more + 1}["in time"]', f'43{MOST_CALLBACKS}["in time"]')
    eventually(lambda: len(answers) == 2, "those that are kept are called")
    assert answers == ["in time"] * 2
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio), "nothing is left")


@pytest.mark.parametrize("error", [SystemExit(), GreenletExit()])
@pytest.mark.parametrize("kicked", [False, True])
def test_a_disconnect_handler_that_is_ended_leaves_nothing_and_the_others_are_called(
    wire: Open, error: BaseException, kicked: bool
) -> None:
    sio, log = SocketIOServer(), []

    def disconnect(sid: str, reason: str) -> None:
        log.append("/")
        raise error

    def kick(sid: str) -> None:
        with suppress(GreenletExit, SystemExit):
            sio.disconnect(sid)

    sio.on("disconnect", disconnect)
    sio.on("disconnect", lambda sid, reason: log.append("/other"), namespace="/other")
    sio.on("kick", kick)
    client = wire(sio)
    client.join()
    client.join("/other")
    if kicked:
        client.send('42["kick"]')
        assert client.receive() == "41"
        eventually(lambda: list(sio.manager.rooms) == ["/other"], "it has left the namespace")
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio), "nothing is left")
    assert log == ["/", "/other"]


@pytest.mark.parametrize("packet", ["40/slow,", '42["slow"]'])
def test_a_handler_goes_on_when_the_connection_of_its_post_is_lost(host: Host, packet: str) -> None:
    sio, gate, log = SocketIOServer(), Event(), []

    def slow(sid: str, *_: Any) -> None:
        log.append("begun")
        try:
            gate.wait()
            log.append("done")
        except BaseException as error:
            log.append(error)
            raise

    sio.on("connect", slow, namespace="/slow")
    sio.on("slow", slow)
    server = host(sio)
    url = f"http://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    assert requests.post(url, data="40", timeout=60).text == "ok"
    client = server.client()
    head = f"POST {url.partition(str(server.port))[2]} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(packet)}\r\n\r\n"
    client.send(f"{head}{packet}".encode())
    eventually(lambda: log, "the handler runs")
    client.reset()
    time.sleep(0.1)
    server.call(gate.set)
    eventually(lambda: log == ["begun", "done"], "the handler goes on")


def test_what_a_native_thread_adds_while_a_client_is_answered_is_not_lost() -> None:
    admission, begun = Admission(Packet, 1000, lambda eio_sid: None), threading.Event()
    admission.begin("client", "/")

    def slowly() -> Iterator[str]:
        yield '42["first"]'
        begun.set()
        time.sleep(0.05)  # the answer would leave now
        yield '42["second"]'

    thread = threading.Thread(target=admission.keeps, args=("client", "/", slowly()))
    thread.start()
    begun.wait(60)
    assert [*admission.end("client", "/")] == ['42["first"]', '42["second"]']
    thread.join(60)
    assert not admission.keeps("client", "/", ["sent at once"])


@pytest.mark.parametrize("error", [Timeout(), RuntimeError()])
@pytest.mark.parametrize("kicked", [False, True])
def test_a_disconnect_handler_that_fails_leaves_nothing(wire: Open, error: BaseException, kicked: bool) -> None:
    sio = SocketIOServer(namespaces=["/", "/other"])

    def disconnect(sid: str, reason: str) -> None:
        raise error

    sio.on("disconnect", disconnect)
    sio.on("connect", lambda sid, environ: sio.enter_room(sid, "red"))
    sio.on("kick", lambda sid: sio.disconnect(sid))
    client = wire(sio)
    client.join()
    client.join("/other")
    if kicked:
        client.send('42["kick"]')
        assert client.receive() == "41"
        eventually(lambda: list(sio.manager.rooms) == ["/other"], "it has left the namespace")
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_who_comes_while_all_are_disconnected_stays(wire: Open) -> None:
    sio, gate, log = SocketIOServer(), Event(), []
    sio.on("disconnect", lambda sid, reason: log.append(reason) or gate.wait())
    client = wire(sio)
    client.join()
    sio.eio.in_loop(sio.start_background_task, sio.eio.disconnect)
    eventually(lambda: log == ["server disconnect"], "the handler waits")
    other = Wire(client.connection.sock.getpeername()[1])
    other.join()
    sio.eio.in_loop(gate.set)
    assert client.receive() == "1" and client.is_closed()
    eventually(lambda: len(sio.manager.rooms["/"][None]) == 1, "the first has left")
    sio.emit("still")
    other.connection.settimeout(5)
    assert other.receive() == '42["still"]'
    other.connection.shutdown()
