"""A client that does everything wrong at once: afterwards nothing is left and the server answers."""

import random
import time
from typing import Any

from streamserve.loop.joining import sleep
from tests.support.client import Client, Truncated
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

SECONDS = 2.5  # on each backend
FRAGMENTS = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /slow HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n",
    b"GET /raise HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /unread HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n1234567",
    b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + b"u" * 70_000,
    b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"BAD\r\n\r\n",
    b"\xff\x80\0",
    b"\r\n",
    b"X: " + b"y" * 20_000,
]


def app(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError
    if path == "/slow":
        sleep(0.003)
    if path != "/unread":
        environ["wsgi.input"].read()
    start_response("200 OK", [])
    if path == "/stream":
        return (b"x" * 50_000 for _ in range(200))
    return [b"ok"]


class Torturer:
    """One step is one random act on one random connection."""

    def __init__(self, running: Running, seed: int) -> None:
        self.running = running
        self.chance = random.Random(seed)
        self.open: list[Client] = []

    def step(self) -> None:
        chance = self.chance
        if len(self.open) < 40 and chance.random() < 0.2:
            self.open.append(self.running.client(timeout=0.0, receive_buffer=chance.choice([0, 4096])))
        if not self.open:
            return
        client = chance.choice(self.open)
        act = chance.random()
        try:
            if act < 0.6:
                self.send(client)
            elif act < 0.85:
                client.socket.recv(chance.choice([1, 100, 65536]))
            elif act < 0.9:
                client.finish()
            else:
                self.open.remove(client)
                chance.choice([client.close, client.reset])()
        except BlockingIOError:
            return
        except OSError:
            if client in self.open:
                self.open.remove(client)
            client.close()

    def send(self, client: Client) -> None:
        data = self.chance.choice(FRAGMENTS) * self.chance.choice([1, 1, 1, 5])
        if self.chance.random() < 0.4:
            at = self.chance.randrange(len(data))
            data = data[:at] if self.chance.random() < 0.7 else data[at:]
        client.socket.send(data)


def test_nothing_is_left_of_a_client_that_does_everything_wrong(serve: Serve) -> None:
    limits = {"concurrency": 8, "queue": 8, "max_connections": 30}
    deadlines = {"head_timeout": 0.2, "body_timeout": 0.2, "write_timeout": 0.2, "keep_alive_timeout": 0.3}
    running = serve(app, **limits, **deadlines)
    torturer = Torturer(running, seed=20)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for _ in range(50):
            torturer.step()
        running.verify()
    running.examine()
    eventually(lambda: answered(running), "it serves")


def answered(running: Running) -> bool:
    """Whether a request is answered; one that comes later than its short deadline is not."""
    try:
        return running.ask(FRAGMENTS[0]).body == b"ok"
    except (Truncated, ConnectionError):
        return False
