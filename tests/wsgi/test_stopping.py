"""A graceful stop: what runs is finished, what idles is closed, what is new is refused."""

import os
import signal
import socket
import threading
from typing import Any

import pytest

from streamserve import get_hub, spawn
from streamserve.core import lib
from streamserve.loop.joining import sleep
from streamserve.wsgi import WSGIServer
from tests.support.client import Client
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Gate:
    def __init__(self, streams: bool = False) -> None:
        self.open = threading.Event()
        self.streams = streams

    def wait(self) -> None:
        while not self.open.is_set():
            sleep(0.002)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        if self.streams:
            return self.pieces()
        self.wait()
        return [b"finished"]

    def pieces(self) -> Any:
        yield b"begun "
        self.wait()
        yield b"finished"


def is_draining(running: Running) -> bool:
    return bool(running.server.stopping) and running.server.sockets[0].fileno() < 0


def refuses(running: Running) -> bool:
    try:
        socket.create_connection(running.addresses[0], 5).close()
    except ConnectionResetError:  # its handshake met the close: the next one is refused
        return False
    except ConnectionRefusedError:
        return True
    return False


def test_a_running_request_is_finished_and_told_that_it_is_the_last(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate)
    client, idle = running.client(), running.client()
    gate.open.set()
    idle.send(GET)
    idle.response()
    gate.open.clear()
    client.send(GET)
    eventually(lambda: running.server.active == 1, "the request runs")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    assert idle.ended()
    eventually(lambda: refuses(running), "nobody listens any more")  # the kernel's close may come after Python's
    gate.open.set()
    response = client.response()
    assert (response.body, response.closes) == (b"finished", True)
    assert client.ended()
    assert result.result(60) == 0
    running.join()


def test_a_streamed_response_is_finished(serve: Serve) -> None:
    gate = Gate(streams=True)
    running = serve(gate)
    client = running.client()
    client.send(GET)
    assert client.head().status == 200
    assert (client.line(), client.line()) == (b"6", b"begun ")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    gate.open.set()
    assert client.rest() == b"8\r\nfinished\r\n0\r\n\r\n"
    assert result.result(60) == 0


def test_what_a_slow_client_has_not_taken_yet_is_waited_for(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(65536 * 200))])
        return iter([b"x" * 65536] * 200)

    running = serve(app)
    client = running.client(receive_buffer=300_000)
    client.send(GET)
    eventually(running.waiters, "the client is slow")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    assert len(client.response().body) == 65536 * 200
    assert result.result(60) == 0


def test_half_a_head_does_not_hold_the_stop_for_its_whole_deadline(serve: Serve) -> None:
    running = serve(Gate(), head_timeout=600, graceful_timeout=600)
    client = running.client()
    client.send(b"GET / HT")
    eventually(lambda: running.count(lib.SS_COUNT_BUFFERS) == 1, "it was read")
    assert running.stop().result(60) == 0
    assert client.response().status == 408


def test_closing_ends_a_stop_that_waits() -> None:
    gate = Gate()
    server = WSGIServer(("127.0.0.1", 0), gate)
    server.start()
    with socket.create_connection(server.address) as client:
        client.sendall(GET)
        while not server.active:
            sleep(0.001)
        stopping = spawn(server.stop, 3600)
        sleep(0.001)
        assert not stopping.ready()
        server.close()
        assert stopping.get(timeout=60) == 1
        gate.open.set()
        while server.active:
            sleep(0.001)


def test_pipelined_requests_behind_the_last_one_are_not_answered(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate)
    client = running.client()
    client.send(GET * 3)
    eventually(lambda: running.server.active == 1, "the first one runs")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    gate.open.set()
    assert client.response().closes
    assert client.ended()
    assert result.result(60) == 0


def test_the_timeout_cuts_off(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate)
    client = running.client()
    client.send(GET)
    eventually(lambda: running.server.active == 1, "the request runs")
    assert running.stop(0.05).result(60) == 1
    assert client.ended()
    gate.open.set()
    running.join()


def test_a_parked_writer_and_a_parked_reader_are_told_of_the_cut(serve: Serve) -> None:
    ended: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [])
        try:
            if environ["REQUEST_METHOD"] == "POST":
                environ["wsgi.input"].read()
            while True:
                write(b"x" * 65536)
        except OSError as error:
            ended.append(error)
            raise

    running = serve(app)
    reader, writer = running.client(), running.client(receive_buffer=4096)
    writer.send(GET)
    reader.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
    eventually(lambda: len(running.waiters()) == 2, "both wait")
    assert running.stop(0).result(60) == 2
    running.join()
    assert len(ended) == 2


def test_a_half_sent_head_is_served_when_it_is_completed(serve: Serve) -> None:
    gate = Gate()
    gate.open.set()
    running = serve(gate)
    client = running.client()
    client.send(GET[:10])
    eventually(lambda: running.count(lib.SS_COUNT_BUFFERS) == 1, "the half has arrived")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    client.send(GET[10:])
    response = client.response()
    assert (response.body, response.closes) == (b"finished", True)
    assert result.result(60) == 0


def test_requests_that_wait_for_a_place_are_served(serve: Serve) -> None:
    gate = Gate()
    running = serve(gate, concurrency=1)
    clients = [running.client() for _ in range(5)]
    for client in clients:
        client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_REQUESTS) == 5, "all are with the server")
    result = running.stop()
    eventually(lambda: is_draining(running), "it drains")
    gate.open.set()
    assert [client.response().body for client in clients] == [b"finished"] * 5
    assert result.result(60) == 0


def test_closing_with_requests_that_did_not_begin_is_quiet(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Records of new heads may stand in the ready queue when everything ends."""
    gate = Gate()
    running = serve(gate, concurrency=50)
    clients = [running.client() for _ in range(20)]

    def close_between_poll_and_drain() -> None:
        endpoint = next(iter(running.server._endpoints.values()))
        requests = endpoint.requests

        def admit_and_close(words: list[int], count: int) -> None:
            requests(words, count)
            running.server.close()

        endpoint.requests = admit_and_close  # type: ignore[method-assign]

    running.call(close_between_poll_and_drain)
    for number, client in enumerate(clients):
        try:
            client.send(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
        except OSError:
            break
    running.join()
    gate.open.set()
    assert not [record for record in caplog.records if record.exc_info]
    assert running.errors.getvalue() == ""


def test_close_after_the_end_of_its_hub_closes_nothing_of_the_next_one() -> None:
    log: list[int] = []

    def run() -> None:
        first, second = (WSGIServer("127.0.0.1:0", Gate()) for _ in range(2))
        first.start()
        get_hub().destroy()
        second.start()
        first.close()
        log.append(lib.ss_listener_connections(get_hub().core, 0))
        second.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert log == [0]


def test_a_child_of_fork_closes_the_parents_server_and_not_its_own() -> None:
    with WSGIServer("127.0.0.1:0", Gate()) as parents:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with WSGIServer("127.0.0.1:0", Gate()):
                    parents.close()
                    code = int(lib.ss_listener_connections(get_hub().core, 0) != 0)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def read_body(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def test_closing_a_server_leaves_the_readers_of_another_one_parked(serve: Serve) -> None:
    running = serve(read_body)
    client = running.client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n")
    (before,) = eventually(running.waiters, "it reads")

    def close_another() -> None:
        with WSGIServer("127.0.0.1:0", read_body) as other:
            other.close()

    running.call(close_another)
    assert (running.waiters(), before.done) == ([before], False)
    client.send(b"x" * 20000)
    assert client.response().body == b"x" * 20000


def test_a_child_of_fork_that_closes_the_parents_server_wakes_none_of_its_greenlets(serve: Serve) -> None:
    running = serve(read_body)
    client = running.client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n")
    eventually(running.waiters, "it reads")

    def close_in_child() -> int:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                running.server.close()
                code = len(get_hub().ready)
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert running.call(close_in_child) == 0  # neither the reader, nor who called serve_forever
    client.send(b"x" * 20000)
    assert client.response().body == b"x" * 20000


def test_a_child_of_fork_starts_the_parents_server_again_and_serves_its_own_clients() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"%d" % os.getpid()]

    server = WSGIServer("127.0.0.1:0", app)
    server.start()
    assert server.started
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            assert not server.started
            server.serve_forever()
        finally:
            os._exit(code)
    try:
        with Client(server.address) as client:  # the parent's loop stands still
            client.send(GET)
            assert client.response().body == b"%d" % child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        server.close()


def test_a_child_of_fork_that_a_handler_made_starts_the_server_with_all_places_free(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] != "/fork":
            os._exit(7)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            running.server.serve_forever()
        return [b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    running = serve(app, concurrency=1)
    with running.client() as client:
        client.send(b"GET /fork HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: running.server.active == 1, "the parent's loop stands still")
        with Client(running.addresses[0]) as of_child:
            of_child.send(GET)
            assert of_child.ended()
        assert client.response().body == b"7"


def test_a_child_of_fork_that_returns_from_its_handler_touches_no_connection(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            get_hub().run_callback(os._exit, 7)
            return [b"child"]
        return [b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    running = serve(application)
    with running.client() as client:
        client.send(GET)
        assert client.response().body == b"7"
