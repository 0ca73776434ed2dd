"""Requests as the load generator sends them, and one connection that checks an answer byte for byte."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from bench.apps.hello import BODY

BROWSER_HEADERS = (
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", '"Not)A;Brand";v="8", "Chromium";v="138", "Google Chrome";v="138"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
)
"""With Host these are the 14 fields that a desktop browser sends for a page."""


class WrongAnswer(Exception):
    """A response is not the one that the application gives; the message says in what."""


@dataclass(frozen=True)
class Answer:
    """One response: its status, its header fields with lower-case names, its body, and its length on the wire."""

    status: int
    fields: dict[str, str]
    body: bytes
    length: int


def request_bytes(port: int, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The request of a run: Host, then the given fields."""
    lines = [f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    return "".join([*lines, "\r\n"]).encode("ascii")


def read_answer(sock: socket.socket) -> Answer:
    """Read exactly one response with a Content-Length.

    Raises:
        WrongAnswer: The connection ended early, the head is malformed, or bytes follow the body.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock, data)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if version != "HTTP/1.1" or not rest[:3].isdigit():
        raise WrongAnswer(f"status line {lines[0]!r}")
    if not fields.get("content-length", "").isdigit():
        raise WrongAnswer(f"Content-Length is {fields.get('content-length')!r}")
    while len(body) < int(fields["content-length"]):
        body += _receive(sock, body)
    return Answer(int(rest[:3]), fields, body, len(head) + 4 + len(body))


def check(answer: Answer) -> None:
    """Compare an answer with what bench.apps.hello gives.

    Raises:
        WrongAnswer: Status, type, length or body differ.
    """
    wanted = (200, "text/plain", str(len(BODY)), BODY)
    fields = answer.fields
    got = (answer.status, fields.get("content-type"), fields.get("content-length"), answer.body)
    if got != wanted:
        raise WrongAnswer(f"expected {wanted}, got {got}")


def probe(port: int, headers: tuple[tuple[str, str], ...] = (), timeout: float = 5.0) -> int:
    """Ask twice on one connection, check both answers, and return the length of an answer on the wire.

    Raises:
        WrongAnswer: An answer is wrong, or the two differ in length.
        OSError: The server cannot be reached, or is silent for `timeout` seconds.
    """
    request = request_bytes(port, headers)
    lengths = []
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        for _ in range(2):
            sock.sendall(request)
            answer = read_answer(sock)
            check(answer)
            lengths.append(answer.length)
    if lengths[0] != lengths[1]:
        raise WrongAnswer(f"two answers of different lengths: {lengths}")
    return lengths[0]


def _receive(sock: socket.socket, so_far: bytes) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise WrongAnswer(f"connection closed after {so_far[:200]!r}")
    return data
