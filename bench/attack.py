"""The attacker of `python -m bench slowloris`: `python -m bench.attack PORT KIND=COUNT...`.

It holds connections to 127.0.0.1:PORT, so many of each kind:

    heads    a request head without end, a byte at a time
    bodies   a body of 8 KiB, a byte at a time
    reads    requests for pages without pause, of which it takes 16 bytes at a time
    pages    the same, of which it takes nothing
    streams  a request for a stream, of which it takes nothing

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

_BEGIN = {
    "heads": b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ",
    "bodies": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8192\r\n\r\n",
    "reads": b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n" * 40,
    "pages": b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n" * 40,
    "streams": b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
}
_SENDS = ("heads", "bodies")


class Attack:
    """The connections, by descriptor, and what the server did to them."""

    def __init__(self, port: int, kinds: list[str]) -> None:
        """Open all of them: the kind of each."""
        self._port = port
        self._poller = select.epoll()
        self._connections: dict[int, tuple[socket.socket, str, int]] = {}
        self.ended = 0
        for number, kind in enumerate(kinds):
            self._open(number, kind)

    def _open(self, number: int, kind: str) -> None:
        sock = socket.socket()
        if kind not in _SENDS:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)  # else the kernel takes 64 KiB at a time
        sock.settimeout(10)
        sock.bind((f"127.0.0.{2 + number // PER_SOURCE}", 0))
        sock.connect(("127.0.0.1", self._port))
        sock.sendall(_BEGIN[kind])
        sock.setblocking(False)
        self._connections[sock.fileno()] = sock, kind, number
        self._poller.register(sock, select.EPOLLRDHUP | (select.EPOLLIN if kind in _SENDS else 0))

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
            if kind in _SENDS:
                sock.send(b"x")
            elif kind == "reads":
                sock.recv(16)

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
    kinds = [kind for kind, _, count in (word.partition("=") for word in sys.argv[2:]) for _ in range(int(count))]
    attack = Attack(int(sys.argv[1]), kinds)
    print(f"open {len(kinds)}", flush=True)
    attack.run()


if __name__ == "__main__":
    main()
