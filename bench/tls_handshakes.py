"""The client of the handshakes of `python -m bench tls`: connects, resumes its session, says goodbye, over and over.

    python -m bench.tls_handshakes PORT AUTHORITY VERSION CIPHERS CONNECTIONS SECONDS LENGTH SHA256

The arguments are those of tls_load; there is one connection at a time, and nothing is asked for. A handshake counts
once its new ticket has come, by which the server has completed it, and the server has closed in order.
Writes one line of JSON: requests (the handshakes), seconds, and the cipher.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time


class Client:
    """Makes connections to one server, each with the ticket that the one before got."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Connects to 127.0.0.1."""
        self._port = port
        self._context = context
        self._session: ssl.SSLSession | None = None
        self.cipher = ""

    def connect(self) -> None:
        """One connection from its beginning to its end.

        Raises:
            ValueError: the server made a full handshake where it was to resume, or gave no ticket.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with socket.create_connection(("127.0.0.1", self._port), 60) as connection:
            tls = self._context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=self._session)
            while not _stepped(tls.do_handshake):
                connection.sendall(outgoing.read())
                _take(connection, incoming)
            connection.sendall(outgoing.read())
            while not _stepped(tls.read) and not (tls.session and tls.session.has_ticket and self._is_new(tls)):
                _take(connection, incoming)
            if self._session is not None and not tls.session_reused:
                raise ValueError("the session was not resumed")
            self._session = tls.session
            self.cipher = (tls.cipher() or ("none",))[0]
            _stepped(tls.unwrap)
            connection.sendall(outgoing.read())
            while connection.recv(65536):
                pass

    def _is_new(self, tls: ssl.SSLObject) -> bool:
        return self._session is None or tls.session is None or tls.session.id != self._session.id


def _stepped(step: object) -> bool:
    """Whether a step of OpenSSL's is done; False: it wants to read."""
    assert callable(step)
    try:
        step()
    except ssl.SSLWantReadError:
        return False
    return True


def _take(connection: socket.socket, incoming: ssl.MemoryBIO) -> None:
    data = connection.recv(65536)
    if not data:
        raise ValueError("the server closed amid a handshake")
    incoming.write(data)


def main() -> None:
    """Warms up, then counts."""
    port, authority, version, ciphers, _, seconds, _, _ = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if ciphers:
        context.set_ciphers(ciphers)
    client = Client(int(port), context)
    for _ in range(50):
        client.connect()
    print("ready", flush=True)
    sys.stdin.readline()
    count, began = 0, time.monotonic()
    while time.monotonic() - began < float(seconds):
        client.connect()
        count += 1
    print(json.dumps({"requests": count, "seconds": time.monotonic() - began, "cipher": client.cipher}))


if __name__ == "__main__":
    main()
