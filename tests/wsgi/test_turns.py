"""A request that never has to wait does not keep the others from theirs."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.process import ServedCommand
from tests.wsgi.conftest import Serve

GREEDY = {  # how many rounds each goes at most
    "/stream": 1_000_000,
    "/empty": 30_000_000,
    "/written": 1_000_000,
    "/written-empty": 10_000_000,
    "/file": 1_000_000,
    "/upload": 300_000,
    "/hints": 1_000_000,
    "/encrypted": 5_000,
}

# Pieces are small, so that the client is always ready for the next one, or has sent it. Each goes on until the others
# were answered: `stop`. Without turns they are not, and it ends by itself.
APP = """
done = 0
stop = False

def rounds(path):
    global done
    while done < TOTAL[path] and not stop:
        done += 1
        yield

class File:
    def read(self, size):
        return b"x" * 100 if next(self.rounds, True) is None else b""

def app(environ, start_response):
    global stop
    path = environ["PATH_INFO"]
    if path == "/hints":
        for _ in rounds(path):
            environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"x" * 100 for _ in rounds(path))
    if path == "/encrypted":  # the queue is full, encrypted and empty again without a wait
        return (b"x" * 65536 for _ in rounds(path) if sum(range(20_000)))
    if path == "/empty":
        return (b"" for _ in rounds(path))
    if path in ("/written", "/written-empty"):
        for _ in rounds(path):
            write(b"x" * 100 if path == "/written" else b"")
    elif path == "/file":
        file = File()
        file.rounds = rounds(path)
        return environ["wsgi.file_wrapper"](file, 100)
    elif path == "/upload":
        for _ in rounds(path):
            environ["wsgi.input"].read(1)
    elif path == "/stop":
        stop = True
    return [b"%d" % done]
"""
CERTIFICATE = str(Path(__file__).parents[1] / "support" / "localhost.pem")
REQUEST = b"%b %b HTTP/1.1\r\nHost: h\r\n%b\r\n"


def take_all(client: socket.socket) -> None:
    """Reads as fast as it comes, to the end."""
    room = bytearray(1 << 20)
    try:
        while client.recv_into(room):
            pass
    except ConnectionError:
        return


def give_all(client: socket.socket) -> None:
    """Sends an upload as fast as it is taken, until the server closes."""
    try:
        while True:
            client.sendall(b"x" * 100_000)
    except ConnectionError:
        return


@pytest.mark.parametrize("path", GREEDY)
def test_others_are_answered_while_one_goes_on_without_waiting(tmp_path: Path, path: str) -> None:
    (tmp_path / "greedy.py").write_text(f"TOTAL = {GREEDY}\n{APP}")
    uploads = path == "/upload"
    arguments = ["greedy:app", "--early-hints", "on", "--max-body-bytes", "0"]
    context = ssl._create_unverified_context() if path == "/encrypted" else None
    with ServedCommand(*arguments, *(["--certfile", CERTIFICATE] if context else []), cwd=tmp_path) as server:
        host, _, port = server.url.partition("://")[2].rstrip("/").rpartition(":")
        address = (host, int(port))
        with socket.create_connection(address) as greedy, Client(address) as client:
            if context:
                client.socket = context.wrap_socket(client.socket)
                greedy = context.wrap_socket(greedy)
            field = b"Content-Length: 1000000000000\r\n" if uploads else b""
            greedy.sendall(REQUEST % (b"POST" if uploads else b"GET", path.encode(), field))
            if context:  # it does not decrypt what it reads: so it is faster than the server
                greedy = socket.socket(fileno=greedy.detach())
            thread = threading.Thread(target=give_all if uploads else take_all, args=(greedy,))
            thread.start()
            answers: list[int] = []
            while len(answers) < 20:
                client.send(REQUEST % (b"GET", b"/", b""))
                done = int(client.response().body)
                answers += [done] if done else []  # else it has not begun
            client.send(REQUEST % (b"GET", b"/stop", b""))
            client.response()
            with suppress(OSError):  # the server may have closed it
                greedy.shutdown(socket.SHUT_RDWR)
            thread.join()
            greedy.close()
        assert answers[-1] < GREEDY[path]


@pytest.mark.parametrize(("size", "turn"), [(100, 32), (8192, 26), (65_536, 11)])
def test_a_request_waits_for_the_rest_of_a_turn_at_most(serve: Serve, size: int, turn: int) -> None:
    done = 0  # pieces of the stream
    begun: list[int] = []  # how many there were when another request came...
    waited: list[int] = []  # ...and how many more when it ran

    def pieces() -> Iterator[bytes]:
        nonlocal done
        while len(waited) < 20:
            if len(begun) == len(waited) and done % (turn + turn // 3) == 0:  # at another place of each turn
                begun.append(done)
                client.send(REQUEST % (b"GET", b"/", b""))
            done += 1
            yield b"x" * size

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/stream":
            return pieces()
        if begun:
            waited.append(done - begun[-1])
        return [b""]

    running = serve(app)
    with running.client() as client, running.client() as greedy:
        client.send(REQUEST % (b"GET", b"/", b""))
        client.response()
        greedy.send(REQUEST % (b"GET", b"/stream", b""))
        greedy.response()
    # A piece that waited for its client counts in no turn; and now and then the kernel brings a request a poll later.
    assert sorted(waited)[-3] <= turn + 1, waited
