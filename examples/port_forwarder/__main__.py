"""Forwards a TCP port: each client is connected to another address, in both directions.

python -m examples.port_forwarder 8080 example.org:80
"""

import signal
import sys
from contextlib import suppress
from socket import SHUT_RDWR, SHUT_WR

from streamserve import joinall, signal_handler, spawn
from streamserve.errors import ConfigurationError
from streamserve.green.socket import create_connection, socket
from streamserve.listening.addresses import TcpAddress, parse_address
from streamserve.server import StreamServer

CONNECT_TIMEOUT = 10.0  # seconds


class Direction:
    """What flows one way, over all clients."""

    def __init__(self) -> None:
        self.bytes = 0

    def copy(self, source: socket, destination: socket) -> None:
        """Copies until the source has said all, or one of them is gone."""
        try:
            while data := source.recv(65536):
                destination.sendall(data)  # waits while the other end is slow: nothing piles up here
                self.bytes += len(data)
            destination.shutdown(SHUT_WR)  # only this direction is over
        except OSError:  # one of them is gone, so the other direction is of no use either
            for end in (source, destination):
                with suppress(OSError):
                    end.shutdown(SHUT_RDWR)


class Forwarder:
    """Where to, and what has gone through."""

    def __init__(self, target: TcpAddress) -> None:
        self.target = target
        self.clients = 0
        self.there = Direction()
        self.back = Direction()

    def forward(self, client: socket, address: tuple[str, int]) -> None:
        """Serves one client until both directions are over."""
        self.clients += 1
        try:
            target = create_connection((self.target.host, self.target.port), CONNECT_TIMEOUT)
        except OSError as error:
            print(f"{address[0]}: cannot connect to {self.target}: {error}", file=sys.stderr, flush=True)
            return  # the server closes the client's socket
        target.settimeout(None)
        with target:
            joinall([spawn(self.there.copy, client, target), spawn(self.back.copy, target, client)])

    def __str__(self) -> str:
        return f"{self.clients} clients, {self.there.bytes} bytes to {self.target}, {self.back.bytes} bytes back"


def main(listen: str, target: str) -> None:
    """Forwards until Ctrl-C or SIGTERM, then says what it did."""
    where = parse_address(target)
    if not isinstance(where, TcpAddress) or not where.host:
        raise ConfigurationError(f"{target!r} is no target: give host:port")
    forwarder = Forwarder(where)
    server = StreamServer(listen, forwarder.forward)
    signal_handler(signal.SIGTERM, server.stop)
    server.start()
    print(f"forwarding {server.server_host}:{server.server_port} to {where}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        print(forwarder, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m examples.port_forwarder [HOST:]PORT TARGET_HOST:PORT")
    try:
        main(sys.argv[1], sys.argv[2])
    except ConfigurationError as problem:
        sys.exit(str(problem))
