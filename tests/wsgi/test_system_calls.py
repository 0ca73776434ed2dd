"""At most three system calls a request, and none of them epoll_ctl: idea 4 of the design."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.server import eventually

CONNECTIONS = 64
WARM_UP = 4
ROUNDS = 50
GET = b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: counted\r\n\r\n"
SERVER = """
import os
from streamserve.wsgi import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

server = WSGIServer("127.0.0.1:0", app)
print(server.address[1], os.getpid(), flush=True)
server.serve_forever()
"""
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)")


def calls(trace: Path) -> list[str]:
    """The names of the system calls in the order in which they began."""
    lines = trace.read_text(errors="replace").splitlines()
    return [match[1] for line in lines if " resumed>" not in line and (match := CALL.match(line))]


def ask_all(clients: list[Client]) -> None:
    for client in clients:
        client.send(GET)
    for client in clients:
        assert client.response().body == b"hello"


@pytest.mark.foreign
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_three_system_calls_a_request_and_no_epoll_ctl(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), sys.executable, "-c", SERVER]
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=environ, text=True) as process:
        pid = process.pid
        try:
            assert process.stdout is not None
            port, pid = map(int, process.stdout.readline().split())
            address = ("127.0.0.1", port)
            clients = [Client(address) for _ in range(CONNECTIONS)]
            for _ in range(WARM_UP):
                ask_all(clients)
            eventually(lambda: trace.read_text(errors="replace").count("sendto(") >= CONNECTIONS * WARM_UP, "warm")
            before = len(calls(trace))
            for _ in range(ROUNDS):
                ask_all(clients)
            everything = CONNECTIONS * (WARM_UP + ROUNDS)
            eventually(lambda: Counter(calls(trace))["sendto"] >= everything, "all of it is written")
            made = Counter(calls(trace)[before:])
            for client in clients:
                client.close()
        finally:
            os.kill(pid, signal.SIGKILL)  # strace ends with what it traces
    requests = CONNECTIONS * ROUNDS
    assert made["recvfrom"] <= requests + 1 and made["sendto"] <= requests + 1, made
    assert made["epoll_ctl"] == made["accept4"] == made["mmap"] == 0, made
    assert sum(made.values()) <= 3 * requests, made
