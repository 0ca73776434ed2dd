"""Servers in processes of their own: Ctrl-C, forked workers, and no descriptors left."""

import os
import signal
import socket
from contextlib import ExitStack

from tests.support.program import line, program

PATIENCE = 60.0  # seconds; only a failing test waits so long


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


CTRL_C = """
from streamserve.server import StreamServer
from streamserve.sync.event import Event

def handle(client, address):
    try:
        client.sendall(b"in")
        Event().wait()
    finally:
        print("handler ended")

server = StreamServer("127.0.0.1:0", handle)
server.start()
print(server.server_port)
try:
    server.serve_forever(0.01)
except KeyboardInterrupt:
    print("interrupted", server.closed, server.active)
"""


def test_ctrl_c_stops_the_server_and_ends_handlers() -> None:
    with program(CTRL_C) as process, connect(int(line(process))) as client:
        assert client.recv(2) == b"in"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (output, errors, process.returncode) == ("handler ended\ninterrupted True 0\n", "", 0)
        assert client.recv(1) == b""


WORKERS = """
import os, signal, sys
from streamserve import signal_handler
from streamserve.server import StreamServer

def handle(client, address):
    client.recv(1)
    client.sendall(b"%d" % os.getpid())

server = StreamServer("127.0.0.1:0", handle)
server.init_socket()
if "started" in sys.argv:
    server.start()
children = []
ready = os.pipe()
for _ in range(2):
    child = os.fork()
    if child == 0:
        signal_handler(signal.SIGTERM, server.stop)
        server.start()
        os.write(ready[1], b"1")
        server.serve_forever()
        os._exit(0)
    children.append(child)
server.close()
for _ in children:
    os.read(ready[0], 1)
print(server.server_port, *children)
for child in children:
    print(child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def serve_by_workers(source: str) -> None:
    with program(source) as process:
        port, *children = map(int, line(process).split())
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(20)]
            for client in clients:
                client.sendall(b"x")
            servers = {int(client.recv(20)) for client in clients}
        assert servers <= set(children)
        for child in children:
            os.kill(child, signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (output.splitlines(), errors) == ([f"{child} 0" for child in children], "")


def test_forked_workers_share_a_listener() -> None:
    serve_by_workers(WORKERS)


def test_fork_of_a_started_server_leaves_the_child_one_that_can_start() -> None:
    serve_by_workers(WORKERS.replace('if "started" in sys.argv', "if True"))


NO_DESCRIPTORS = """
import resource, signal
from streamserve import get_hub, signal_handler, sleep, spawn
from streamserve.core import ffi, lib
from streamserve.server import StreamServer

def handle(client, address):
    while data := client.recv(100):
        client.sendall(data)

def tell():
    while not server.accept_failures:
        sleep(0.01)
    before = polls()
    sleep(0.3)
    print(server.active, polls() - before)

def polls():
    counts = ffi.new("int64_t[]", lib.SS_COUNT_KINDS)
    lib.ss_counts(get_hub().core, counts)
    return counts[lib.SS_COUNT_POLLS]

server = StreamServer("127.0.0.1:0", handle)
signal_handler(signal.SIGTERM, server.stop, 0)
server.start()
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
spawn(tell)
print(server.server_port)
server.serve_forever()
print("stopped")
"""


def answer(client: socket.socket) -> bytes:
    """What the server says to a client: b"" to one that it refused."""
    try:
        client.sendall(b"ping")
        return client.recv(4, socket.MSG_WAITALL)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def test_no_descriptors_left_neither_spins_nor_ends_the_server() -> None:
    """Some thirty of sixty clients fit in. The others wait for them to go, but for a few that are refused."""
    with program(NO_DESCRIPTORS) as process, ExitStack() as stack:
        port = int(line(process))
        clients = [stack.enter_context(connect(port)) for _ in range(60)]
        active, polls = map(int, line(process).split())
        assert 10 < active < 40
        assert polls < 100  # a loop that spins makes tens of thousands
        answers = []
        for client in clients:
            answers.append(answer(client))
            client.close()  # its descriptor serves the next one
        assert set(answers) <= {b"ping", b""}
        assert answers.count(b"ping") >= active
        with connect(port) as client:
            assert answer(client) == b"ping"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (output, process.returncode) == ("stopped\n", 0)
        assert "accepting failed: Too many open files; it pauses for a second; raise the limit" in errors
