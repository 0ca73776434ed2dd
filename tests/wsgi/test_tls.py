"""HTTPS: the same promises as in the clear, and those of TLS."""

import hashlib
import http.client
import io
import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from streamserve.loop.joining import sleep
from tests.support.logs import awaited_lines
from tests.support.server import Running, eventually
from tests.support.tls import Authority, TlsClient
from tests.wsgi.conftest import Serve

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> str:
    return authority.issue("localhost", "127.0.0.1")


def tell(environ: Any, start_response: Any) -> list[bytes]:
    """Says how it was asked, and what the body was."""
    digest = hashlib.sha256(environ["wsgi.input"].read()).hexdigest()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.url_scheme']} {environ['PATH_INFO']} {digest}".encode()]


def told(path: str, body: bytes = b"") -> bytes:
    return f"https {path} {hashlib.sha256(body).hexdigest()}".encode()


def blob(size: int) -> bytes:
    return hashlib.shake_128(b"streamserve").digest(size)


# ---- requests and responses


def test_serves_over_tls(serve: Serve, authority: Authority, certificate: str) -> None:
    running = serve(tell, certfile=certificate)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        assert client.socket.version() == "TLSv1.3"
        for path in (b"/one", b"/two", b"/two"):
            client.send(GET % path)
            assert client.response().body == told(path.decode())
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the core forgot the connection")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_speaks_both_versions_and_agrees_on_http(
    serve: Serve, authority: Authority, certificate: str, version: ssl.TLSVersion
) -> None:
    context = authority.trust()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with TlsClient(serve(tell, certfile=certificate).addresses[0], context) as client:
        client.send(GET % b"/")
        assert client.response().status == 200
        assert client.socket.selected_alpn_protocol() == "http/1.1"


def test_pipelined_requests_are_answered_in_order(serve: Serve, authority: Authority, certificate: str) -> None:
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"".join(GET % b"/%d" % number for number in range(50)))
        for number in range(50):
            assert client.response().body == told(f"/{number}")


def test_request_that_comes_byte_by_byte(serve: Serve, authority: Authority, certificate: str) -> None:
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send_bytewise(GET % b"/slow")
        assert client.response().body == told("/slow")


@pytest.mark.parametrize("size", [1, 16000, 16385, 3 * MEGABYTE])
@pytest.mark.parametrize("chunked", [False, True])
def test_uploads(serve: Serve, authority: Authority, certificate: str, size: int, chunked: bool) -> None:
    data = blob(size)
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        for _ in range(2):
            head = b"POST /up HTTP/1.1\r\nHost: localhost\r\n"
            if chunked:
                client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for at in range(0, size, 50000):
                    piece = data[at : at + 50000]
                    client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                client.send(b"0\r\n\r\n")
            else:
                client.send(head + b"Content-Length: %d\r\n\r\n" % size)
                client.send(data)
            assert client.response().body == told("/up", data)


def test_upload_waits_for_100_continue(serve: Serve, authority: Authority, certificate: str) -> None:
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.response().status == 100
        client.send(b"abc")
        assert client.response().body == told("/e", b"abc")


def test_unread_upload_is_dropped_and_the_connection_lives(
    serve: Serve, authority: Authority, certificate: str
) -> None:
    def ignore(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"not read"]

    with TlsClient(serve(ignore, certfile=certificate).addresses[0], authority.trust()) as client:
        for _ in range(3):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + blob(100000))
            assert client.response().body == b"not read"


def test_pieces_leave_as_they_are_made(serve: Serve, authority: Authority, certificate: str) -> None:
    go_on: list[int] = []

    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        for number in range(3):
            yield b"piece %d" % number
            while len(go_on) <= number:
                sleep(0.001)

    with TlsClient(serve(stream, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(GET % b"/")
        response = client.head()
        assert response.get("transfer-encoding") == "chunked"
        for number in range(3):
            assert client.line() == b"7"
            assert client.exactly(9) == b"piece %d\r\n" % number
            go_on.append(number)
        assert client.line() == b"0"


# ---- back-pressure


def test_slow_reader_holds_the_application_and_not_the_memory(
    serve: Serve, authority: Authority, certificate: str
) -> None:
    data = blob(10 * MEGABYTE)
    made: list[int] = []

    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(len(data)))])
        for at in range(0, len(data), 100_000):
            made.append(at)
            yield data[at : at + 100_000]

    running = serve(stream, certfile=certificate)
    with TlsClient(running.addresses[0], authority.trust(), receive_buffer=8192) as client:
        client.send(GET % b"/")
        client.head()
        received = 0
        while received < len(data):
            part = client.exactly(min(500_000, len(data) - received))
            assert part == data[received : received + len(part)]
            received += len(part)
            assert running.count(lib.SS_COUNT_QUEUED_BYTES) < 500_000
            if received == 500_000:
                assert len(made) < 90  # of 105: sockets hold the rest of the difference


def test_slow_application_holds_the_client_and_not_the_memory(
    serve: Serve, authority: Authority, certificate: str
) -> None:
    data = blob(10 * MEGABYTE)
    turn = threading.Semaphore(0)

    def read(environ: Any, start_response: Any) -> list[bytes]:
        digest = hashlib.sha256()
        body = environ["wsgi.input"]
        while not turn.acquire(blocking=False):
            sleep(0.001)
        while piece := body.read(100_000):
            digest.update(piece)
        start_response("200 OK", [])
        return [digest.hexdigest().encode()]

    running = serve(read, certfile=certificate)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        sent: list[int] = []

        def send() -> None:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data))
            for at in range(0, len(data), 100_000):
                client.send(data[at : at + 100_000])
                sent.append(at)

        sender = threading.Thread(target=send)
        sender.start()
        eventually(lambda: running.count(lib.SS_COUNT_REQUESTS), "the request came")
        for _ in range(20):
            assert running.count(lib.SS_COUNT_BUFFERS) <= 1
        assert len(sent) < 105
        turn.release()
        sender.join()
        assert client.response().body == hashlib.sha256(data).hexdigest().encode()


def test_client_that_reads_nothing_is_cut_off_at_the_write_deadline(
    serve: Serve, authority: Authority, certificate: str
) -> None:
    def large(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [blob(30 * MEGABYTE)]

    running = serve(large, certfile=certificate, write_timeout=0.2)
    with TlsClient(running.addresses[0], authority.trust(), receive_buffer=8192) as client:
        client.send(GET % b"/")
        eventually(lambda: running.count(lib.SS_COUNT_REQUESTS), "the request came")
        eventually(lambda: not running.count(lib.SS_COUNT_CONNECTIONS), "the connection was ended")


# ---- ends


def test_connection_close_ends_with_close_notify(serve: Serve, authority: Authority, certificate: str) -> None:
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.response().status == 200
        assert client.rest() == b""  # a ragged end would raise


def test_refusal_ends_with_close_notify(serve: Serve, authority: Authority, certificate: str) -> None:
    with TlsClient(serve(tell, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"GET / HTTP/1.1\r\nBad Field: a\r\n\r\n")
        assert client.response().status == 400
        assert client.rest() == b""


def test_idle_connection_ends_with_close_notify(serve: Serve, authority: Authority, certificate: str) -> None:
    running = serve(tell, certfile=certificate, keep_alive_timeout=1)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(GET % b"/")
        assert client.response().status == 200
        assert client.rest() == b""


def test_stopping_server_ends_idle_connections_with_close_notify(authority: Authority, certificate: str) -> None:
    running = Running(tell, certfile=certificate)
    with running, TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(GET % b"/")
        assert client.response().status == 200
        stopped = running.stop()
        assert client.rest() == b""
        assert stopped.result(10) == 0


def test_body_without_length_ends_with_close_notify(serve: Serve, authority: Authority, certificate: str) -> None:
    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"one"
        yield b"two"

    with TlsClient(serve(stream, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().body == b"onetwo"


def test_failed_body_without_length_ends_raggedly(serve: Serve, authority: Authority, certificate: str) -> None:
    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"one"
        raise RuntimeError("on purpose")

    with TlsClient(serve(stream, certfile=certificate).addresses[0], authority.trust()) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(OSError):
            client.response()


@pytest.mark.parametrize("end", ["finish", "reset", "goodbye"])
@pytest.mark.parametrize("framing", [b"Content-Length: 90000", b"Transfer-Encoding: chunked"])
def test_upload_that_breaks_off_is_no_short_body(
    serve: Serve, authority: Authority, certificate: str, end: str, framing: bytes
) -> None:
    outcomes: list[str] = []

    def read(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            outcomes.append(type(error).__name__)
            raise
        outcomes.append("complete")
        start_response("200 OK", [])
        return []

    running = serve(read, certfile=certificate, buffered_body=0)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n1000\r\n" % framing + b"x" * 3000)
        eventually(lambda: running.count(lib.SS_COUNT_REQUESTS), "the request came")
        if end == "goodbye":
            client.socket.settimeout(0.01)
            with pytest.raises(OSError):
                client.socket.unwrap()  # it sends close_notify and would wait for the answer
        else:
            getattr(client, end)()
        eventually(lambda: outcomes, "the application was told")
    assert outcomes == ["BrokenRequestBody"]


def test_client_that_said_goodbye_gets_its_answer(serve: Serve, authority: Authority, certificate: str) -> None:
    go_on = threading.Event()

    def wait(_environ: Any, start_response: Any) -> list[bytes]:
        while not go_on.is_set():
            sleep(0.001)
        start_response("200 OK", [])
        return [b"all the same"]

    running = serve(wait, certfile=certificate)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with running.client() as client:
        shake_hands(client, tls, incoming, outgoing)
        tls.write(GET % b"/")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        client.send(outgoing.read())
        eventually(lambda: running.count(lib.SS_COUNT_REQUESTS), "the request came")
        go_on.set()
        incoming.write(client.rest())
        assert len(incoming.read()) > 100


def shake_hands(client: Any, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.send(outgoing.read())
            incoming.write(client.socket.recv(65536))
    client.send(outgoing.read())


# ---- bad clients


def test_plain_http_is_answered_in_the_clear(serve: Serve, certificate: str, caplog: Any) -> None:
    log = io.StringIO()
    running = serve(tell, certfile=certificate, log=log)
    with caplog.at_level("INFO", "streamserve.wsgi"):
        response = running.ask(GET % b"/")
        lines = awaited_lines(caplog)
    assert response.status == 400
    assert response.closes
    assert response.body == b"this port speaks TLS: ask for https, not http\n"
    assert lines == ["127.0.0.1 refused with 400: this port speaks TLS: ask for https, not http"]


@pytest.mark.parametrize(
    "garbage",
    [b"\x00", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"\x00" * 70000, bytes(range(128, 256)) * 999],
)
def test_garbage_ends_the_connection(serve: Serve, certificate: str, garbage: bytes, caplog: Any) -> None:
    running = serve(tell, certfile=certificate)
    with caplog.at_level("INFO", "streamserve.wsgi"), running.client() as client:
        client.send(garbage)
        client.finish()
        try:
            answer = client.rest()
        except ConnectionResetError:  # of input that came after the end
            answer = b""
        lines = awaited_lines(caplog)
    assert answer[:1] in (b"", b"\x15")  # at most an alert
    assert len(lines) == 1 and "127.0.0.1 the TLS handshake failed" in lines[0], lines


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("end", ["finish", "reset", "close"])
def test_handshake_that_breaks_off_leaves_nothing(serve: Serve, certificate: str, end: str) -> None:
    running = serve(tell, certfile=certificate)
    hello = client_hello()
    for size in (1, 5, len(hello) // 2, len(hello) - 1, len(hello)):
        client = running.client()
        client.send(hello[:size])
        getattr(client, end)()
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the core forgot them")


def test_handshake_has_a_deadline(serve: Serve, certificate: str, caplog: Any) -> None:
    hello = client_hello()
    running = serve(tell, certfile=certificate, handshake_timeout=1)
    with caplog.at_level("INFO", "streamserve.wsgi"), running.client() as silent, running.client() as slow:
        slow.send(hello[:50])
        assert silent.rest() == slow.rest() == b""
        lines = awaited_lines(caplog)
    running.stop().result(60)  # whatever else it has to say is said
    assert lines == [record.getMessage() for record in caplog.records]
    assert lines == ["127.0.0.1 closed: the TLS handshake was not complete in time (handshake_timeout=1.0)"]


def test_garbage_after_the_handshake_breaks_the_request(serve: Serve, authority: Authority, certificate: str) -> None:
    outcomes: list[str] = []

    def read(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            outcomes.append(type(error).__name__)
            raise
        raise AssertionError("the body was complete")

    running = serve(read, certfile=certificate)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
        eventually(lambda: running.count(lib.SS_COUNT_REQUESTS), "the request came")
        raw = socket.socket(fileno=client.socket.detach())
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        eventually(lambda: outcomes, "the application was told")
        raw.close()
    assert outcomes == ["BrokenRequestBody"]


def test_client_that_goes_away_ends_the_response(serve: Serve, authority: Authority, certificate: str) -> None:
    ended = threading.Event()

    class Endless:
        def __iter__(self) -> Any:
            while True:
                yield b"x" * 50000

        def close(self) -> None:
            ended.set()

    def stream(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Endless()

    running = serve(stream, certfile=certificate)
    with TlsClient(running.addresses[0], authority.trust()) as client:
        client.send(GET % b"/")
        client.exactly(100_000)
        client.reset()
    assert ended.wait(10)


def test_connection_beyond_the_limit_is_told_so(serve: Serve, authority: Authority, certificate: str) -> None:
    running = serve(tell, certfile=certificate, max_connections=1)
    with TlsClient(running.addresses[0], authority.trust()) as first:
        first.send(GET % b"/")
        assert first.response().status == 200
        with TlsClient(running.addresses[0], authority.trust()) as second:
            response = second.response()
            assert (response.status, response.get("retry-after")) == (503, "1")
            assert second.rest() == b""


def test_a_thousand_connections_that_break_anywhere_leave_nothing(
    serve: Serve, authority: Authority, certificate: str
) -> None:
    running = serve(tell, certfile=certificate)
    hello = client_hello()
    for number in range(300):
        client = running.client()
        client.send(hello[: number * 3])
        client.reset() if number % 2 else client.close()
    context = authority.trust()
    for number in range(100):
        with TlsClient(running.addresses[0], context) as client:
            client.send((GET % b"/")[: number % 40])
            if number % 3 == 0:
                client.reset()
    eventually(lambda: not running.count(lib.SS_COUNT_TLS), "the core forgot them")


# ---- other people's clients

OTHERS = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # curl hangs beside ASan's runtime


def test_standard_library_client(serve: Serve, authority: Authority, certificate: str) -> None:
    client = http.client.HTTPSConnection(
        "127.0.0.1", serve(tell, certfile=certificate).port, context=authority.trust(), timeout=10
    )
    for _ in range(3):
        client.request("PUT", "/x", body=blob(MEGABYTE))
        assert client.getresponse().read() == told("/x", blob(MEGABYTE))
    client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(authority: Authority, certificate: str, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(blob(MEGABYTE))
    with Running(tell, certfile=certificate) as running:
        url = f"https://127.0.0.1:{running.port}"
        done = subprocess.run(
            ["curl", "-sS", "--http1.1", "--cacert", authority.file, "-T", str(upload), f"{url}/a", f"{url}/b"],
            env=OTHERS,
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == told("/a", blob(MEGABYTE)) + told("/b")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_client(authority: Authority, certificate: str) -> None:
    with Running(tell, certfile=certificate) as running:
        done = subprocess.run(
            f"openssl s_client -quiet -CAfile {authority.file} -connect 127.0.0.1:{running.port}".split(),
            input=b"GET /o HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            env=OTHERS,
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.endswith(told("/o"))
