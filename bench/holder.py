"""The client that holds idle connections: `python -m bench.holder PORT COUNT`.

It opens COUNT keep-alive connections to 127.0.0.1:PORT one after another, asks once on each and compares the answer,
prints `open N`, then waits. For each line on standard input it prints `alive N`: the connections that the server has
neither closed nor written to. End of input ends it.
"""

from __future__ import annotations

import select
import socket
import sys

from bench.probe import check, read_answer, request_bytes


def open_connections(port: int, count: int) -> list[socket.socket]:
    """Open the connections, one checked request on each."""
    request = request_bytes(port)
    sockets = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        sock.sendall(request)
        check(read_answer(sock))
        sockets.append(sock)
    return sockets


def count_alive(sockets: list[socket.socket]) -> int:
    """How many connections have nothing to read: no end of file, no stray byte."""
    poller = select.poll()
    for sock in sockets:
        poller.register(sock, select.POLLIN)
    return len(sockets) - len(poller.poll(0))


def main() -> None:
    """Open, report, answer questions."""
    sockets = open_connections(int(sys.argv[1]), int(sys.argv[2]))
    print(f"open {len(sockets)}", flush=True)
    for _ in sys.stdin:
        print(f"alive {count_alive(sockets)}", flush=True)


if __name__ == "__main__":
    main()
