"""A drawing board that everyone who opens the page shares.

Strokes are binary messages, who is here is a text message, and no client costs a greenlet: a member's methods run when
a message comes. All state belongs to one process and changes between two waits, so it needs no lock.

What a client sends begins with a byte that says what it is:

    1  a piece of a stroke: the width (1 byte), then points (x and y, 2 bytes each, big-endian, 65536 to the board)
    2  the question for the round-trip time: 8 bytes, which come back as they are
    3  the wish to clear the board

and what it gets:

    1  a piece of someone else's stroke: the colour (3 bytes), the width and the points
    2  the answer to its question
    3  the board was cleared
    4  first of all: its own colour, then all pieces that there are, each behind its length (2 bytes)
"""

import json
from collections import Counter, deque
from pathlib import Path
from typing import Any

from streamserve.websocket import Resource, WebSocket, WebSocketApplication, broadcast

STROKE, ECHO, CLEAR, BOARD = range(1, 5)
POINTS = 256  # in one piece of a stroke
ECHO_LENGTH = 9

# The newest pieces, for who comes later. It is less than the `websocket_queue` of the server: a newcomer who has not
# taken the board yet must have room for what is drawn meanwhile.
HISTORY = 512 * 1024

COLOURS = [bytes.fromhex(colour) for colour in (
    "d1495b 00798c c77d0a 6a4c93 2a7f3f 2667c9 b5479e 7a5230 00838f e0561b 4e6e0e 51555e".split()
)]  # fmt: skip

PAGE = (Path(__file__).parent / "index.html").read_bytes()
HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", str(len(PAGE))),
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self';"
        " frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
]


class Board:
    """The pieces that were drawn, of which the oldest go when there are too many, and who is here."""

    def __init__(self) -> None:
        self.members: dict[WebSocket, bytes] = {}
        self.pieces: deque[bytes] = deque()
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(len(piece).to_bytes(2, "big") + piece)
        self.size += len(piece) + 2
        while self.size > HISTORY:
            self.size -= len(self.pieces.popleft())

    def clear(self) -> None:
        self.pieces.clear()
        self.size = 0

    def free_colour(self) -> bytes:
        """One that the fewest have."""
        taken = Counter(self.members.values())
        return min(COLOURS, key=lambda colour: taken[colour])

    def tell_who_is_here(self) -> None:
        here = ["#" + colour.hex() for colour in self.members.values()]
        broadcast(self.members, json.dumps({"here": here}))


board = Board()


class Member(WebSocketApplication):
    """A page that is open."""

    def on_open(self) -> None:
        self.colour = board.members[self.ws] = board.free_colour()
        # Nothing waits between these two lines, so no piece is missed and none comes twice.
        self.ws.send(bytes([BOARD]) + self.colour + b"".join(board.pieces))
        board.tell_who_is_here()

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.ws.close(1003, "this board takes binary messages")
            return
        match message[:1]:
            case b"\x01" if is_stroke(message):
                self.draw(message)
            case b"\x02" if len(message) == ECHO_LENGTH:
                self.ws.send(message)
            case b"\x03" if len(message) == 1:
                board.clear()
                broadcast(board.members, message)
            case _:
                self.ws.close(1008, "this is nothing that the board knows")

    def draw(self, message: bytes) -> None:
        piece = bytes([STROKE]) + self.colour + message[1:]
        board.add(piece)
        broadcast([member for member in board.members if member is not self.ws], piece)

    def on_close(self, reason: str) -> None:
        del board.members[self.ws]
        board.tell_who_is_here()


def is_stroke(message: bytes) -> bool:
    """A width that is none is no harm, but points must be whole, and few enough for one piece."""
    length = len(message) - 2
    return 4 <= length <= 4 * POINTS and length % 4 == 0 and message[1] > 0


def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [PAGE]


app = Resource({"/$": page, "/board$": Member})
