"""The client of `python -m bench tls`: asks for one thing over and over, on a few connections in turn, and checks it.

    python -m bench.tls_load PORT AUTHORITY VERSION CIPHERS CONNECTIONS SECONDS LENGTH SHA256

Writes one line of JSON: requests, seconds, the cipher, and what was wrong.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import sys
import time

REQUEST = b"GET /body HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(port: int, authority: str, version: str, ciphers: str) -> ssl.SSLSocket:
    """A connection that speaks exactly this version."""
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if ciphers:
        context.set_ciphers(ciphers)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname="localhost")


def ask(client: ssl.SSLSocket, buffer: memoryview, length: int) -> memoryview:
    """Returns the body of one response, inside the buffer.

    Raises:
        ValueError: the response is not a 200 of this length.
    """
    client.sendall(REQUEST)
    size = client.recv_into(buffer)
    head, end, _ = bytes(buffer[: min(size, 4096)]).partition(b"\r\n\r\n")
    if not end or not head.startswith(b"HTTP/1.1 200 ") or b"content-length: %d" % length not in head.lower():
        raise ValueError(f"not the response that was asked for: {head[:200]!r}")
    whole = len(head) + 4 + length
    while size < whole:
        count = client.recv_into(buffer[size:whole])
        if not count:
            raise ValueError(f"the connection ended {whole - size} bytes early")
        size += count
    return buffer[len(head) + 4 : whole]


def main() -> None:
    """Warms up and checks every byte, then loads and checks lengths."""
    port, authority, version, ciphers, connections, seconds, length, digest = sys.argv[1:]
    buffer = memoryview(bytearray(int(length) + 8192))
    clients = [connect(int(port), authority, version, ciphers) for _ in range(int(connections))]
    for client in clients:
        if hashlib.sha256(ask(client, buffer, int(length))).hexdigest() != digest:
            raise ValueError("the body is not the one that was to come")
    print("ready", flush=True)
    sys.stdin.readline()
    requests, began = 0, time.monotonic()
    while time.monotonic() - began < float(seconds):
        for client in clients:
            ask(client, buffer, int(length))
        requests += len(clients)
    cipher = clients[0].cipher()
    print(json.dumps({"requests": requests, "seconds": time.monotonic() - began, "cipher": cipher and cipher[0]}))


if __name__ == "__main__":
    main()
