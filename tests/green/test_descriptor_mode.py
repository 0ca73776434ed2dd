"""A descriptor handed on is blocking where the standard library's would be; what uses the socket never minds."""

import multiprocessing
import os
import socket as standard
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamserve import sleep, spawn
from streamserve.green import socket

MEGABYTE = 1 << 20
WRITES = f"import os\nleft = {MEGABYTE}\nwhile left: left -= os.write(1, bytes(left))"


def received(sock: Any) -> int:
    total = 0
    while data := sock.recv(65536):
        total += len(data)
        sleep()
    return total


def made(how: str) -> tuple[Any, Any]:
    """A connected pair whose first socket came to be so."""
    if how == "socketpair":
        return socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    if how == "with a timeout at first":
        near = socket.create_connection(listener.getsockname(), timeout=20)
        near.settimeout(None)
    else:
        near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    listener.close()
    return (far, near) if how == "accept" else (near, far)


HOW = ["socketpair", "connect", "with a timeout at first", "accept"]


@pytest.mark.parametrize("how", HOW)
def test_a_child_that_writes_to_it_loses_nothing(how: str) -> None:
    near, far = made(how)
    with subprocess.Popen([sys.executable, "-c", WRITES], stdout=near) as child:
        near.close()
        assert received(far) == MEGABYTE
    assert child.returncode == 0
    far.close()


WAYS: dict[str, Callable[[Any], int]] = {
    "fileno": lambda sock: os.dup(sock.fileno()),
    "detach": lambda sock: sock.detach(),
    "dup": lambda sock: sock.dup().detach(),
    "fromfd": lambda sock: socket.fromfd(sock.fileno(), sock.family, sock.type).detach(),
    "fileno=": lambda sock: socket.socket(fileno=sock.detach()).detach(),
    "makefile": lambda sock: os.dup(sock.makefile("rb").fileno()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", HOW)
def test_it_has_the_mode_that_the_standard_library_gives_it(how: str, way: str) -> None:
    for timeout in (None, 5, 0):
        near, far = made(how)
        near.settimeout(timeout)
        fd = WAYS[way](near)
        assert os.get_blocking(fd) is (timeout is None)
        os.close(fd)
        near.close()
        far.close()


def test_the_mode_follows_the_timeout_once_it_was_handed_on() -> None:
    near, far = socket.socketpair()
    fd = near.fileno()
    for change, blocking in (
        (lambda: near.settimeout(1), False),
        (lambda: near.settimeout(None), True),
        (lambda: near.setblocking(False), False),
        (lambda: near.setblocking(True), True),
    ):
        change()
        assert os.get_blocking(fd) is blocking
    near.close()
    far.close()


def test_what_comes_by_a_unix_socket_is_blocking_there() -> None:
    near, far = socket.socketpair()
    first, second = socket.socketpair()
    standard.send_fds(near, [b"x"], [first.fileno()])
    fd = standard.recv_fds(far, 1, 1)[1][0]
    assert os.get_blocking(fd)
    os.close(fd)
    for sock in (near, far, first, second):
        sock.close()


def test_nothing_that_uses_one_that_was_handed_on_blocks_the_others(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    assert os.get_blocking(near.fileno())
    assert os.get_blocking(far.fileno())
    data = os.urandom(3 * MEGABYTE)
    (tmp_path / "file").write_bytes(data)
    for send in (near.sendall, near.send, lambda data: near.sendmsg([data])):
        sending = spawn(send, data)
        assert _exactly(far, len(data)) == data
        sending.join(20)
    with (tmp_path / "file").open("rb") as file:
        sending = spawn(near.sendfile, file)
        assert _exactly(far, len(data)) == data
        assert sending.get(timeout=20) == len(data)
    assert os.get_blocking(near.fileno())
    for call in (
        lambda: far.recv(1),
        lambda: far.recv_into(bytearray(1)),
        lambda: far.recvfrom(1),
        lambda: far.recvfrom_into(bytearray(1)),
        lambda: far.recvmsg(1),
        lambda: far.recvmsg_into([bytearray(1)]),
    ):
        reading = spawn(call)
        sleep()
        assert not reading.ready()
        near.send(b"x")
        reading.get(timeout=20)
    near.close()
    far.close()


def _exactly(sock: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += sock.recv(min(65536, size - len(data)))
    return bytes(data)


def test_a_listener_and_a_connection_whose_descriptor_was_seen_wait_in_the_loop() -> None:
    with socket.socket() as listener, socket.socket() as client:
        for sock in (listener, client):
            assert os.get_blocking(sock.fileno())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepting = spawn(listener.accept)
        sleep()
        assert not accepting.ready()
        client.connect(listener.getsockname())
        accepting.get(timeout=20)[0].close()
        assert os.get_blocking(client.fileno())
        assert not os.get_blocking(listener.fileno())  # who accepts with others must not be blocked by them


def test_a_pair_is_of_the_kind_that_was_asked_for() -> None:
    for family, kind, timeout in (
        (None, socket.SOCK_STREAM, None),
        (socket.AF_UNIX, socket.SOCK_DGRAM, None),
        (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0.0),
    ):
        theirs = standard.socketpair(family, kind)
        ours = socket.socketpair(family, kind)
        for left, right in zip(theirs, ours, strict=True):
            assert (left.family, left.type, left.proto) == (right.family, right.type, right.proto)
            assert left.gettimeout() == right.gettimeout() == timeout
            assert not os.get_inheritable(right.fileno())
            assert os.get_blocking(left.fileno()) == os.get_blocking(right.fileno())
            left.close()
            right.close()


def test_the_default_timeout_is_that_of_an_adopted_descriptor() -> None:
    near, far = standard.socketpair()
    standard.setdefaulttimeout(0.001)
    try:
        with socket.socket(fileno=near.detach()) as adopted:
            assert not os.get_blocking(adopted.fileno())
            with pytest.raises(TimeoutError):
                adopted.recv(1)
    finally:
        standard.setdefaulttimeout(None)
        far.close()


def test_a_native_thread_writes_by_the_descriptor_and_is_read() -> None:
    near, far = socket.socketpair()
    thread = threading.Thread(target=os.write, args=(far.fileno(), bytes(MEGABYTE)))
    thread.start()
    assert len(_exactly(near, MEGABYTE)) == MEGABYTE
    thread.join()
    near.close()
    far.close()


MANAGER = """
import multiprocessing, socket
from multiprocessing.managers import BaseManager

class Manager(BaseManager):
    pass

Manager.register("upper", str.upper)

def send(connection):
    connection.send_bytes(bytes(3_000_000))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=send, args=(far,))
    process.start()
    print(len(near.recv_bytes()), flush=True)
    process.join()
    with Manager(ctx=context) as manager:
        print(manager.upper("works")._getvalue())
"""


def test_pipes_and_managers_of_multiprocessing_work_in_a_patched_program(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(MANAGER)
    command = [sys.executable, "-m", "streamserve", "run", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["3000000", "WORKS"], done.stderr


def test_a_socket_goes_to_a_process_by_multiprocessing() -> None:
    near, far = socket.socketpair()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=os.write, args=(near.fileno(), b"child"))
    process.start()
    assert far.recv(100) == b"child"
    process.join()
    near.close()
    far.close()
