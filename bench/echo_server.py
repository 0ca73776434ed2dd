"""The server of the echo case: `python -m bench.echo_server LIBRARY PORT`, until it is killed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

LARGEST = 4096


def echo(sock: Any, address: Any) -> None:
    """Sends back what comes, until the client closes."""
    while data := sock.recv(LARGEST):
        sock.sendall(data)


def main() -> None:
    """Serve on the port."""
    server = importlib.import_module(f"{sys.argv[1]}.server")
    server.StreamServer(("127.0.0.1", int(sys.argv[2])), echo, backlog=1024).serve_forever()


if __name__ == "__main__":
    main()
