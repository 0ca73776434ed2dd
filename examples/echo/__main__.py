"""An echo server: whatever a client sends comes back."""

import signal
import socket
import sys

from streamserve import signal_handler
from streamserve.errors import ConfigurationError
from streamserve.server import StreamServer


def echo(client: socket.socket, address: tuple[str, int]) -> None:
    """Runs in a greenlet of its own for each client; the server closes the socket afterwards."""
    print(f"{address[0]}:{address[1]} came", flush=True)
    while data := client.recv(65536):  # b"" once the client has sent all it wants to
        client.sendall(data)
    print(f"{address[0]}:{address[1]} went", flush=True)


def main(where: str = "127.0.0.1:7000") -> None:
    """Serves until Ctrl-C or SIGTERM."""
    try:
        server = StreamServer(where, echo)
        signal_handler(signal.SIGTERM, server.stop)
        server.start()
        print(f"echoing on {server.server_host}:{server.server_port}", flush=True)
        server.serve_forever()
    except ConfigurationError as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:2])
