"""An application with requests, redis-py and psycopg handles 200 slow requests at once, in the time of one.

That they are there at once is said by the servers which it asks: each holds all requests back until the last has come.
"""

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg
import pytest
import redis as redis_py

from streamserve import sleep
from streamserve.sync.event import Event
from tests.support.process import ServedCommand
from tests.support.server import Running, eventually
from tests.support.servers.postgres import Postgres
from tests.support.servers.redis import Redis

pytestmark = pytest.mark.foreign  # other people's C, in processes of their own

REQUESTS = 200
SECONDS = 1.0  # that each of the three takes
PATIENCE = 120.0  # seconds; only a failing test waits so long


class OtherServer:
    """The HTTP server that the application asks; its requests wait for `gate`."""

    def __init__(self) -> None:
        self.gate = Event()
        self.inside = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.inside += 1
        if environ["PATH_INFO"] == "/gated":
            self.gate.wait()
        else:
            sleep(SECONDS)
        self.inside -= 1
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]


@pytest.fixture
def other() -> OtherServer:
    return OtherServer()


@pytest.fixture(params=["epoll", "poll"])
def served(
    postgres: Postgres, redis: Redis, other: OtherServer, request: pytest.FixtureRequest
) -> Iterator[ServedCommand]:
    with Running(other) as second:
        environ = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "SECONDS": str(SECONDS)}
        environ["HTTP_URL"] = f"http://127.0.0.1:{second.port}"
        with ServedCommand("tests.drivers.slow_app:app", "--loop-backend", request.param, **environ) as served:
            yield served


def ask(served: ServedCommand, path: str, number: int) -> list[socket.socket]:
    """Sends so many requests, each on a connection of its own."""
    host, port = served.url.removeprefix("http://").split(":")
    clients = []
    for _ in range(number):
        client = socket.create_connection((host, int(port)), timeout=PATIENCE)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        clients.append(client)
    return clients


def answers(clients: list[socket.socket]) -> list[bytes]:
    """The body of each answer."""
    found = []
    for client in clients:
        with client, client.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            found.append(body)
    return found


def test_slow_requests_are_at_each_server_at_once(
    postgres: Postgres, redis: Redis, other: OtherServer, served: ServedCommand
) -> None:
    with redis_py.Redis.from_url(redis.url) as gate, psycopg.connect(postgres.url, autocommit=True) as lock:
        gate.delete("gate")
        lock.execute("SELECT pg_advisory_lock(1)")
        clients = ask(served, "/gated", REQUESTS)

        def at_redis() -> bool:
            return gate.info("clients")["blocked_clients"] == REQUESTS

        def at_postgres() -> bool:
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return lock.execute(query).fetchone() == (REQUESTS,)

        eventually(at_redis, f"{REQUESTS} commands wait in Redis", PATIENCE)
        gate.rpush("gate", "open")
        eventually(at_postgres, f"{REQUESTS} queries wait in PostgreSQL", PATIENCE)
        lock.execute("SELECT pg_advisory_unlock(1)")
    eventually(lambda: other.inside == REQUESTS, f"{REQUESTS} requests wait in the second server", PATIENCE)
    other.gate.set()
    bodies = answers(clients)
    assert all(body.endswith(b" done") for body in bodies)
    assert len(set(bodies)) == REQUESTS  # each had its own connection to the database


@pytest.mark.parametrize("served", ["epoll"], indirect=True)
def test_slow_requests_take_the_time_of_one(served: ServedCommand) -> None:
    start = time.monotonic()
    answers(ask(served, "/timed", 1))
    one = time.monotonic() - start
    start = time.monotonic()
    answers(ask(served, "/timed", REQUESTS))
    assert one >= 3 * SECONDS * 0.99
    assert time.monotonic() - start < 10 * one  # one after the other: 200
