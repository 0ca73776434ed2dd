"""permessage-deflate (RFC 7692): what is agreed, what is compressed, and what a client's messages may cost."""

import threading
import tracemalloc
import zlib
from typing import Any

import pytest
from websockets.sync.client import connect as open_websockets_client

from streamserve.core import lib
from streamserve.loop.joining import sleep
from streamserve.websocket import Resource, WebSocket, WebSocketApplication, broadcast
from streamserve.websocket.deflate import BadMessage, Deflate, agreement, inflated
from streamserve.websocket.inbox import MESSAGE
from tests.support.client import Client
from tests.support.frames import frame
from tests.support.server import Running, eventually
from tests.websocket.conftest import Connect, Serve
from tests.websocket.test_websocket import HANDSHAKE, echo

TEXT, BINARY, CLOSE = lib.SS_WS_TEXT, lib.SS_WS_BINARY, lib.SS_WS_CLOSE
RSV1 = ("rsv1",)
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LONG = "how much wood would a woodchuck chuck " * 100


def deflated(data: bytes, bits: int = 15) -> bytes:
    packer = zlib.compressobj(wbits=-bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bomb(mebibytes: int) -> bytes:
    """A payload that inflates to so many MiB of zeros, and is a thousandth of that."""
    packer = zlib.compressobj(wbits=-15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return (piece * mebibytes)[:-4]


def upgraded(server: Running, extensions: bytes = b"permessage-deflate") -> Client:
    """A client whose offer was accepted."""
    client = server.client()
    client.send(HANDSHAKE + b"Sec-WebSocket-Extensions: " + extensions + b"\r\n\r\n")
    head = client.head()
    assert (head.status, head.get("sec-websocket-extensions")) == (101, AGREED)
    return client


def next_frame(client: Client) -> tuple[int, bool, bytes]:
    """Opcode, whether it is compressed, and the payload."""
    first, length = client.exactly(2)
    if length >= 126:
        length = int.from_bytes(client.exactly(2 if length == 126 else 8), "big")
    return first & 15, bool(first & 64), client.exactly(length)


# ---- the agreement


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("permessage-deflate", AGREED),
        ("Permessage-Deflate ; Client_Max_Window_Bits", AGREED),
        ("permessage-deflate; client_max_window_bits=8", AGREED),
        ('permessage-deflate; client_max_window_bits="10"', AGREED),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", AGREED),
        ("permessage-deflate; server_max_window_bits=15", AGREED + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=12", AGREED + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=11", None),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", AGREED),
        ("x-webkit-deflate-frame, foo; bar=1, permessage-deflate", AGREED),
        ("", None),
        ("permessage-bzip2", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=012", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=\u0661\u0662", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; =1", None),
        ("permessage-deflate; client_max_window_bits=", None),
        ('permessage-deflate; client_max_window_bits="10', None),
        ("permessage-deflate, \xff\xfe", None),
        (";", None),
    ],
)
def test_an_offer_is_taken_only_where_it_can_be_kept(offered: str, answer: str | None) -> None:
    assert agreement(offered) == answer


@pytest.mark.parametrize("compression", ["off", "on"])
def test_compression_is_a_setting(serve: Serve, compression: str) -> None:
    with serve(echo, websocket_compression=compression).client() as client:
        client.send(HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        assert client.head().get("sec-websocket-extensions") == (AGREED if compression == "on" else None)


def test_what_was_not_agreed_is_a_violation(serve: Serve) -> None:
    server = serve(echo, websocket_compression="on")
    for offer in [b"", b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n"]:
        upgraded(server)  # the agreement of another connection is not this one's
        with server.client() as client:
            client.send(HANDSHAKE + offer + b"\r\n")
            assert client.head().get("sec-websocket-extensions") is None
            client.send(frame(TEXT, LONG.encode()))
            assert next_frame(client) == (TEXT, False, LONG.encode())
            client.send(frame(TEXT, deflated(b"x"), options=RSV1))
            assert next_frame(client) == (CLOSE, False, b"\x03\xea")


# ---- messages


def test_short_messages_are_sent_as_they_are_and_long_ones_compressed(serve: Serve) -> None:
    client = upgraded(serve(echo, websocket_compression="on", websocket_compression_threshold=100))
    for text in ["x" * 99, "x" * 100, LONG, "", "grüße" * 1000]:
        client.send(frame(TEXT, deflated(text.encode()), options=RSV1))
        opcode, compressed, payload = next_frame(client)
        assert (opcode, compressed) == (TEXT, len(text) >= 100)
        data = zlib.decompressobj(wbits=-12).decompress(payload + b"\x00\x00\xff\xff") if compressed else payload
        assert data == text.encode()


def test_a_message_that_compression_does_not_shorten_is_sent_as_it_is() -> None:
    noise = bytes(byte * 197 % 256 for byte in range(256))
    assert Deflate(0, 1 << 20).pack(noise) == (noise, 0)


def test_each_message_is_compressed_by_itself(serve: Serve) -> None:
    client = upgraded(serve(echo, websocket_compression="on"))
    client.send(frame(TEXT, LONG.encode()) * 2)
    first, second = next_frame(client), next_frame(client)
    assert first == second and first[1], "the second leans on nothing of the first"


def test_fragments_of_a_compressed_message_are_put_together(serve: Serve) -> None:
    client = upgraded(serve(echo, websocket_compression="on", websocket_compression_threshold=1 << 20))
    payload = deflated(LONG.encode())
    client.send(frame(TEXT, payload[:7], fin=False, options=RSV1) + frame(0, payload[7:]))
    assert next_frame(client) == (TEXT, False, LONG.encode())
    large = b"".join(number.to_bytes(4, "big") for number in range(50_000))
    client.send(frame(BINARY, deflated(large), options=RSV1))
    assert len(deflated(large)) > lib.SS_WS_SMALL
    assert next_frame(client) == (BINARY, False, large)


def test_a_payload_may_end_by_a_last_block() -> None:
    assert inflated(bytes.fromhex("f348cdc9c9070000"), 100) == b"Hello"  # RFC 7692 section 7.2.3.4
    assert inflated(bytes.fromhex("f24805000000ffffcac9c90700"), 100) == b"Hello"  # section 7.2.3.5: two blocks
    assert inflated(bytes.fromhex("000500faff48656c6c6f00"), 100) == b"Hello"  # section 7.2.3.3: not compressed


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_a_client_chooses_its_window(bits: int) -> None:
    data = bytes(range(256)) * 400
    assert inflated(deflated(data, bits), len(data)) == data


# ---- bad ones


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xff\xff\xff", 1007),
        (b"", 1007),
        (deflated(LONG[:500].encode())[:-3], 1007),
        (bytes.fromhex("f348cdc9c9070000") + b"more", 1007),
        (deflated(bytes(1001)), 1009),
        (bomb(20), 1009),
    ],
    ids=["noise", "nothing", "cut", "more behind the last block", "a byte too many", "bomb"],
)
def test_what_cannot_be_inflated_within_the_limit_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(BadMessage) as caught:
        inflated(payload, 1000)
    assert caught.value.code == code
    assert inflated(deflated(bytes(1000)), 1000) == bytes(1000)


def test_a_bomb_of_a_gigabyte_costs_no_more_than_a_message() -> None:
    payload = bomb(1024)
    tracemalloc.start()
    try:
        with pytest.raises(BadMessage, match="1009"):
            inflated(payload, 16 << 20)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("payload", "opcode", "code"),
    [
        (bomb(20), BINARY, 1009),
        (b"\xff\xff\xff", BINARY, 1007),
        (deflated(b"\xc3("), TEXT, 1007),
        (deflated(b"abc\xc3"), TEXT, 1007),
    ],
    ids=["bomb", "noise", "bad UTF-8", "half a character"],
)
def test_a_bad_compressed_message_ends_its_connection_alone(
    serve: Serve, payload: bytes, opcode: int, code: int
) -> None:
    ends: list[Any] = []

    def keeps(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket: WebSocket = environ["wsgi.websocket"]
        for message in websocket:
            websocket.send(message)
        ends.append(websocket.close_code)
        return []

    server = serve(keeps, websocket_compression="on")
    other, client = upgraded(server), upgraded(server)
    client.send(frame(TEXT, b"before"))
    assert next_frame(client) == (TEXT, False, b"before")
    client.send(frame(opcode, payload, options=RSV1) + frame(TEXT, b"behind"))
    assert next_frame(client) == (CLOSE, False, code.to_bytes(2, "big"))
    client.send(frame(CLOSE, code.to_bytes(2, "big")))
    assert client.ended()
    assert eventually(lambda: ends, "the application sees the end") == [code]
    other.send(frame(TEXT, b"still here"))
    assert next_frame(other) == (TEXT, False, b"still here")


def test_a_handler_is_told_once_of_the_end_that_a_bad_message_makes(serve: Serve) -> None:
    told: list[Any] = []

    class Room(WebSocketApplication):
        def on_message(self, message: str | bytes) -> None:
            told.append(message)

        def on_close(self, reason: str) -> None:
            told.append(self.ws.close_code)

    client = upgraded(serve(Resource({"/": Room}), websocket_compression="on"))
    good = frame(TEXT, deflated(b"good"), options=RSV1)
    client.send(good + frame(TEXT, b"\xff\xff", options=RSV1) + good + frame(CLOSE, b"\x03\xe8"))
    assert next_frame(client)[0] == CLOSE
    assert client.ended()
    eventually(lambda: told == ["good", 1007], "the handler knows")


def test_messages_that_wait_are_not_inflated(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []
    unpack = Deflate.unpack
    monkeypatch.setattr(Deflate, "unpack", lambda self, packed: unpacked.append(len(packed)) or unpack(self, packed))
    waiting: list[WebSocket] = []
    go = threading.Event()

    def late(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket: WebSocket = environ["wsgi.websocket"]
        websocket.accept()
        waiting.append(websocket)
        while not go.is_set():
            sleep(0.001)
        for message in websocket:
            websocket.send(str(len(message)))
        return []

    client = upgraded(serve(late, websocket_compression="on"))
    client.send(frame(BINARY, bomb(4), options=RSV1) * 10)
    eventually(lambda: waiting and len(waiting[0]._inbox or ()) == 10, "all wait")
    assert waiting[0]._inbox.bytes == 10 * (MESSAGE + len(bomb(4))) and not unpacked
    go.set()
    assert [next_frame(client)[2] for _ in range(10)] == [b"%d" % (4 << 20)] * 10


# ---- to many, and by others' clients


def test_a_broadcast_compresses_once_for_those_who_agreed(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[int] = []
    pack = Deflate.pack
    monkeypatch.setattr(Deflate, "pack", lambda self, data: packed.append(len(data)) or pack(self, data))
    websockets: list[WebSocket] = []

    class Room(WebSocketApplication):
        def on_open(self) -> None:
            websockets.append(self.ws)

    server = serve(Resource({"/": Room}), websocket_compression="on")
    compressing, plain = [upgraded(server) for _ in range(3)], [connect(server) for _ in range(2)]
    eventually(lambda: len(websockets) == 5, "all are in")
    assert server.spawn(broadcast, websockets, LONG).result(60) == 5
    frames = [next_frame(client) for client in compressing]
    assert frames == frames[:1] * 3 and frames[0][1] and inflated(frames[0][2], 1 << 20) == LONG.encode()
    assert [client.recv() for client in plain] == [LONG] * 2
    assert packed == [len(LONG)]


def test_the_websockets_package_compresses_with_us(serve: Serve) -> None:
    server = serve(echo, websocket_compression="on", websocket_compression_threshold=0)
    with open_websockets_client(f"ws://127.0.0.1:{server.port}/", compression="deflate", proxy=None) as client:
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        for message in ["", "x", LONG, b"", LONG.encode() * 50, bytes(range(256))]:
            client.send(message)
            assert client.recv(60) == message
