"""examples/port_forwarder between real sockets."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.example_program import ExampleProgram

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; only a failing test waits so long


class Target:
    """A server that runs a function in a thread for each connection."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self.accept)
        self.accepting.start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            client.settimeout(PATIENCE)
            if client.recv(1, socket.MSG_PEEK) == b"\0":
                client.close()
                return
            thread = threading.Thread(target=self.serve, args=(client,))
            thread.start()
            self.threads.append(thread)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as last:
            last.sendall(b"\0")
            self.accepting.join()
        self.listener.close()
        for thread in self.threads:
            thread.join()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@pytest.fixture
def forwarded() -> Iterator[Callable[[Callable[[socket.socket], None]], ExampleProgram]]:
    """Starts a target, and the example in front of it."""
    targets, examples = [], []

    def start(serve: Callable[[socket.socket], None]) -> ExampleProgram:
        targets.append(Target(serve))
        examples.append(ExampleProgram("examples.port_forwarder", "127.0.0.1:0", f"127.0.0.1:{targets[-1].port}"))
        return examples[-1]

    yield start
    for target in targets:
        target.close()
    for example in examples:
        example.__exit__()


Forwarded = Callable[[Callable[[socket.socket], None]], ExampleProgram]


def connect(example: ExampleProgram) -> socket.socket:
    return socket.create_connection(("127.0.0.1", example.port), PATIENCE)


def count_and_answer(client: socket.socket) -> None:
    """Reads to the end of the request before it says anything: that needs the half-close to come through."""
    with client:
        client.sendall(b"%d bytes" % len(read_all(client)))


def test_answer_comes_after_the_request_has_ended(forwarded: Forwarded) -> None:
    example = forwarded(count_and_answer)
    with connect(example) as client:
        client.sendall(b"x" * 1_000_000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"1000000 bytes"


def test_target_may_end_first(forwarded: Forwarded) -> None:
    seen: list[bytes] = []

    def greet(client: socket.socket) -> None:
        with client:
            assert client.recv(1) == b"?"
            client.sendall(b"bye")
            client.shutdown(socket.SHUT_WR)
            seen.append(read_all(client))

    example = forwarded(greet)
    with connect(example) as client:
        client.sendall(b"?")
        assert read_all(client) == b"bye"
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert example.interrupt()[0] == 0
    assert "1 clients" in example.output


def test_client_that_vanishes_ends_the_connection_to_the_target(forwarded: Forwarded) -> None:
    ended = threading.Event()

    def wait(client: socket.socket) -> None:
        with client:
            client.sendall(client.recv(1))
            with contextlib.suppress(ConnectionResetError):
                read_all(client)
            ended.set()

    example = forwarded(wait)
    with connect(example) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ended.wait(PATIENCE)


def test_many_clients_and_the_counts_at_the_end(forwarded: Forwarded) -> None:
    example = forwarded(count_and_answer)
    clients = [connect(example) for _ in range(20)]
    for client in clients:
        client.sendall(b"x" * 100)
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        assert read_all(client) == b"100 bytes"
        client.close()
    assert example.interrupt() == (0, "")
    assert example.output.startswith("20 clients, 2000 bytes to 127.0.0.1:")
    assert example.output.endswith(", 180 bytes back\n")


def test_target_that_is_not_there_is_told_and_the_client_dismissed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with ExampleProgram("examples.port_forwarder", "127.0.0.1:0", f"127.0.0.1:{port}") as example:
        with connect(example) as client:
            assert client.recv(1) == b""
        code, errors = example.interrupt()
        assert (code, errors) == (0, f"127.0.0.1: cannot connect to 127.0.0.1:{port}: [Errno 111] Connection refused\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "usage: python -m examples.port_forwarder"),
        (("127.0.0.1:0", "nowhere"), "'nowhere' has no port"),
        (("127.0.0.1:0", ":80"), "':80' is no target: give host:port"),
        (("127.0.0.1:99999", "localhost:80"), "has no usable port"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], problem: str) -> None:
    result = ExampleProgram.run("examples.port_forwarder", *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert problem in result.stderr


def test_readme_gives_a_command_of_that_shape() -> None:
    readme = (ROOT / "examples/port_forwarder/README.md").read_text()
    assert "python -m examples.port_forwarder 127.0.0.1:8080 example.org:80\n" in readme
