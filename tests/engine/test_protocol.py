"""Engine.IO 4 on the wire: what Node's server answers, this one does (github.com/socketio/engine.io-protocol)."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import websocket

from streamserve.engine.server import EngineServer
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve


class Site:
    """An engine that echoes, served; its log has what its handlers were told.

    Args:
        settings: of the server below it.
        options: of the engine.
    """

    def __init__(self, serve: Serve, stack: ExitStack, settings: dict[str, Any] | None = None, **options: Any) -> None:
        self.engine = engine = EngineServer(**{"ping_interval": 300, "ping_timeout": 200, **options})
        self.log: list[tuple[Any, ...]] = []
        engine.on("connect", lambda sid, environ: self.log.append(("connect", sid)))
        engine.on("disconnect", lambda sid, reason: self.log.append(("disconnect", sid, reason)))
        engine.on("message", self._echo)
        self.server: Running = serve(engine.handle_request, websocket_origins="*", **(settings or {}))
        self.stack = stack
        self.base = f"127.0.0.1:{self.server.port}/engine.io/?EIO=4"

    def _echo(self, sid: str, data: Any) -> None:
        self.log.append(("message", sid, data))
        self.engine.send(sid, data)

    def url(self, rest: str) -> str:
        return f"http://{self.base}&{rest}"

    def get(self, rest: str, **options: Any) -> requests.Response:
        return requests.get(self.url(rest), timeout=60, **options)

    def post(self, sid: str, body: str | bytes, **options: Any) -> requests.Response:
        return requests.post(self.url(f"transport=polling&sid={sid}"), data=body, timeout=60, **options)

    def open(self) -> str:
        """A new session by polling; returns its sid."""
        sid: str = json.loads(self.get("transport=polling").text[1:])["sid"]
        return sid

    def poll(self, sid: str) -> requests.Response:
        return self.get(f"transport=polling&sid={sid}")

    def websocket(self, rest: str = "") -> websocket.WebSocket:
        client = websocket.create_connection(f"ws://{self.base}&transport=websocket{rest}", timeout=60)
        self.stack.callback(client.shutdown)
        return client

    def in_background(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Calls it in a thread; returns what waits for its result."""
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(function()))
        thread.start()

        def joined() -> Any:
            thread.join(60)
            return result[0]

        return joined

    def until_polls(self, sid: str) -> None:
        eventually(lambda: self.engine.sockets[sid].polling.waiter is not None, "a poll waits")

    def until_ended(self, sid: str, reason: str) -> None:
        eventually(lambda: ("disconnect", sid, reason) in self.log, f"the session ends by {reason}")


@pytest.fixture
def make(serve: Serve) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        yield lambda *settings, **options: Site(serve, stack, *settings, **options)


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


# ---- handshake


def test_polling_opens_a_session(site: Site) -> None:
    response = site.get("transport=polling")
    assert response.status_code == 200 and response.text[0] == "0"
    data = json.loads(response.text[1:])
    assert data.pop("sid") in site.engine.sockets
    assert data == {"upgrades": ["websocket"], "pingInterval": 300_000, "pingTimeout": 200_000, "maxPayload": 1_000_000}


def test_intervals_below_a_second_are_told_as_they_are(make: Callable[..., Site]) -> None:
    data = json.loads(make(ping_interval=0.3, ping_timeout=0.2).get("transport=polling").text[1:])
    assert (data["pingInterval"], data["pingTimeout"]) == (300, 200)


def test_websocket_opens_a_session(site: Site) -> None:
    client = site.websocket()
    message = client.recv()
    assert message[0] == "0"
    assert json.loads(message[1:])["upgrades"] == []


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "transport=polling", 5),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling&sid=nobody", 1),
        ("GET", "EIO=4&transport=polling&j=abc", 3),
    ],
)
def test_what_is_no_handshake_is_refused_with_code_and_message(site: Site, method: str, query: str, code: int) -> None:
    response = requests.request(method, f"http://127.0.0.1:{site.server.port}/engine.io/?{query}", timeout=60)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()["code"] == code and set(response.json()) == {"code", "message"}
    assert site.engine.sockets == {}


@pytest.mark.parametrize(
    "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
)
def test_a_websocket_that_is_no_handshake_is_refused(site: Site, query: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
        websocket.create_connection(f"ws://127.0.0.1:{site.server.port}/engine.io/?{query}", timeout=60)
    assert site.engine.sockets == {}


def test_put_of_a_session_is_refused_and_leaves_it_alone(site: Site) -> None:
    sid = site.open()
    response = requests.put(site.url(f"transport=polling&sid={sid}"), data="4a", timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, 3)
    assert site.post(sid, "4a").text == "ok"


def test_an_origin_that_may_not_is_forbidden(site: Site) -> None:
    response = site.get("transport=polling", headers={"Origin": "https://evil.example"})
    assert (response.status_code, response.json()) == (403, {"code": 4, "message": "Forbidden"})


def test_a_connect_handler_may_refuse(site: Site) -> None:
    site.engine.on("connect", lambda sid, environ: False)
    assert site.get("transport=polling").status_code == 401
    with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
        site.websocket()
    assert site.engine.sockets == {}


def test_a_cookie_names_the_session(make: Callable[..., Site]) -> None:
    response = make(cookie="io").get("transport=polling")
    assert response.cookies["io"] == json.loads(response.text[1:])["sid"]


# ---- polling


def test_messages_go_both_ways_by_polling(site: Site) -> None:
    sid = site.open()
    posted = site.post(sid, "4hello\x1e4grüße".encode())
    assert (posted.status_code, posted.text) == (200, "ok")
    assert site.poll(sid).text == "4hello\x1e4grüße"
    assert site.post(sid, "bAQIDBA==").text == "ok"
    assert site.poll(sid).text == "bAQIDBA=="


def test_a_body_may_have_as_many_packets_as_its_bytes_allow(site: Site) -> None:
    sid = site.open()
    assert site.post(sid, "\x1e".join(f"4{number}" for number in range(1000))).text == "ok"
    heard: list[str] = []
    while len(heard) < 1000:
        packets = site.poll(sid).text.split("\x1e")
        assert len(packets) <= 16, "clients of python-engineio refuse more"
        heard += packets
    assert heard == [f"4{number}" for number in range(1000)]


def test_a_poll_waits_for_a_message(site: Site) -> None:
    sid = site.open()
    answer = site.in_background(lambda: site.poll(sid).text)
    site.until_polls(sid)
    site.server.call(site.engine.send, sid, "pushed")
    assert answer() == "4pushed"


def test_a_message_from_another_native_thread_is_pushed(site: Site) -> None:
    sid = site.open()
    answer = site.in_background(lambda: site.poll(sid).text)
    site.until_polls(sid)
    site.engine.send(sid, "pushed")
    assert answer() == "4pushed"


@pytest.mark.parametrize("body", ["abc", "", "4a\x1e", "7", "bnot base64", b"4\xff", "0{}"])
def test_an_invalid_packet_is_refused_and_ends_the_session(site: Site, body: str | bytes) -> None:
    sid = site.open()
    response = site.post(sid, body)
    assert (response.status_code, response.json()["code"]) == (400, 3)
    site.until_ended(sid, "transport error")
    assert site.poll(sid).status_code == 400


def test_a_body_over_the_limit_is_refused(make: Callable[..., Site]) -> None:
    site = make(max_http_buffer_size=100)
    sid = site.open()
    assert site.post(sid, "4" + "x" * 100).status_code == 413
    assert site.post(sid, iter([b"4", b"x" * 100])).status_code == 413
    assert site.post(sid, "4" + "x" * 99).text == "ok"


def test_a_second_poll_ends_the_session_and_both_are_told(site: Site) -> None:
    sid = site.open()
    first = site.in_background(lambda: site.poll(sid).text)
    site.until_polls(sid)
    assert site.poll(sid).status_code == 400
    assert first() == "1"
    site.until_ended(sid, "transport error")


def test_a_poll_that_waits_is_answered_when_the_client_closes(site: Site) -> None:
    sid = site.open()
    waiting = site.in_background(lambda: site.poll(sid))
    site.until_polls(sid)
    assert site.post(sid, "1").text == "ok"
    assert (waiting().status_code, waiting().text) == (200, "6")
    site.until_ended(sid, "client disconnect")


def test_a_poll_whose_client_hangs_up_ends_the_session(site: Site) -> None:
    sid = site.open()
    client = site.server.client()
    client.send(f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    site.until_polls(sid)
    client.close()
    site.until_ended(sid, "transport error")
    assert site.poll(sid).json() == {"code": 1, "message": "Session ID unknown"}


def test_a_poll_whose_client_stays_does_not_end_the_session_for_it_later(site: Site) -> None:
    sid = site.open()
    client = site.server.client()
    poll = f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for text in ("first", "second"):
        client.send(poll)
        site.until_polls(sid)
        site.engine.send(sid, text)
        assert client.response().body == f"4{text}".encode()
    client.close()
    assert site.post(sid, "4still here").text == "ok"
    assert site.poll(sid).text == "4still here"


def test_jsonp_goes_both_ways(site: Site) -> None:
    opened = site.get("transport=polling&j=0").text
    assert opened.startswith("___eio[0](")
    sid = json.loads(json.loads(opened[opened.index("(") + 1 : opened.rindex(")")])[1:])["sid"]
    posted = requests.post(site.url(f"transport=polling&j=0&sid={sid}"), data={"d": "4a\\nb"}, timeout=60)
    assert posted.text == "ok"
    assert site.get(f"transport=polling&j=1&sid={sid}").text.startswith('___eio[1]("4a')


def test_large_answers_are_compressed(site: Site) -> None:
    sid = site.open()
    site.post(sid, "4" + "x" * 5000)
    response = site.get(f"transport=polling&sid={sid}", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip" and response.text == "4" + "x" * 5000


# ---- WebSocket


def test_messages_go_both_ways_by_websocket(site: Site) -> None:
    client = site.websocket()
    client.recv()
    client.send("4hello")
    assert client.recv() == "4hello"
    client.send_binary(b"\x01\x02")
    assert client.recv() == b"\x01\x02"


def test_no_greenlet_is_held_for_a_client(site: Site) -> None:
    clients = [site.websocket() for _ in range(5)]
    for client in clients:
        client.recv()
    eventually(lambda: site.server.server.active == 0, "no request runs")


@pytest.mark.parametrize("message", ["abc", "", "0", "7x"])
def test_a_websocket_message_that_is_no_packet_ends_the_session(site: Site, message: str) -> None:
    client = site.websocket()
    sid = json.loads(client.recv()[1:])["sid"]
    client.send(message)
    assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    site.until_ended(sid, "transport error")


def test_a_websocket_message_over_the_limit_ends_the_session(make: Callable[..., Site]) -> None:
    site = make(max_http_buffer_size=100)
    client = site.websocket()
    client.recv()
    client.send("4" + "x" * 100)
    assert client.recv_data() == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xf1")


def test_a_client_that_closes_is_told_of(site: Site) -> None:
    client = site.websocket()
    sid = json.loads(client.recv()[1:])["sid"]
    client.send("1")
    assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    site.until_ended(sid, "client disconnect")
    other = site.websocket()
    sid = json.loads(other.recv()[1:])["sid"]
    other.close()
    site.until_ended(sid, "transport close")


def test_the_server_may_close(site: Site) -> None:
    client = site.websocket()
    sid = json.loads(client.recv()[1:])["sid"]
    site.server.spawn(site.engine.disconnect, sid).result(60)
    assert client.recv() == "1"
    assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    assert ("disconnect", sid, "server disconnect") in site.log


# ---- the change of transport


def test_polling_changes_to_websocket_and_loses_nothing(site: Site) -> None:
    sid = site.open()
    waiting = site.in_background(lambda: site.poll(sid).text)
    site.until_polls(sid)
    client = site.websocket(f"&sid={sid}")
    client.send("2probe")
    assert client.recv() == "3probe"
    assert waiting() == "6"
    site.server.call(site.engine.send, sid, "in between")
    client.send("5")
    assert client.recv() == "4in between"
    client.send("4after")
    assert client.recv() == "4after"
    assert site.engine.transport(sid) == "websocket"


def test_after_the_change_polling_is_refused_and_changes_nothing(site: Site) -> None:
    sid = site.open()
    client = site.websocket(f"&sid={sid}")
    client.send("2probe")
    client.recv()
    client.send("5")
    eventually(lambda: site.engine.sockets[sid].upgraded, "it has changed")
    assert site.poll(sid).status_code == 400
    with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
        site.websocket(f"&sid={sid}")
    client.send("4still")
    assert client.recv() == "4still"


def test_a_probe_that_fails_leaves_polling_as_it_was(site: Site) -> None:
    sid = site.open()
    for attempt in ("3probe", "5", None):
        client = site.websocket(f"&sid={sid}")
        if attempt is None:
            client.shutdown()
        else:
            client.send(attempt)
            assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
        eventually(lambda: not site.engine.sockets[sid].upgrading, "the probe is over")
    assert site.post(sid, "4here").text == "ok"
    assert site.poll(sid).text == "4here"


def test_a_poll_that_begins_during_the_change_is_ended_soon(site: Site) -> None:
    sid = site.open()
    client = site.websocket(f"&sid={sid}")
    client.send("2probe")
    client.recv()
    assert site.poll(sid).text == "6"


def test_a_poll_that_began_before_the_probe_is_ended_by_it(site: Site) -> None:
    sid = site.open()
    client = site.websocket(f"&sid={sid}")
    waiting = site.in_background(lambda: site.poll(sid).text)
    site.until_polls(sid)
    client.send("2probe")
    assert client.recv() == "3probe"
    assert waiting() == "6"
    client.send("5")
    client.send("4here")
    assert client.recv() == "4here"


# ---- heartbeat


def test_a_client_that_answers_stays(make: Callable[..., Site]) -> None:
    site = make(ping_interval=0.05, ping_timeout=30)
    client = site.websocket()
    client.recv()
    for _ in range(3):
        assert client.recv() == "2"
        client.send("3")
    sid = site.open()
    for _ in range(3):
        assert site.poll(sid).text == "2"
        assert site.post(sid, "3").text == "ok"


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_client_that_does_not_answer_is_given_up(make: Callable[..., Site], transport: str) -> None:
    site = make(ping_interval=0.02, ping_timeout=0.02)
    sid = site.open() if transport == "polling" else json.loads(site.websocket().recv()[1:])["sid"]
    site.until_ended(sid, "ping timeout")
    assert sid not in site.engine.sockets


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_who_is_silent_is_given_up_when_its_time_is_over(make: Callable[..., Site], transport: str) -> None:
    site = make(ping_interval=0.4, ping_timeout=0.3)
    ended: queue.Queue[float] = queue.Queue()
    site.engine.on("disconnect", lambda sid, reason: ended.put(time.monotonic()))

    def given_up_after() -> float:
        begun = time.monotonic()
        client = site.open() if transport == "polling" else site.websocket()
        seconds = ended.get(timeout=60) - begun
        assert seconds >= 0.7, client
        return seconds

    assert any(given_up_after() < 1.4 for _ in range(5))  # python-engineio looks at all of them once a round


def test_a_poll_that_waits_does_not_hold_up_a_stop(make: Callable[..., Site]) -> None:
    site = make(ping_interval=300)
    sid = site.open()
    answer = site.in_background(lambda: site.poll(sid))
    site.until_polls(sid)
    stopped = site.server.stop(3600)
    assert answer().text == "6"
    assert stopped.result(60) == 0
