"""The options of an engine: origins, cookies, compression, transports, as python-engineio's documentation has them."""

import json
import math
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import requests
import websocket

from streamserve.engine.server import EngineServer
from streamserve.errors import ConfigurationError
from tests.engine.test_protocol import Site, make
from tests.support.server import eventually

__all__ = ["make"]

Make = Callable[..., Site]
A, B = "https://a.example", "https://b.example"


def only_a(origin: str) -> bool:
    return origin == A


def only_a_at_home(origin: str, environ: dict[str, Any]) -> bool:
    return origin == A and environ["REQUEST_METHOD"] == "GET"


# ---- origins


@pytest.mark.parametrize(
    ("allowed", "of_a", "of_b"),
    [
        (None, False, False),
        (A, True, False),
        ([A], True, False),
        ([A, B], True, True),
        ("*", True, True),
        (["*"], True, True),
        (only_a, True, False),
        (only_a_at_home, True, False),
    ],
    ids=str,
)
def test_only_origins_that_may_are_let_in_and_told_so(make: Make, allowed: Any, of_a: bool, of_b: bool) -> None:
    site = make(cors_allowed_origins=allowed)
    for origin, expected in ((A, of_a), (B, of_b)):
        response = site.get("transport=polling", headers={"Origin": origin})
        assert response.status_code == (200 if expected else 403)
        assert response.headers.get("Access-Control-Allow-Origin") == (origin if expected else None)
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        url = f"ws://{site.base}&transport=websocket"
        if expected:
            site.stack.callback(websocket.create_connection(url, origin=origin, timeout=60).shutdown)
        else:
            with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
                websocket.create_connection(url, origin=origin, timeout=60)


def test_an_empty_list_lets_everyone_in_and_leaves_the_headers_to_others(make: Make) -> None:
    response = make(cors_allowed_origins=[]).get("transport=polling", headers={"Origin": A})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("Access-Control")]


def test_the_page_of_the_server_itself_is_let_in_also_behind_a_proxy(make: Make) -> None:
    site = make()
    own = f"http://127.0.0.1:{site.server.port}"
    assert site.get("transport=polling", headers={"Origin": own}).status_code == 200
    proxied = {"Origin": A, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example"}
    assert site.get("transport=polling", headers=proxied).status_code == 200


def test_a_browser_that_asks_before_is_told_what_it_may(make: Make) -> None:
    site = make(cors_allowed_origins=A, cors_credentials=False)
    asks = {"Origin": A, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Mine"}
    response = requests.options(site.url("transport=polling"), headers=asks, timeout=60)
    told = {name: value for name, value in response.headers.items() if name.startswith("Access-Control")}
    assert (response.status_code, told) == (
        200,
        {
            "Access-Control-Allow-Origin": A,
            "Access-Control-Allow-Methods": "OPTIONS, GET, POST",
            "Access-Control-Allow-Headers": "X-Mine",
        },
    )
    assert site.engine.sockets == {}


# ---- cookies


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("io", "io={}; path=/; SameSite=Lax"),
        ({"name": "id", "HttpOnly": True, "Max-Age": "60"}, "id={}; HttpOnly; Max-Age=60"),
        ({"path": lambda: "/here"}, "io={}; path=/here"),
        (None, None),
    ],
    ids=["name", "attributes", "callable", "none"],
)
def test_a_cookie_is_set_as_it_is_told_once(make: Make, cookie: Any, expected: str | None) -> None:
    site = make(cookie=cookie)
    response = site.get("transport=polling")
    sid = json.loads(response.text[1:])["sid"]
    assert response.headers.get("Set-Cookie") == (expected and expected.format(sid))
    site.post(sid, "4a")
    assert "Set-Cookie" not in site.poll(sid).headers


# ---- compression


@pytest.mark.parametrize("asked", ["gzip", "deflate", "br, deflate;q=0.5", "br", ""])
def test_an_answer_is_compressed_as_the_client_takes_it(make: Make, asked: str) -> None:
    site = make(compression_threshold=100)
    sid = site.open()
    site.post(sid, "4" + "x" * 99)
    response = site.get(f"transport=polling&sid={sid}", headers={"Accept-Encoding": asked}, stream=True)
    body = response.raw.read(decode_content=False)
    method = response.headers.get("Content-Encoding")
    assert method == {"gzip": "gzip", "br": None, "": None}.get(asked, "deflate")
    assert (zlib.decompress(body, 47) if method else body) == b"4" + b"x" * 99


def test_what_is_short_or_not_to_be_compressed_is_not(make: Make) -> None:
    for site, length in ((make(compression_threshold=100), 98), (make(http_compression=False), 5000)):
        sid = site.open()
        site.post(sid, "4" + "x" * length)
        response = site.get(f"transport=polling&sid={sid}", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in response.headers and response.text == "4" + "x" * length


# ---- transports


def test_only_the_transports_that_are_told_are_served(make: Make) -> None:
    polling, by_websocket = make(transports=["polling"]), make(transports="websocket")
    assert json.loads(polling.get("transport=polling").text[1:])["upgrades"] == []
    with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
        polling.websocket()
    assert by_websocket.get("transport=polling").json()["code"] == 0
    assert by_websocket.websocket().recv()[0] == "0"
    with pytest.raises(ValueError, match=r"No valid transports in \['pigeon'\]; give 'polling', 'websocket' or both"):
        make(transports=["pigeon"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"ping_interval": "often"}, "ping_interval='often' is no number of seconds; give one from 0 up"),
        ({"ping_timeout": -1}, "ping_timeout=-1 is no number of seconds; give one from 0 up"),
        ({"max_http_buffer_size": None}, "max_http_buffer_size=None is no number of bytes; give one from 0 up"),
        ({"max_queue": "1m"}, "max_queue='1m' is no number of bytes; give one from 0 up"),
        ({"ping_interval": 1e12}, "ping_interval=1000000000000.0 is too many seconds; give 1000000000 at most"),
        ({"ping_timeout": math.inf}, "ping_timeout=inf is too many seconds; give 1000000000 at most"),
        ({"ping_timeout": math.nan}, "ping_timeout=nan is no number of seconds; give one from 0 up"),
        ({"ping_interval": (1,)}, "ping_interval=(1,) is no pair; give the seconds, and those of grace"),
        ({"ping_interval": (1, "x")}, "ping_interval[1]='x' is no number of seconds; give one from 0 up"),
        ({"max_queue": 1.5}, "max_queue=1.5 is no whole number of bytes; give one without a fraction"),
        ({"max_queue": math.inf}, f"max_queue=inf is too many bytes; give {1 << 62} at most"),
        (
            {"max_http_buffer_size": 10.5},
            "max_http_buffer_size=10.5 is no whole number of bytes; give one without a fraction",
        ),
        ({"compression_threshold": "x"}, "compression_threshold='x' is no number of bytes; give one from 0 up"),
        (
            {"cors_allowed_origins": 5},
            "cors_allowed_origins=5 lists no origins; give a list, one as text, a function, or '*'",
        ),
        ({"cookie": 5}, "cookie=5 is none; give its name, or a dictionary of its attributes"),
        ({"json": 5}, "json=5 cannot write and read JSON; give a module with dumps and loads"),
        ({"max_events": 0}, "max_events=0 is no number of events; give one from 1 up"),
        ({"max_events": 1.5}, "max_events=1.5 is no number of events; give one from 1 up"),
        ({"max_events": None}, "max_events=None is no number of events; give one from 1 up"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        EngineServer(**options)
    assert str(refused.value) == line


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_whole_number_may_be_written_as_a_float(make: Make, transport: str) -> None:
    site = make(max_http_buffer_size=1e4, max_queue=1.5e6)
    assert (site.engine.max_http_buffer_size, site.engine.max_queue) == (10_000, 1_500_000)
    assert site.engine.max_queue.__class__ is site.engine.max_http_buffer_size.__class__ is int
    opened = site.get("transport=polling").text if transport == "polling" else site.websocket().recv()
    assert json.loads(opened[1:])["maxPayload"] == 10_000


@pytest.mark.parametrize("changes", [False, True], ids=["at once", "by a change"])
def test_what_the_core_does_not_take_when_a_client_comes_ends_its_connection(
    make: Make, caplog: pytest.LogCaptureFixture, changes: bool
) -> None:
    site = make()
    rest = f"&sid={site.open()}" if changes else ""
    site.engine.max_queue = "much"
    client = site.websocket(rest)
    if changes:
        client.send("2probe")
        assert client.recv() == "3probe"
        client.send("5")
    assert client.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    eventually(lambda: not site.engine.sockets, "its session has ended")
    eventually(
        lambda: TypeError in [record.exc_info[0] for record in caplog.records if record.exc_info],
        "it is told in the log",
    )


def test_an_option_that_is_not_known_is_ignored_but_told(caplog: pytest.LogCaptureFixture) -> None:
    EngineServer(cors_allowed_origin="*", colour="red")
    assert sorted(caplog.messages) == [
        "Socket.IO: the unknown option 'colour' is ignored; docs/socketio.md lists them",
        "Socket.IO: the unknown option 'cors_allowed_origin' is ignored; did you mean 'cors_allowed_origins'?",
    ]


def test_options_of_the_packages_are_known(caplog: pytest.LogCaptureFixture) -> None:
    EngineServer(
        ping_interval=(25, 5), cookie="io", cors_credentials=True, compression_threshold=1, monitor_clients=True,
        logger=False, json=None, async_handlers=False, transports=["polling"], allow_upgrades=False,
        http_compression=False, max_queue=5, message_queue=None,
    )  # fmt: skip
    assert caplog.messages == []


def test_a_page_of_another_origin_is_told_in_the_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    site = make(cors_allowed_origins=[A])
    for _ in range(3):
        site.get("transport=polling", headers={"Origin": B})
    assert caplog.messages[0] == (
        f"Socket.IO: a page of {B!r} was refused; cors_allowed_origins lists those that may connect"
    )


def test_a_change_of_transport_that_is_not_allowed_is_refused(make: Make) -> None:
    site = make(allow_upgrades=False)
    opened = json.loads(site.get("transport=polling").text[1:])
    assert opened["upgrades"] == []
    with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
        site.websocket(f"&sid={opened['sid']}")
    assert site.post(opened["sid"], "4still").text == "ok"


def test_a_time_of_grace_is_told_to_the_client_alone(make: Make) -> None:
    site = make(ping_interval=(0.05, 10))
    opened = json.loads(site.get("transport=polling").text[1:])
    assert opened["pingInterval"] == 10_050
    assert site.poll(opened["sid"]).text == "2", "it is asked before that"


# ---- the rest of what programs call


def test_programs_find_what_python_engineio_offers(make: Make) -> None:
    site = make()
    engine, sid = site.engine, site.open()
    assert engine.transport(sid) == "polling" and not engine.sockets[sid].closed
    assert engine.sockets[sid].sid == sid and engine.sockets[sid].session == {}
    engine.save_session(sid, {"name": "ann"})
    with engine.session(sid) as session:
        session["age"] = 42
    assert engine.get_session(sid) == {"name": "ann", "age": 42}
    assert len({engine.generate_id() for _ in range(100)}) == 100
    with pytest.raises(KeyError):
        engine.transport("nobody")
    engine.shutdown()


def test_a_background_task_its_queue_and_its_event_wait_for_each_other(make: Make) -> None:
    site = make()
    engine, threads = site.engine, threading.active_count()

    def work() -> list[Any]:
        box, ready, got = engine.create_queue(), engine.create_event(), []

        def take() -> None:
            ready.set()
            got.append(box.get())

        task = engine.start_background_task(take)
        ready.wait()
        box.put("one")
        task.join()
        with pytest.raises(engine.get_queue_empty_exception()):
            box.get(timeout=0.001)
        engine.sleep(0)
        return [*got, task.is_alive()]

    assert site.server.spawn(work).result(60) == ["one", False]
    assert threading.active_count() == threads


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_the_server_may_disconnect_one_or_all(make: Make, transport: str) -> None:
    site = make()
    sids = [site.open() if transport == "polling" else json.loads(site.websocket().recv()[1:])["sid"] for _ in range(3)]
    site.server.spawn(site.engine.disconnect, sids[0]).result(60)
    eventually(lambda: set(site.engine.sockets) == set(sids[1:]), "one is gone")
    site.server.spawn(site.engine.disconnect).result(60)
    eventually(lambda: not site.engine.sockets, "all are gone")
    assert {entry for entry in site.log if entry[0] == "disconnect"} == {
        ("disconnect", sid, "server disconnect") for sid in sids
    }


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize(("answer", "status"), [(None, 400), (False, 401)])
def test_a_connect_handler_may_end_its_client(make: Make, transport: str, answer: Any, status: int) -> None:
    site = make()
    site.engine.on("connect", lambda sid, environ: site.engine.disconnect(sid) or answer)
    if transport == "polling":
        assert site.get("transport=polling").status_code == status
    else:
        with pytest.raises(websocket.WebSocketBadStatusException, match=str(status)):
            site.websocket()
    assert not site.engine.sockets
