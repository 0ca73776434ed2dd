"""Namespaces that clients name themselves, where `namespaces="*"` lets them: how many, and what leaving them costs."""

import json
import threading

import pytest
import requests

from streamserve.engine.posts import MOST_POSTS
from streamserve.errors import ConfigurationError
from streamserve.socketio_server import SocketIOServer
from streamserve.sync.event import Event
from tests.socketio.conftest import Host
from tests.socketio.test_handlers import Open, left_behind, wire
from tests.support.server import eventually

__all__ = ["wire"]


def test_a_client_joins_so_many_and_is_refused_more(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*", max_namespaces=4)
    sio.on("connect", lambda sid, environ: None, namespace="/known")
    client = wire(sio)
    for name in ("", "/a", "/b", "/c"):
        client.join(name)
    client.send("40/d,")
    assert client.receive() == '44/d,{"message":"Too many namespaces"}'
    client.join("/known")
    client.send("41/a,", "41/b,")
    client.join("/d")
    assert sorted(sio.manager.rooms) == ["/", "/c", "/d", "/known"]
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio) and not sio.manager.others, "nothing is left")


def test_namespaces_that_handlers_name_do_not_count(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*", max_namespaces=1)
    for name in ("/", "/one", "/two"):
        sio.on("event", lambda sid: None, namespace=name)
    client = wire(sio)
    for name in ("", "/one", "/two", "/a"):
        client.join(name)
    client.send("40/b,")
    assert client.receive() == '44/b,{"message":"Too many namespaces"}'


def test_the_default_namespace_counts_where_no_handler_names_it(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*", max_namespaces=1)
    client = wire(sio)
    client.join("/a")
    client.send("40")
    assert client.receive() == '44{"message":"Too many namespaces"}'
    client.send("41/a,")
    client.join()
    client.send("40/a,")
    assert client.receive() == '44/a,{"message":"Too many namespaces"}'


def test_who_enters_its_namespace_again_is_in_there_once(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*")
    sio.on("again", lambda sid: sio.enter_room(sid, None, namespace="/a"), namespace="/a")
    client = wire(sio)
    client.join("/a")
    client.send('42/a,1["again"]')
    assert client.receive() == "43/a,1[]"
    assert [*sio.manager.others.values()] == [["/a"]]
    client.connection.shutdown()
    eventually(lambda: not left_behind(sio), "nothing is left")


def test_who_is_refused_the_last_one_may_try_another(wire: Open) -> None:
    sio = SocketIOServer(namespaces="*", max_namespaces=1)
    sio.on("connect", lambda namespace, sid, environ: False, namespace="*")
    client = wire(sio)
    for name in ("/a", "/b"):
        client.send(f"40{name},")
        assert client.receive().startswith(f"44{name},")
    eventually(lambda: not sio.manager.others and len(sio.arrivals) == 1, "it is in none")


def test_leaving_does_not_cost_the_namespaces_of_others(wire: Open) -> None:
    sio, asked = SocketIOServer(namespaces="*"), []
    client = wire(sio)
    client.join("/a")
    for number in range(1000):  # of clients that are elsewhere
        sio.manager.connect(f"other {number}", f"/{number}")
    (eio_sid,) = sio.eio.sockets
    is_connected = sio.manager.is_connected

    def counted(sid: str | None, namespace: str) -> bool:
        asked.append(namespace)
        return bool(is_connected(sid, namespace))

    sio.manager.is_connected = counted
    client.connection.shutdown()
    eventually(lambda: eio_sid not in sio.environ, "it is gone")
    assert set(asked) == {"/a"}


def test_the_posts_that_wait_for_one_another_are_few(host: Host) -> None:
    sio, gate, answers = SocketIOServer(), Event(), []
    sio.on("connect", lambda sid, environ: gate.wait() and None)
    url = f"http://127.0.0.1:{host(sio).port}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(requests.get(url, timeout=60).text[1:])['sid']}"
    (session,) = sio.eio.sockets.values()

    def post() -> None:
        answers.append(
            requests.post(url, data="40" if not session.polling.posts.count else '42["e"]', timeout=60).status_code
        )

    threads = [threading.Thread(target=post) for _ in range(MOST_POSTS)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        eventually(lambda number=number: session.polling.posts.count == number, "it waits")
    refusal = requests.post(url, data='42["e"]', timeout=60)
    assert (refusal.status_code, refusal.json()) == (400, {"code": 3, "message": "Bad request"})
    sio.eio.in_loop(gate.set)
    for thread in threads:
        thread.join(60)
    assert answers == [200] * MOST_POSTS
    eventually(lambda: not left_behind(sio), "nothing is left")


@pytest.mark.parametrize("most", [-1, "many", None])
def test_a_number_of_namespaces_that_is_none_is_refused_by_name(most: object) -> None:
    with pytest.raises(ConfigurationError, match="max_namespaces"):
        SocketIOServer(max_namespaces=most)  # type: ignore[arg-type]
