"""`python -m bench.soak`: mixed load on streamserve for a while, and what it leaves behind.

Uploads and large downloads that are broken off, streams that are left, heads cut short and random bytes, from many
threads, with the watchdog looking a hundred times a second and the collector keeping what it finds (gc.DEBUG_SAVEALL).
The exit code is 1 if the server died, a cycle was left, descriptors or memory grew.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from bench.server import free_port

GROWTH = 1.25
"""At most this many times the memory of the first quarter."""

CHUNKED = b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nthis is no size\r\n"

LOADED_APP = """
import gc
import os
from collections import Counter
from types import FrameType, TracebackType
from streamserve import sleep

def app(environ, start_response):
    path = environ["PATH_INFO"]
    size = 0
    if path == "/begin":
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
    elif path == "/upload":
        while data := environ["wsgi.input"].read(65536):
            size += len(data)
    elif path == "/fail":
        raise ValueError
    elif path == "/wait":
        sleep(0.001)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"data: %d\\n\\n" % number for number in range(20) if sleep(0.001) is None)
    if path == "/large":
        return [b"x" * 300_000]
    if path == "/garbage":
        gc.collect()
        return [repr(Counter(type(thing).__name__ for thing in gc.garbage)).encode()]
    return [b"hello"]
"""
KINDS = [
    lambda dice: (b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", 100),
    lambda dice: (
        b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * dice.randrange(100_001), 0
    ),
    lambda dice: (CHUNKED, 100),
    lambda dice: (b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", dice.choice([10, 100_000])),
    lambda dice: (b"GET /wait?%d HTTP/1.1\r\nHost: x\r\n\r\n" % dice.getrandbits(20), 100),
    lambda dice: (b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n", 100),
    lambda dice: (dice.randbytes(dice.randrange(1, 200)), 0),
    lambda dice: (b"GET / HTTP/1.1\r\nHos"[: dice.randrange(1, 19)], 0),
]  # fmt: skip


def make_load(address: tuple[str, int], seed: int, count: int, until: float = math.inf) -> None:
    """Makes so many connections, or until that time of time.monotonic(); half of them end with a reset."""
    dice = random.Random(seed)
    for _ in range(count):
        if time.monotonic() > until:
            return
        with suppress(OSError), socket.create_connection(address, 10) as client:
            request, size = dice.choice(KINDS)(dice)
            client.sendall(request)
            if size:
                client.recv(size)
            if dice.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _state(pid: int) -> tuple[int, int]:
    """KiB of resident memory, and open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def _begin(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _ask(port, "/begin")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def soak(python: Path, seconds: float, threads: int) -> list[str]:
    """Runs the load; returns what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "loaded.py").write_text(LOADED_APP)
        port = free_port()
        command = [
            str(python),
            "-m",
            "streamserve",
            "loaded:app",
            "--bind",
            f"127.0.0.1:{port}",
            "--block-warning",
            "80ms",
        ]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as server:
            try:
                _begin(port)
                return _load(server, port, seconds, threads)
            finally:
                server.terminate()


def _load(server: subprocess.Popen[bytes], port: int, seconds: float, threads: int) -> list[str]:
    until = time.monotonic() + seconds
    workers = [
        threading.Thread(target=make_load, args=(("127.0.0.1", port), seed, sys.maxsize, until))
        for seed in range(threads)
    ]
    for worker in workers:
        worker.start()
    time.sleep(seconds / 4)
    early = _state(server.pid) if server.poll() is None else (0, 0)
    for worker in workers:
        worker.join()
    if server.poll() is not None:
        return [f"the server ended with {server.returncode}"]
    time.sleep(1)  # what was cut off lingers for a while
    memory, descriptors = _state(server.pid)
    garbage = _ask(port, "/garbage")
    print(f"{seconds:g} s: RSS {early[0]:,} to {memory:,} KiB, {descriptors} descriptors at the end, garbage {garbage}")
    wrong = [] if garbage == "Counter()" else [f"cycles were left: {garbage}"]
    if memory > early[0] * GROWTH:
        wrong.append(f"memory grew from {early[0]:,} to {memory:,} KiB")
    if descriptors > 50:
        wrong.append(f"{descriptors} descriptors are open")
    return wrong


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="an interpreter with streamserve")
    options = parser.parse_args()
    wrong = soak(options.python, options.seconds, options.threads)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
