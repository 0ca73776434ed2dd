"""python-socketio's RedisManager: servers and other programs reach each other's clients, and no loop stands still."""

import queue
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
import socketio

from tests.apps.conftest import Connect
from tests.support.process import ServedCommand
from tests.support.server import eventually
from tests.support.servers.redis import Redis

pytestmark = pytest.mark.foreign

PATCHED = """
import socketio

sio = socketio.Server(client_manager=socketio.RedisManager(URL, channel=CHANNEL))
"""

UNPATCHED = """
import socketio
from streamserve.socketio_server import SocketIOServer

sio = SocketIOServer(client_manager=socketio.RedisManager(URL, channel=CHANNEL))
"""

FLASK = """
from flask import Flask
from flask_socketio import SocketIO

flask_app = Flask(__name__)
sio = SocketIO(flask_app, message_queue=URL, channel=CHANNEL).server
"""

HANDLERS = """

def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [type(sio).__module__.encode()]


@sio.on("enter")
def enter(sid, room):
    sio.enter_room(sid, room)


@sio.on("say")
def say(sid, room, what):
    sio.emit("said", what, room=room)


@sio.on("kick")
def kick(sid, other):
    sio.disconnect(other)


@sio.on("ask")
def ask(sid, other):
    return sio.call("question", "age", to=other, timeout=60)


@sio.on("who")
def who(sid):
    return sid


app = socketio.WSGIApp(sio, page)
"""


class Cluster:
    """Servers of one application that share a channel of Redis."""

    def __init__(self, folder: Path, redis: Redis, kind: str, *flags: str) -> None:
        self.url, self.channel = redis.url, f"channel-{folder.name}"
        source = ("import socketio\n" + kind).replace("URL", repr(self.url)).replace("CHANNEL", repr(self.channel))
        (folder / "project.py").write_text(source + HANDLERS)
        with ExitStack() as stack:
            self.servers = [stack.enter_context(ServedCommand("project:app", *flags, cwd=folder)) for _ in range(2)]
            self.stack = stack.pop_all()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)


@pytest.fixture(params=["patched", "unpatched", "flask"])
def cluster(request: pytest.FixtureRequest, redis: Redis, tmp_path: Path) -> Any:
    kind = {"patched": PATCHED, "unpatched": UNPATCHED, "flask": FLASK}[request.param]
    flags = ["--no-patch"] if request.param == "unpatched" else []
    with Cluster(tmp_path, redis, kind, *flags) as running:
        yield running


def listeners(cluster: Cluster) -> int:
    with redis.Redis.from_url(cluster.url) as client:
        [(_, count)] = client.pubsub_numsub(cluster.channel)
    return int(count)


def test_clients_of_two_servers_and_another_program_meet(cluster: Cluster, connect: Connect) -> None:
    heard: list[queue.Queue[str]] = [queue.Queue() for _ in range(2)]
    gone: queue.Queue[str] = queue.Queue()
    clients = [
        connect(server.url, on={"said": box.put, "question": lambda what: 42, "disconnect": gone.put})
        for server, box in zip(cluster.servers, heard, strict=True)
    ]
    for client in clients:
        client.call("enter", "red", timeout=60)
    eventually(lambda: listeners(cluster) == 2, "both listen: what is said before is lost")
    for server in cluster.servers:
        assert requests.get(server.url, timeout=60).text == "streamserve.socketio_server"
    clients[0].emit("say", ("red", "hello"))
    assert [box.get(timeout=60) for box in heard] == ["hello", "hello"]
    socketio.RedisManager(cluster.url, channel=cluster.channel, write_only=True).emit(
        "said", "from outside", room="red"
    )
    assert [box.get(timeout=60) for box in heard] == ["from outside", "from outside"]
    sid = clients[1].call("who", timeout=60)
    assert clients[0].call("ask", sid, timeout=60) == 42
    clients[0].emit("kick", sid)
    assert gone.get(timeout=60) == "server disconnect"


def test_a_server_that_listens_stops_at_once(cluster: Cluster, connect: Connect) -> None:
    client = connect(cluster.servers[0].url)
    client.call("who", timeout=60)
    client.disconnect()
    cluster.servers[0].stop()
