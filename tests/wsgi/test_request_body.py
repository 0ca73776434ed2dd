"""wsgi.input: points 22 to 32, 36 and 47 of the promises."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streamserve import sleep, spawn
from streamserve.core import lib
from streamserve.errors import RemoteProtocolError
from streamserve.loop.greenlet import Greenlet
from tests.support.logs import no_tracebacks
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

TEXT = b"first line\nsecond\n\nlast without end"
LARGE = bytes(range(256)) * 400


def head(*fields: bytes, path: bytes = b"/", method: bytes = b"POST") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: h", *fields, b"", b""))


def sized(body: bytes) -> bytes:
    return head(b"Content-Length: %d" % len(body)) + body


def chunked(body: bytes, size: int = 7, trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    extension = b";ext=1" if len(body) < 1000 else b""  # all of them together are limited
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return head(b"Transfer-Encoding: chunked") + coded + b"0\r\n" + trailer + b"\r\n"


def reading(read: Any) -> Any:
    """An application that answers with what `read` makes of wsgi.input."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        data = read(environ["wsgi.input"])
        start_response("200 OK", [])
        return [data if isinstance(data, bytes) else repr(data).encode()]

    return app


def in_steps(stream: Any) -> list[bytes]:
    return [stream.read(3), stream.readline(), stream.readline(2), stream.read(0), stream.read(None), stream.read()]


WAYS = {
    "read": lambda stream: stream.read(),
    "read(-1)": lambda stream: stream.read(-1),
    "read(5)...": lambda stream: b"".join(iter(lambda: stream.read(5), b"")),
    "read(1000000)": lambda stream: stream.read(1_000_000) + stream.read(1_000_000),
    "readline": lambda stream: b"".join(iter(stream.readline, b"")),
    "readline(4)": lambda stream: b"".join(iter(lambda: stream.readline(4), b"")),
    "readlines": lambda stream: b"".join(stream.readlines()),
    "iteration": lambda stream: b"".join(stream),
    "mixed": lambda stream: b"".join(in_steps(stream)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [TEXT, b"\n", b"x", b"\r\n\r\n", LARGE], ids=["text", "LF", "x", "CRLFs", "large"])
@pytest.mark.parametrize("coding", [sized, chunked])
def test_every_way_to_read_gives_the_whole_body(serve: Serve, way: str, body: bytes, coding: Any) -> None:
    running = serve(reading(WAYS[way]))
    with running.client() as client:
        for _ in range(2):
            client.send(coding(body))
            response = client.response()
            assert response.body == body and not response.closes


def test_lines_are_the_lines(serve: Serve) -> None:
    lines = repr(TEXT.splitlines(keepends=True)).encode()
    for coding in (sized, chunked):
        assert serve(reading(lambda stream: stream.readlines())).ask(coding(TEXT)).body == lines
        assert serve(reading(lambda stream: list(stream))).ask(coding(TEXT)).body == lines
    steps = [b"fir", b"st line\n", b"se", b"", b"cond\n\nlast without end", b""]
    assert serve(reading(in_steps)).ask(sized(TEXT)).body == repr(steps).encode()
    hinted = repr([b"first line\n", b"second\n"]).encode()
    assert serve(reading(lambda stream: stream.readlines(12))).ask(sized(TEXT)).body == hinted


def test_the_end_is_empty_for_ever(serve: Serve) -> None:
    def read(stream: Any) -> Any:
        stream.read()
        return [stream.read(), stream.read(5), stream.readline(), stream.readlines(), list(stream)]

    expected = repr([b"", b"", b"", [], []]).encode()
    for request in (sized(TEXT), chunked(TEXT), sized(b""), chunked(b""), head(method=b"GET")):
        assert serve(reading(read)).ask(request).body == expected


@pytest.mark.parametrize(
    "request_bytes", [sized(TEXT), chunked(TEXT, 3, b"X-Trailer: t\r\n")], ids=["sized", "chunked"]
)
def test_a_request_may_come_byte_by_byte(serve: Serve, request_bytes: bytes) -> None:
    running = serve(reading(lambda stream: stream.read()))
    with running.client() as client:
        for _ in range(2):
            client.send_bytewise(request_bytes)
            assert client.response().body == TEXT


@pytest.mark.parametrize("request_bytes", [sized(TEXT), chunked(TEXT)], ids=["sized", "chunked"])
def test_a_request_may_be_cut_anywhere(serve: Serve, request_bytes: bytes) -> None:
    running = serve(reading(lambda stream: stream.read()))
    with running.client() as client:
        for cut in range(1, len(request_bytes)):
            client.send(request_bytes[:cut])
            client.send(request_bytes[cut:])
            assert client.response().body == TEXT


def test_a_small_body_is_complete_before_the_application_runs(serve: Serve) -> None:
    running = serve(reading(lambda stream: stream.read()))
    client = running.client()
    client.send(head(b"Content-Length: 4") + b"ab")
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "the connection was accepted")
    assert running.server.active == 0
    client.send(b"cd")
    assert client.response().body == b"abcd"


def test_a_large_body_streams(serve: Serve) -> None:
    """The application answers to each piece; the client sends the next one only then."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        for _ in range(4):
            yield environ["wsgi.input"].read(100_000)[-5:]

    for fields, pack in (
        ((b"Content-Length: 400000",), lambda data: data),
        ((b"Transfer-Encoding: chunked",), lambda data: b"%x\r\n%b\r\n" % (len(data), data)),
    ):
        client = serve(app, buffered_body=16384).client()
        client.send(head(*fields))
        for number in range(4):
            client.send(pack(b"x" * 99_999 + b"%d" % number))
            if number == 0:
                assert client.head().status == 200
            assert (client.line(), client.line()) == (b"5", b"xxxx%d" % number)


def breaking(caught: list[BaseException]) -> Any:
    """An application that lets a broken body pass, but remembers it."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except BaseException as error:
            caught.append(error)
            raise
        start_response("200 OK", [])
        return [b"complete"]

    return app


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(b"Content-Length: 100000") + b"short",
        head(b"Transfer-Encoding: chunked") + b"5\r\nshort\r\n",
        head(b"Transfer-Encoding: chunked") + b"5\r\nsho",
        head(b"Transfer-Encoding: chunked") + b"5\r\nshort\r\n0\r\n",
    ],
)
def test_an_early_end_raises_and_is_400(serve: Serve, caplog: pytest.LogCaptureFixture, request_bytes: bytes) -> None:
    caught: list[BaseException] = []
    running = serve(breaking(caught), buffered_body=0)
    client = running.client()
    client.send(request_bytes)
    client.finish()
    response = client.response()
    assert response.status == 400 and response.closes and client.ended()
    assert isinstance(caught[0], RemoteProtocolError) and isinstance(caught[0], OSError)
    assert no_tracebacks(caplog, running)


def test_a_reset_raises(serve: Serve) -> None:
    caught: list[BaseException] = []
    client = serve(breaking(caught)).client()
    client.send(head(b"Content-Length: 100000") + b"short")
    client.reset()
    eventually(lambda: caught, "the reader was told")


@pytest.mark.parametrize(
    "bad",
    [
        b"x\r\n",
        b"5\nshort\r\n",
        b"5\r\nshortX\r\n",
        b"-5\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"ffffffffffffffffff\r\n",
    ],
)
def test_a_bad_chunk_raises_and_is_400(serve: Serve, bad: bytes) -> None:
    caught: list[BaseException] = []
    client = serve(breaking(caught), buffered_body=0).client()
    client.send(head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + bad + head(method=b"GET"))
    response = client.response()
    assert response.status == 400 and response.closes and client.ended()
    assert len(caught) == 1


def test_an_application_may_answer_a_broken_body_itself(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for _ in range(2):
            with pytest.raises(OSError):
                environ["wsgi.input"].read()
        start_response("422 Mine", [])
        return [b"mine"]

    client = serve(app, buffered_body=0).client()
    client.send(head(b"Transfer-Encoding: chunked") + b"zz\r\n" + head(method=b"GET"))
    response = client.response()
    assert (response.status, response.body, response.closes) == (422, b"mine", True)
    assert client.ended()


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
def test_a_server_error_over_a_broken_body_gives_way_to_400(serve: Serve, status: str) -> None:
    """A framework that catches everything calls the client's fault its own."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with pytest.raises(OSError):
            environ["wsgi.input"].read()
        start_response(status, [])
        return [b"traceback"]

    client = serve(app, buffered_body=0).client()
    client.send(head(b"Transfer-Encoding: chunked") + b"zz\r\n" + head(method=b"GET"))
    response = client.response()
    assert response.status == 400 and b"traceback" not in response.body and response.closes
    assert client.ended()


def test_lines_of_a_large_block_are_not_copied_again_for_each_line(serve: Serve) -> None:
    """The block that lines are taken from stays one object until all of it was taken."""
    blocks: set[int] = set()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        stream = environ["wsgi.input"]
        lines = 0
        while stream.readline():
            lines += 1
            blocks.add(id(stream._block))
        start_response("200 OK", [])
        return [b"%d" % lines]

    assert serve(app).ask(sized(b"line\n" * 3000)).body == b"3000"
    assert len(blocks) <= 4


def test_a_body_over_the_limit_is_413(serve: Serve) -> None:
    running = serve(breaking([]), max_body_bytes=1000)
    assert running.ask(sized(b"x" * 1000)).status == 200
    assert running.ask(chunked(b"x" * 1000)).status == 200
    for request in (head(b"Content-Length: 1001"), sized(b"x" * 1001), chunked(b"x" * 1001), chunked(b"x" * 90_000)):
        client = running.client()
        client.send(request)
        response = client.response()
        assert response.status == 413 and response.closes and client.ended()


@pytest.mark.parametrize("coding", [sized, chunked])
@pytest.mark.parametrize("streams", [False, True])
def test_an_unread_body_is_dropped_up_to_a_limit(serve: Serve, coding: Any, streams: bool) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter([b"not ", b"read"]) if streams else [b"not read"]

    running = serve(app)
    for size, stays in ((10, True), (200_000, True), (2_000_000, False)):
        client = running.client()
        sender = threading.Thread(target=send_quietly, args=(client, coding(b"x" * size) + sized(b"")))
        sender.start()
        assert client.response().body == b"not read"
        if stays:
            assert client.response().body == b"not read"
        else:
            assert client.ended()
        sender.join()


def send_quietly(client: Any, data: bytes) -> None:
    try:
        client.send(data)
    except ConnectionError:
        return


def test_a_partly_read_body_is_not_the_next_request(serve: Serve) -> None:
    running = serve(reading(lambda stream: stream.read(5)))
    inner = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    with running.client() as client:
        for coding in (sized, chunked):
            client.send(coding(b"12345" + inner * 3) + coding(b"abcdefg"))
            assert client.response().body == b"12345"
            assert client.response().body == b"abcde"


def keeper(kept: list[Any], results: list[Any], running: list[Running]) -> Any:
    """An application whose greenlet goes on reading after the response has been sent."""

    def late(stream: Any) -> None:
        try:
            results.append(stream.read(6))
        except BaseException as error:
            results.append(error)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        if len(kept) == 1:
            Greenlet.spawn(late, kept[0])
            return [b"first"]
        try:
            stolen: Any = kept[0].read(6)
        except OSError as error:
            stolen = type(error).__name__.encode()
        return [stolen + b" " + environ["wsgi.input"].read()]

    return app


def test_the_input_of_an_ended_request_cannot_read_the_next_one(serve: Serve) -> None:
    """A proxy puts requests of different users on one connection."""
    kept: list[Any] = []
    results: list[Any] = []
    running = serve(keeper(kept, results, []))
    client = running.client()
    client.send(sized(b"public"))
    assert client.response().body == b"first"
    eventually(lambda: results, "the late reader was answered")
    client.send(sized(b"secret of another"))
    assert client.response().body == b"BrokenRequestBody secret of another"
    assert isinstance(results[0], OSError)


def test_a_reader_that_waits_when_its_request_ends_is_told(serve: Serve) -> None:
    results: list[Any] = []
    readers: list[Any] = []

    def read(stream: Any) -> None:
        try:
            results.append(stream.read())
        except OSError as error:
            results.append(error)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        readers.append(Greenlet.spawn(read, environ["wsgi.input"]))
        from streamserve.loop.joining import sleep

        sleep(0)
        start_response("200 OK", [])
        return [b"early"]

    running = serve(app)
    client = running.client()
    client.send(head(b"Content-Length: 100000") + b"some")
    assert client.response().body == b"early"
    eventually(lambda: results, "the reader was told")
    assert isinstance(results[0], OSError)


def test_two_loops_do_not_mix_their_bodies(serve: Serve) -> None:
    """Each thread's reads go through memory of its own."""
    servers = [serve(reading(lambda stream: stream.read())) for _ in range(2)]
    wrong: list[bytes] = []

    def ask(running: Running, body: bytes) -> None:
        with running.client() as client:
            for _ in range(60):
                client.send(sized(body))
                if client.response().body != body:
                    wrong.append(body[:1])

    threads = [
        threading.Thread(target=ask, args=(servers[number % 2], bytes([65 + number]) * 60_000)) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_greenlet_reads_the_body_while_another_one_sends(serve: Serve) -> None:
    received: list[bytes] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        body = environ["wsgi.input"]
        reader = spawn(lambda: received.extend(iter(lambda: body.read(10), b"")))
        sleep(0)
        start_response("200 OK", [])
        for _ in range(64):
            yield bytes(65536)
        reader.join(60)
        yield b"read" if reader.dead else b"stuck"

    running = serve(application, buffered_body=0)
    with running.client(receive_buffer=4096) as client:
        client.send(head(b"Transfer-Encoding: chunked") + b"a\r\n0123456789\r\n")
        eventually(lambda: running.count(lib.SS_COUNT_QUEUED_BYTES) > 65536, "the sender parks")
        client.exactly(60 * 65536)
        client.send(b"a\r\n0123456789\r\n0\r\n\r\n")
        while not client.buffer.endswith(b"0\r\n\r\n"):
            assert client._more()
        assert b"\r\nread\r\n" in client.buffer
    assert received == [b"0123456789"] * 2


def test_an_upload_that_is_reset_at_once_ends_its_request(serve: Serve) -> None:
    """The kernel may show a reset half done: as an error, with data in front of it and no end yet."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    running = serve(app, buffered_body=0, body_timeout=600)
    for _ in range(300):
        client = running.client()
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nbegun")
        client.reset()
    running.examine()
