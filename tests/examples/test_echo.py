"""examples/echo, started by the command that its README gives."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.example_program import ExampleProgram

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> Iterator[ExampleProgram]:
    with ExampleProgram("examples.echo", "127.0.0.1:0") as example:
        yield example


def connect(example: ExampleProgram) -> socket.socket:
    return socket.create_connection(("127.0.0.1", example.port), 60)


def test_says_back_what_many_clients_say(example: ExampleProgram) -> None:
    clients = [connect(example) for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(b"hello %02d" % number)
    for number, client in enumerate(clients):
        assert client.recv(8, socket.MSG_WAITALL) == b"hello %02d" % number
        client.close()


def test_client_that_has_said_all_gets_the_rest(example: ExampleProgram) -> None:
    with connect(example) as client:
        client.sendall(b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        received = 0
        while data := client.recv(65536):
            received += len(data)
    assert received == 300_000


def test_address_in_use_is_one_line(example: ExampleProgram) -> None:
    again = ExampleProgram.run("examples.echo", f"127.0.0.1:{example.port}")
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "another process listens there" in again.stderr


def test_stops_on_ctrl_c() -> None:
    with ExampleProgram("examples.echo", "127.0.0.1:0") as example, connect(example) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert example.interrupt() == (0, "")
        assert client.recv(1) == b""


def test_readme_gives_the_command_that_is_tested_here() -> None:
    assert "python -m examples.echo 127.0.0.1:7000\n" in (ROOT / "examples/echo/README.md").read_text()


def test_help_for_a_bad_address() -> None:
    result: subprocess.CompletedProcess[str] = ExampleProgram.run("examples.echo", "nowhere")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "'nowhere' has no port" in result.stderr
