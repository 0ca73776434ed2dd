"""The client of `python -m bench beside`: `python -m bench.download PORT` reads /table.csv again and again.

`open 1` is printed when the first answer has begun; for each line on standard input, `megabytes N`: that came since.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from bench.apps.table import SIZE

REQUEST = b"GET /table.csv HTTP/1.1\r\nHost: h\r\n\r\n"
END = b"\r\n0\r\n\r\n"


def main() -> None:
    """Download until the end of input."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # the quick clients' latency is not to be ours
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    room = bytearray(1 << 16)
    came = told = of_this = 0
    tail = b""
    client.sendall(REQUEST)
    while True:
        ready, _, _ = select.select([0, client], [], [])
        if client in ready:
            count = client.recv_into(room)
            if not came:
                print("open 1", flush=True)
            came += count
            of_this += count
            tail = (tail + room[max(0, count - len(END)) : count])[-len(END) :]
            if not count or (tail == END and of_this < SIZE):
                sys.exit("the table broke off")
            if tail == END:
                of_this = 0
                client.sendall(REQUEST)
        if 0 in ready:
            if not os.read(0, 4096):
                return
            print(f"megabytes {(came - told) // 1_000_000}", flush=True)
            told = came


if __name__ == "__main__":
    main()
