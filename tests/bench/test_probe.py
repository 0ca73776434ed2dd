"""A wrong response is detected, in whatever way it is wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.probe import BROWSER_HEADERS, WrongAnswer, probe, request_bytes

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"


@contextmanager
def answering(answers: list[bytes]) -> Iterator[int]:
    """A server for one connection that gives one prepared answer to each request, then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as peer:
            for answer in answers:
                if not peer.recv(65536):
                    return
                peer.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(60)


def test_the_right_answer_passes_and_its_length_is_returned() -> None:
    with answering([GOOD, GOOD]) as port:
        assert probe(port) == len(GOOD)


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "status": lambda good: good.replace(b"200 OK", b"500 No"),
    "body": lambda good: good.replace(b"world", b"w0rld"),
    "type": lambda good: good.replace(b"text/plain", b"text/html"),
    "version": lambda good: good.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no length": lambda good: good.replace(b"Content-Length: 14\r\n", b""),
    "short body": lambda good: good.replace(b"14", b"13"),
    "a byte too many": lambda good: good + b"!",
    "cut short": lambda good: good[:-1],
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_detected(change: Callable[[bytes], bytes]) -> None:
    with answering([change(GOOD)]) as port, pytest.raises(WrongAnswer):
        probe(port)


def test_an_answer_that_changes_its_length_is_detected() -> None:
    longer = GOOD.replace(b"\r\n\r\n", b"\r\nX-More: 1\r\n\r\n")
    with answering([GOOD, longer]) as port, pytest.raises(WrongAnswer, match="different lengths"):
        probe(port)


def test_a_connection_that_is_not_kept_alive_is_detected() -> None:
    with answering([GOOD]) as port, pytest.raises((WrongAnswer, ConnectionError)):
        probe(port)


def test_the_browser_sends_fourteen_fields() -> None:
    head = request_bytes(80, BROWSER_HEADERS)
    assert head.endswith(b"\r\n\r\n")
    assert len(head.splitlines()) == 1 + 14 + 1
