"""What a client that polls posts while its events wait until more may begin; it sends one POST at a time."""

from base64 import b64encode
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
import requests
import websocket

from streamserve.loop.joining import sleep
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from streamserve.websocket.inbox import LIMIT
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import left_behind
from tests.socketio.test_in_flight import ACKS, Desk, Posting, Said, asking, polling
from tests.support.server import eventually


def post(url: str, *packets: str) -> str:
    return requests.post(url, data="\x1e".join(packets), timeout=20).text


def encoded(parts: Said) -> list[str]:
    return [part if isinstance(part, str) else "b" + b64encode(part).decode() for part in parts]


def asked(host: Host, **options: Any) -> tuple[SocketIOServer, str, list[Any], list[Any]]:
    """A client whose one handler has asked it something."""
    sio, answers = asking(**options)
    began: list[Any] = []
    sio.on("wait", lambda sid, number: began.append(number))
    url = polling(host(sio))
    assert post(url, '42["ask"]') == "ok"
    assert requests.get(url, timeout=20).text == '421["question"]'
    return sio, url, answers, began


@pytest.mark.parametrize("ack", ACKS.values(), ids=list(ACKS))
@pytest.mark.parametrize("at_once", [True, False], ids=["one POST", "a POST for each part"])
def test_an_answer_comes_through_behind_events_that_wait(host: Host, ack: Said, at_once: bool) -> None:
    sio, url, answers, began = asked(host)
    (session,) = sio.eio.sockets.values()
    assert post(url, '42["wait",0]', '42["wait",1]') == "ok"
    eventually(lambda: session.crowd, "an event waits")
    for body in [encoded(ack)] if at_once else [[part] for part in encoded(ack)]:
        assert not answers and not began
        assert post(url, *body) == "ok"
    eventually(lambda: answers and began == [0, 1], "it is answered, and the others begin")
    eventually(lambda: session.room == 1 and not session.polling.posts.later, "nothing waits")
    assert session.begun_answer is None
    assert post(url, '42["wait",2]') == "ok"
    eventually(lambda: began == [0, 1, 2], "it goes on")


@pytest.mark.parametrize("ack", ACKS.values(), ids=list(ACKS))
def test_an_answer_comes_through_behind_an_event_of_the_same_post(host: Host, ack: Said) -> None:
    _, url, answers, began = asked(host)
    assert post(url, '42["wait",0]', *encoded(ack), '42["wait",1]') == "ok"
    eventually(lambda: answers and began == [0, 1], "it is answered, and the others begin")


def test_answers_in_messagepack_come_through(host: Host) -> None:
    sio, answers = asking(serializer="msgpack")

    def packed(**fields: Any) -> str:
        return "b" + b64encode(msgpack.dumps({"nsp": "/", **fields})).decode()

    url = polling(host(sio), packed(type=0), "b")
    assert post(url, packed(type=2, data=["ask"]), packed(type=2, data=["ask"])) == "ok"
    for number in (1, 2):
        assert requests.get(url, timeout=20).text[0] == "b"
        assert post(url, packed(type=3, id=number, data=[number])) == "ok"
    eventually(lambda: answers == [1, 2], "both are answered")


def test_a_sign_of_life_comes_through(host: Host) -> None:
    desk = Desk()
    server = host(desk.sio)
    url = polling(server)
    (session,) = desk.sio.eio.sockets.values()
    with ExitStack() as stack:
        stack.callback(desk.open)
        for _ in range(2):
            assert post(url, *['42["wait",0]'] * 20) == "ok"
        server.call(session.polling.fire)
        assert requests.get(url, timeout=20).text == "2" and session.polling._asked
        assert post(url, "3") == "ok"
        assert not session.polling._asked and session.crowd


def test_who_says_that_it_goes_is_seen_to_go(host: Host) -> None:
    sio, ended = SocketIOServer(max_events=1), []

    def wait(sid: str, number: int) -> None:
        while sio.manager.is_connected(sid, "/"):
            sleep(0.01)
        ended.append(number)

    sio.on("wait", wait)
    url = polling(host(sio))
    assert post(url, '42["wait",0]', '42["wait",1]') == "ok"
    assert post(url, "1") == "ok"
    eventually(lambda: ended and not left_behind(sio), "nothing is left")


def test_what_waits_is_bounded_by_posts_that_wait_for_their_answer(host: Host) -> None:
    desk = Desk()
    url = polling(host(desk.sio))
    (session,) = desk.sio.eio.sockets.values()
    with ExitStack() as stack:
        stack.callback(desk.open)
        body = [f'42["wait",{number},"{"x" * 9000}"]' for number in range(100)]
        assert post(url, *body) == "ok"
        posting = Posting(url, body)
        eventually(lambda: session.polling.posts.count == 1, "it has come")
        assert sum(map(len, session.polling.posts.later)) < LIMIT and not posting.answers
    posting.join(60)
    assert posting.answers == ["ok"]
    eventually(lambda: desk.began == [*range(100)] * 2, "all have begun, in order")


def test_what_is_no_packet_ends_its_client_also_when_its_post_is_answered(host: Host) -> None:
    desk = Desk()
    url = polling(host(desk.sio))
    (session,) = desk.sio.eio.sockets.values()
    assert post(url, *['42["wait",0]'] * 21, "4x", '42["wait",1]') == "ok"
    assert not session.ended
    desk.open()
    eventually(lambda: session.ended and not left_behind(desk.sio), "nothing is left")
    assert desk.began == [0] * 21


def test_what_was_posted_comes_before_what_a_websocket_brings(host: Host) -> None:
    sio, gate, began = SocketIOServer(max_events=1), Event(), []
    sio.on("first", lambda sid: gate.wait())
    sio.on("wait", lambda sid, number: (began.append(number), sleep(0)))
    url = polling(host(sio))
    with ExitStack() as stack:
        stack.callback(lambda: sio.eio.in_loop(gate.set))
        assert post(url, '42["first"]', *[f'42["wait",{number}]' for number in range(5)]) == "ok"
        client = websocket.create_connection(url.replace("http", "ws").replace("polling", "websocket"), timeout=20)
        stack.callback(client.shutdown)
        client.send("2probe")
        assert client.recv() == "3probe"
        client.send("5")
        for number in range(5, 10):
            client.send(f'42["wait",{number}]')
        (session,) = sio.eio.sockets.values()
        eventually(lambda: session._inbox is not None and len(session._inbox) == 5, "all have come")
        assert not began
        sio.eio.in_loop(gate.set)
        eventually(lambda: began == [*range(10)], "all have begun, in order")
        eventually(lambda: session.room == 1 and session._inbox is None, "nothing waits")
