"""Load for a broadcast by Socket.IO, in the clear or over TLS: `python -m bench.sio_load PORT CLIENTS plain|tls`.

What ws_load.c does for `broadcast`, in Python, which has TLS; it is as slow either way, so that the server finds the
same in both. Connects the clients by WebSocket, joins the default namespace, prints "open N". Then, for each line
"broadcast COUNT SIZE" on standard input, the first client sends an event that all must get, COUNT times, and it
prints "done N": how many came. Each byte is compared.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from typing import Any

HANDSHAKE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CIPHER = "TLS_AES_256_GCM_SHA384"
WAIT_SECONDS = 60.0
MASK = b"\x37\xfa\x21\x3d"


def frame(text: bytes, masked: bool) -> bytes:
    """A text frame of a short message, or of a medium one."""
    size = len(text)
    mark = 128 if masked else 0
    head = bytes((0x81, mark | size)) if size < 126 else bytes((0x81, mark | 126)) + size.to_bytes(2, "big")
    if not masked:
        return head + text
    return head + MASK + bytes(byte ^ MASK[index & 3] for index, byte in enumerate(text))


class Client:
    """One connection that has joined the default namespace."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        """Connects to 127.0.0.1.

        Raises:
            ValueError: what came is not the protocol, or another cipher was agreed on.
        """
        self.socket: Any = socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
        self.pending: Any = int
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.pending = self.socket.pending
            if self.socket.cipher()[0] != CIPHER:
                raise ValueError(f"the cipher was {self.socket.cipher()[0]}, not {CIPHER}")
        self.got = b""
        self.socket.sendall(HANDSHAKE)
        self._expect(b"0{")
        self.socket.sendall(frame(b"40", True))
        self._expect(b"40{")
        self.got = b""

    def _expect(self, text: bytes) -> None:
        while text not in self.got or not self.got.endswith(b"}"):
            self.receive()

    def receive(self) -> None:
        """What is there; waits if there is nothing."""
        while True:
            data = self.socket.recv(65536)
            if not data:
                raise ValueError(f"the server closed a connection behind {self.got[:200]!r}")
            self.got += data
            if not self.pending():
                return


def broadcast(clients: list[Client], poller: select.epoll, count: int, size: int) -> int:
    """How many messages came to all clients together."""
    by_descriptor = {client.socket.fileno(): client for client in clients}
    packet = b'42["all","%b"]' % (b"x" * size)
    request, answer = frame(packet, True), frame(packet, False)
    delivered = 0
    for _ in range(count):
        clients[0].socket.sendall(request)
        missing = len(clients)
        while missing:
            events = poller.poll(WAIT_SECONDS)
            if not events:
                raise ValueError("nothing came for a minute")
            for descriptor, _ in events:
                client = by_descriptor[descriptor]
                client.receive()
                if not answer.startswith(client.got):
                    raise ValueError("a message differs from what must come")
                if client.got == answer:
                    client.got = b""
                    missing -= 1
                    delivered += 1
    return delivered


def main() -> None:
    """Connects, and obeys."""
    port, number, how = sys.argv[1:]
    context = None
    if how == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # whom it is connected to does not matter here
    clients = [Client(int(port), context) for _ in range(int(number))]
    poller = select.epoll()
    for client in clients:
        poller.register(client.socket.fileno(), select.EPOLLIN)
    print(f"open {len(clients)}", flush=True)
    for line in sys.stdin:
        _, count, size = line.split()
        print(f"done {broadcast(clients, poller, int(count), int(size))}", flush=True)


if __name__ == "__main__":
    main()
