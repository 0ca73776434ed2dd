"""The thread that a request is: its ident, locals and context variables are those of a pool's thread."""

import os
import weakref
from contextvars import ContextVar
from typing import Any

import pytest

from streamserve import getcurrent
from streamserve.green.identity import get_ident, when_ended
from streamserve.sync.event import Event
from streamserve.sync.local import local
from streamserve.websocket import Resource, WebSocketApplication
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.websocket.conftest import Connect, connect
from tests.wsgi.conftest import Serve

__all__ = ["connect"]

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Cyclic:
    """A connection as Django's are: in a cycle."""

    def __init__(self) -> None:
        self.me = self


class Threads:
    """An application that answers with its ident, and counts in a local and a context variable how often it was there.

    A request for /wait waits for `gate`.
    """

    def __init__(self) -> None:
        self.local = local()
        self.variable: ContextVar[int] = ContextVar("variable", default=0)
        self.gate = Event()
        self.inside = 0
        self.ended: list[int] = []
        self.kept: weakref.ref[Cyclic] | None = None

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            self.inside += 1
            self.gate.wait()
            self.inside -= 1
        if environ["PATH_INFO"] == "/keep":
            self.local.connection = connection = Cyclic()
            self.kept = weakref.ref(connection)
            ident = get_ident()
            when_ended(lambda: self.ended.append(ident))
        if environ["PATH_INFO"] != "/plain":
            self.variable.set(self.variable.get() + 1)
            self.local.count = getattr(self.local, "count", 0) + 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{get_ident()} {getattr(self.local, 'count', 0)} {self.variable.get()}".encode()]

    def wave(self, server: Running, number: int) -> set[int]:
        """The idents of requests that run at once."""
        self.gate.clear()
        clients = [server.client() for _ in range(number)]
        for client in clients:
            client.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: self.inside == number, "all wait")
        self.gate.set()
        return {ask(client) for client in clients}


def ask(client: Client) -> int:
    return int(client.response().body.split()[0])


def seen(server: Running, path: str = "/") -> list[int]:
    return list(map(int, server.ask(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()).body.split()))


@pytest.fixture
def threads() -> Threads:
    return Threads()


def test_requests_one_after_another_are_one_thread(serve: Serve, threads: Threads) -> None:
    server = serve(threads)
    ident, *counts = seen(server)
    assert counts == [1, 1]
    assert [seen(server) for _ in range(3)] == [[ident, 2, 2], [ident, 3, 3], [ident, 4, 4]]
    with server.client() as client:
        client.send(REQUEST * 5)  # one poll, or several
        assert [client.response().body for _ in range(5)] == [f"{ident} {n} {n}".encode() for n in range(5, 10)]


def test_requests_at_once_are_different_threads_and_no_more_than_ran_at_once(serve: Serve, threads: Threads) -> None:
    server = serve(threads)
    first = threads.wave(server, 10)
    assert len(first) == 10
    for number in (4, 10, 7):
        wave = threads.wave(server, number)
        assert len(wave) == number and wave <= first
    assert len({seen(server)[0] for _ in range(5)}) == 1, "the last one used comes first"
    assert len(threads.wave(server, 11) - first) == 1


def test_a_request_that_begins_beside_others_has_nothing_of_theirs(serve: Serve, threads: Threads) -> None:
    server = serve(threads)
    with server.client() as waiting:
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: threads.inside == 1, "it waits")
        ident, *counts = seen(server)
        assert counts == [1, 1]
        assert seen(server) == [ident, 2, 2]
        threads.gate.set()
        assert waiting.response().body.split()[1:] == [b"1", b"1"]


def test_a_thread_that_idles_is_dropped_with_what_it_kept(serve: Serve, threads: Threads) -> None:
    server = serve(threads, thread_idle_timeout=0.02)
    ident, *_ = seen(server, "/keep")
    eventually(lambda: threads.kept is not None and threads.kept() is None, "the connection is freed, cycle or not")
    assert threads.ended == [ident]
    assert seen(server)[0] != ident
    assert seen(server)[1:] == [2, 2]


def test_what_threads_keep_ends_with_the_server(serve: Serve, threads: Threads) -> None:
    server = serve(threads, thread_idle_timeout=0)
    ident, *_ = seen(server, "/keep")
    assert threads.ended == []
    server.stop().result(60)
    assert threads.ended == [ident]
    assert threads.kept is not None and threads.kept() is None


def test_context_variables_are_fresh_if_asked_for(serve: Serve, threads: Threads) -> None:
    server = serve(threads, context_variables="request")
    ident, *counts = seen(server)
    assert counts == [1, 1]
    assert [seen(server) for _ in range(2)] == [[ident, 2, 1], [ident, 3, 1]]
    with server.client() as client:
        client.send(REQUEST * 3)
        assert [client.response().body for _ in range(3)] == [f"{ident} {n} 1".encode() for n in range(4, 7)]


def test_context_variables_alone_make_a_thread(serve: Serve) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    def count(environ: Any, start_response: Any) -> list[bytes]:
        variable.set(variable.get() + 1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(variable.get()).encode()]

    server = serve(count)
    assert [server.ask(REQUEST).body for _ in range(3)] == [b"1", b"2", b"3"]


def test_the_current_greenlet_is_the_requests_own(serve: Serve) -> None:
    handles: list[Any] = []

    def note(environ: Any, start_response: Any) -> list[bytes]:
        for handle in handles:
            assert handle.ready()
            handle.kill(block=False)  # it has ended: this is for nobody
        handles.append(getcurrent())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [getcurrent().name.encode()]

    server = serve(note)
    answers = {server.ask(REQUEST).body for _ in range(3)}
    assert len(answers) == 1 and answers.pop().startswith(b"request-")
    assert len(set(handles)) == 3


def test_a_failed_request_gives_its_thread_back(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    idents: list[int] = []

    def fail(environ: Any, start_response: Any) -> list[bytes]:
        idents.append(get_ident())
        raise RuntimeError("failed")

    server = serve(fail)
    assert [server.ask(REQUEST).status for _ in range(3)] == [500] * 3
    assert len(set(idents)) == 1


def test_messages_are_handled_under_the_same_threads(serve: Serve, connect: Connect, threads: Threads) -> None:
    class Counter(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            self.ws.send(threads({"PATH_INFO": "/"}, lambda *_: None)[0].decode())

    server = serve(Resource({"/": Counter}))
    clients = [connect(server) for _ in range(3)]
    answers = []
    for client in clients * 2:
        client.send("count")
        answers.append(list(map(int, client.recv().split())))
    assert len({ident for ident, *_ in answers}) == 1
    assert [counts for _, *counts in answers] == [[n, n] for n in range(1, 7)]


def test_a_websocket_that_holds_its_greenlet_is_a_thread_of_its_own(serve: Serve, connect: Connect) -> None:
    mine = local()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        websocket = environ.get("wsgi.websocket")
        if websocket is None:
            mine.count = getattr(mine, "count", 0) + 1
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{get_ident()} {mine.count}".encode()]
        mine.count = 100
        while websocket.receive() is not None:
            websocket.send(f"{get_ident()} {mine.count}")
        return []

    server = serve(application)
    client = connect(server)
    client.send("x")
    ident = client.recv().split()[0]
    other, count = server.ask(REQUEST).body.decode().split()
    assert other != ident and count == "1"
    client.send("x")
    assert client.recv() == f"{ident} 100"


def test_a_forked_child_leaves_the_threads_of_its_parent_alone(serve: Serve, threads: Threads) -> None:
    def fork() -> str:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            idle = len(server.hub.identities.idle)
            os.write(
                writer, f"{idle} {threads.ended} {threads.kept is not None and threads.kept() is not None}".encode()
            )
            os._exit(0)
        os.close(writer)
        with open(reader) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return text

    server = serve(threads)
    seen(server, "/keep")
    assert server.call(fork) == "0 [] True"
    assert len(server.hub.identities.idle) == 1
