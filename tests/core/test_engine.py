"""Engine.IO in the core: which packets it reads for itself, and the heartbeat."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from streamserve.core import ffi, lib
from tests.support.frames import frame
from tests.support.loop import BACKENDS, SECOND, Loop, made
from tests.support.websocket_listener import WebSocketListener

TEXT, CLOSE, EVENT, ACK, OTHER = lib.SS_WS_TEXT, lib.SS_WS_CLOSE, lib.SS_ENGINE_EVENT, lib.SS_ENGINE_ACK, 6
Listening = Callable[..., WebSocketListener]


@pytest.fixture(params=BACKENDS, ids=["epoll", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    yield from made(request.param)


@pytest.fixture
def listening(loop: Loop) -> Iterator[Listening]:
    with contextlib.ExitStack() as cleanup:
        yield lambda **limits: WebSocketListener(loop, cleanup, **limits)


@pytest.mark.parametrize(
    ("message", "kind", "read"),
    [
        ('42["a"]', EVENT, (-1, "", '["a"]')),
        ('420["a"]', EVENT, (0, "", '["a"]')),
        ('42123456789["a"]', EVENT, (123456789, "", '["a"]')),
        ('42/chat,["a"]', EVENT, (-1, "/chat,", '["a"]')),
        ('42/chat,12["a"]', EVENT, (12, "/chat,12", '["a"]')),
        ("431[]", ACK, (1, "", "[]")),
        ("43/chat,9[1]", ACK, (9, "/chat,9", "[1]")),
        ("43[]", OTHER, None),  # an acknowledgement of nothing
        ('4201["a"]', OTHER, None),
        ('421234567890["a"]', OTHER, None),
        ('42/chat?q=1,["a"]', OTHER, None),
        ("42/chat", OTHER, None),
        ('42{"a":1}', OTHER, None),
        ("42", OTHER, None),
        ('451-["a",{"_placeholder":true,"num":0}]', OTHER, None),
        ("40", OTHER, None),
        ("40/chat,{}", OTHER, None),
        ("2probe", OTHER, None),
        ("3probe", OTHER, None),
        ("3", lib.SS_ENGINE_PONG, None),
        ("", OTHER, None),
        ("42/" + "n" * 600 + ',["a"]', OTHER, None),
        ('42["a",' + "1" * 100 + "]", EVENT, (-1, "", '["a",' + "1" * 100 + "]")),
        ('42["a",' + "1" * 101 + "]", OTHER, None),
        ('42["' + "a" * 500 + '",' + "1" * 101 + "]", OTHER, None),
        ('427["a",' + "12345678," * 40 + "0]", EVENT, (7, "", '["a",' + "12345678," * 40 + "0]")),
    ],
)
def test_only_what_is_plainly_an_event_is_read(message: str, kind: int, read: tuple[int, str, str] | None) -> None:
    packet = ffi.new("ss_engine_packet *")
    exact = ffi.new("char[]", message.encode()[:-1] or b"")  # without a byte to spare
    ffi.buffer(exact)[: len(message)] = message.encode() if message else b""
    assert lib.ss_engine_read(packet, exact, len(message)) == kind
    if read is not None:
        head = message[packet.json - packet.head : packet.json]
        assert (packet.id, head, message[packet.json :]) == read


def begin(listener: WebSocketListener, handle: int, **fields: int) -> None:
    config = ffi.new("ss_engine_config *")
    config.ping_interval, config.ping_timeout = 2 * SECOND, SECOND
    config.max_message = config.out_limit = 1 << 20
    config.events = 1
    for name, value in fields.items():
        setattr(config, name, value)
    assert lib.ss_engine_begin(listener.loop.core, handle, config) == lib.SS_OK


def records(listener: WebSocketListener, count: int) -> list[tuple[int, int, bytes, bytes]]:
    """(kind, id, head, array) of the next messages; of those that are no events (opcode, -1, b"", payload)."""
    found: list[tuple[int, int, bytes, bytes]] = []
    core = listener.loop.core
    while len(found) < count:
        polled = lib.ss_loop_poll(core, 20 * SECOND)
        assert lib.ss_verify(core) == ffi.NULL
        words = ffi.unpack(lib.ss_loop_messages(core), (polled >> 32) * lib.SS_MESSAGE_WORDS)
        payloads = lib.ss_ws_payloads(core)
        for _, _, word, place in zip(*[iter(words)] * 4, strict=True):
            offset, head = place & lib.SS_ENGINE_OFFSET_MASK, place >> lib.SS_ENGINE_HEAD_SHIFT & 1023
            found.append(
                (
                    word & 255,
                    (place >> lib.SS_ENGINE_ID_SHIFT) - 1,
                    ffi.unpack(payloads + offset - head, head) if head else b"",
                    ffi.unpack(payloads + offset, word >> lib.SS_WS_LENGTH_SHIFT),
                )
            )
    return found


@pytest.mark.parametrize(("number", "text"), [(0, ""), (7, "x" * 100), (2**62, "it's /~ " * 128)])
def test_an_event_is_acknowledged_with_a_text(listening: Listening, number: int, text: str) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    assert lib.ss_engine_acknowledge(listener.loop.core, handle, number, text.encode(), len(text)) == 0
    assert client.recv(4096) == frame(TEXT, f'43{number}["{text}"]'.encode(), options=("unmasked",))


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\x7f", "é", "x" * 99 + "\x1f", "x" * 1025])
def test_what_json_escapes_is_not_sent_as_it_is(listening: Listening, text: str) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    data, core = text.encode(), listener.loop.core
    assert lib.ss_engine_acknowledge(core, handle, 1, data, len(data)) == lib.SS_MISUSE
    assert lib.ss_engine_acknowledge(core, handle, -1, b"x", 1) == lib.SS_MISUSE
    assert lib.ss_engine_acknowledge(core, handle + (1 << 40), 1, b"x", 1) == lib.SS_GONE
    assert lib.ss_engine_acknowledge(core, handle, 1, b"x", 1) == 0
    assert client.recv(4096) == frame(TEXT, b'431["x"]', options=("unmasked",))


def test_events_reach_python_in_order_with_the_rest(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    begin(listener, handle)
    for text in ("40", '42["a"]', "3", '42/chat,17["b",2]', "435[]", "1"):
        client.sendall(frame(TEXT, text.encode()))
    assert records(listener, 5) == [
        (TEXT, -1, b"", b"40"),
        (EVENT, -1, b"", b'["a"]'),
        (EVENT, 17, b"/chat,17", b'["b",2]'),
        (ACK, 5, b"", b"[]"),
        (TEXT, -1, b"", b"1"),
    ]
    client.close()
    listener.until_gone()


def test_without_events_a_message_is_the_text_it_is(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    begin(listener, handle, events=0)
    client.sendall(frame(TEXT, b'42["a"]'))
    assert records(listener, 1) == [(TEXT, -1, b"", b'42["a"]')]
    client.close()
    listener.until_gone()


def received(listener: WebSocketListener, client: object, count: int) -> bytes:
    client.setblocking(False)  # type: ignore[attr-defined]
    data = b""
    while len(data) < count:
        listener.poll(SECOND // 1000)
        with contextlib.suppress(BlockingIOError):
            data += client.recv(count - len(data))  # type: ignore[attr-defined]
    client.setblocking(True)  # type: ignore[attr-defined]
    return data


PING = b"\x81\x012"


def test_asks_again_an_interval_after_each_answer(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    begin(listener, handle, ping_interval=SECOND // 20, ping_timeout=20 * SECOND)
    for _ in range(3):
        assert received(listener, client, len(PING)) == PING
        client.sendall(frame(TEXT, b"3"))
    assert listener.messages == []
    client.close()
    listener.until_gone()


def test_an_answer_that_python_read_counts_too(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    begin(listener, handle, ping_interval=SECOND // 20, ping_timeout=20 * SECOND)
    assert received(listener, client, len(PING)) == PING
    assert lib.ss_engine_answered(listener.loop.core, handle) == lib.SS_OK
    assert received(listener, client, len(PING)) == PING
    client.close()
    listener.until_gone()


def test_who_does_not_answer_is_ended_with_the_reason(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    begin(listener, handle, ping_interval=SECOND // 20, ping_timeout=SECOND // 20)
    while not listener.messages:
        listener.poll(SECOND)
    assert listener.messages == [(handle, CLOSE, lib.SS_WS_ABNORMAL.to_bytes(2, "big") + b"ping timeout")]
    assert client.recv(100) == PING
    listener.until_gone()
    client.close()


@pytest.mark.parametrize("fin", [True, False])
def test_only_the_frame_that_is_coming_may_be_beyond_its_limit(fin: bool, listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    payload = bytes(range(256)) * 400
    began = frame(lib.SS_WS_BINARY, payload, fin=fin)
    client.sendall(began[:3000])
    listener.poll(SECOND)
    begin(listener, handle, max_message=5000)
    client.sendall(began[3000:])
    client.sendall(frame(lib.SS_WS_BINARY if fin else lib.SS_WS_CONTINUATION, bytes(5001)))
    ended = f"close {lib.SS_WS_TOO_BIG}"
    assert listener.told(1 + fin) == ([f"binary of {len(payload)}", ended] if fin else [ended])
    assert listener.messages[0][2] == payload or not fin
    client.close()
    listener.until_gone()


def test_only_a_websocket_that_is_open_can_begin(listening: Listening) -> None:
    listener = listening()
    client, handle = listener.upgraded()
    config = ffi.new("ss_engine_config *")
    assert lib.ss_engine_begin(listener.loop.core, handle + (1 << 32), config) == lib.SS_GONE
    assert lib.ss_engine_answered(listener.loop.core, handle) == lib.SS_GONE
    assert listener.close(handle) == lib.SS_OK
    assert lib.ss_engine_begin(listener.loop.core, handle, config) == lib.SS_GONE
    client.close()
    listener.until_gone()
