"""What a request-and-response loop over green sockets asks of the kernel: its calls, and one poll for many."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
]

PATIENCE = 120  # seconds; only a failing test waits so long
ROUNDS = 500
MARK = "/steady-state"  # what the loop looks for when it has warmed up and when it is done
LOOP = f"""
import os, sys
from streamserve import joinall, spawn
from streamserve.green import socket

def connected():
    if sys.argv[1] == "socketpair":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]

def asks(sock, count):
    for _ in range(count):
        sock.sendall(b"what?")
        assert sock.recv(4096) == b"that."

def answers(sock, count):
    for _ in range(count):
        assert sock.recv(4096) == b"what?"
        sock.sendall(b"that.")

client, server = connected()
timeout = None if sys.argv[2] == "None" else float(sys.argv[2])
client.settimeout(timeout)
server.settimeout(timeout)
for count in (10, {ROUNDS}, 10):
    joinall([spawn(asks, client, count), spawn(answers, server, count)], raise_error=True)
    os.path.exists("{MARK}")
"""
CALL = re.compile(r"^\d+ +([a-z_0-9]+)\(.*? = (-?\d+|\?)(?: (E[A-Z]+))?")


def steady_state(trace: Path) -> list[tuple[str, str | None]]:
    """Names and errors of the system calls between the first two marks."""
    parts = trace.read_text(errors="replace").split(MARK)
    assert len(parts) == 4, "three marks"
    return [(match[1], match[3]) for line in parts[1].splitlines() if (match := CALL.match(line))]


@pytest.mark.parametrize("timeout", ["None", "30"])
@pytest.mark.parametrize("kind", ["socketpair", "tcp"])
def test_a_request_and_response_makes_no_call_but_those_that_move_bytes_and_poll(
    tmp_path: Path, kind: str, timeout: str
) -> None:
    trace = tmp_path / "trace"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["strace", "-f", "-o", str(trace), sys.executable, "-c", LOOP, kind, timeout],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = steady_state(trace)
    made = Counter(name for name, _ in calls)
    failed = [call for call in calls if call[1]]
    assert made["sendto"] == made["recvfrom"] == 2 * ROUNDS, made
    assert failed == [], "no EAGAIN"
    assert made["epoll_ctl"] == made["getpid"] == 0, made
    polls = made.pop("epoll_wait", 0) + made.pop("epoll_pwait2", 0) + made.pop("epoll_pwait", 0)
    assert polls <= 2 * ROUNDS + 10, "one for each message that is waited for"
    others = {name: count for name, count in made.items() if name not in ("sendto", "recvfrom")}
    assert sum(others.values()) < ROUNDS / 10, f"nothing else per request: {others}"
