"""How a WebSocket begins: the client's handshake, who may, and what the application adds to the 101."""

import threading
from typing import Any

import pytest

from streamserve.errors import ConfigurationError, LocalProtocolError, WebSocketClosed
from streamserve.gateway.environ_memory import MOST_HANDSHAKES
from streamserve.settings import Settings
from tests.support.logs import log_with
from tests.support.server import eventually
from tests.websocket.conftest import Connect, Serve
from tests.websocket.test_websocket import HANDSHAKE, echo, plain


def test_the_answer_is_that_of_the_rfcs_example(serve: Serve) -> None:
    with serve(echo).client() as client:
        client.send(HANDSHAKE + b"\r\n")
        head = client.head()
    assert (head.status, head.get("upgrade"), head.get("connection")) == (101, "websocket", "Upgrade")
    assert head.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ((b"Version: 13", b"Version: 12"), 426, "Sec-WebSocket-Version is '12'; this server speaks 13"),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 426, "Sec-WebSocket-Version is ''"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400, "Sec-WebSocket-Key is 'c2hvcnQ=', not 16 bytes"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff\xfe"), 400, "Sec-WebSocket-Key is"),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400, "Sec-WebSocket-Key is ''"),
        ((b"GET", b"POST"), 400, "is a GET of HTTP/1.1"),
        ((b"Host: a\r\n", b"Host: a\r\nOrigin: https://evil.example\r\n"), 403, "the origin 'https://evil.example'"),
    ],
)
def test_a_handshake_that_is_none_is_told_why(
    serve: Serve, change: tuple[bytes, bytes], status: int, reason: str
) -> None:
    response = serve(echo).ask(HANDSHAKE.replace(*change) + b"\r\n")
    assert response.status == status
    assert reason in response.body.decode("latin-1")
    assert response.get("server") == "streamserve"
    assert response.get("upgrade") == ("websocket" if status == 426 else None)
    assert response.get("sec-websocket-version") == ("13" if status == 426 else None)


@pytest.mark.parametrize("name", ["Origin", "Protocol", "Extensions", "Version", "Key", "Cookie"])
def test_bytes_beyond_ascii_in_a_handshake_are_no_crash(serve: Serve, name: str) -> None:
    field = name if name in ("Origin", "Cookie") else f"Sec-WebSocket-{name}"
    fields = [line for line in HANDSHAKE.splitlines() if not line.startswith(field.encode())]
    with serve(echo, websocket_compression="on").client() as client:
        client.send(b"\r\n".join([*fields, field.encode() + b": \xff\xe4\x80", b"", b""]))
        status = client.head().status
    assert status == {"Origin": 403, "Version": 426, "Key": 400}.get(name, 101)


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
OTHER = KEY.replace(b"dGhl", b"AAAA")


@pytest.mark.parametrize(
    ("fields", "value", "others"),
    [
        (KEY, "dGhlIHNhbXBsZSBub25jZQ==", {}),
        (OTHER, "AAAAIHNhbXBsZSBub25jZQ==", {}),
        (KEY.lower(), "dghlihnhbxbszsbub25jzq==", {}),
        (KEY + OTHER, "dGhlIHNhbXBsZSBub25jZQ==, AAAAIHNhbXBsZSBub25jZQ==", {}),
        (KEY + b"SEC-WEBSOCKET-KEY: a\r\n", "dGhlIHNhbXBsZSBub25jZQ==, a", {}),
        (KEY.replace(b"dGhl", b" \t  "), "IHNhbXBsZSBub25jZQ==", {}),
        (KEY + b"X-Later: 1\r\n", "dGhlIHNhbXBsZSBub25jZQ==", {"HTTP_X_LATER": "1"}),
        (b"X-" + KEY + OTHER, "AAAAIHNhbXBsZSBub25jZQ==", {"HTTP_X_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ=="}),
        (b"X: " + KEY + OTHER, "AAAAIHNhbXBsZSBub25jZQ==", {"HTTP_X": KEY.decode().strip()}),
    ],
)
def test_the_environ_of_a_handshake_is_that_of_its_fields_each_time(
    serve: Serve, fields: bytes, value: str, others: dict[str, str]
) -> None:
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environs.append(dict(environ))
        environ["HTTP_HOST"] = environ["mine"] = "changed"
        return plain(environ, start_response)

    server = serve(app)
    for _ in range(3):
        server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    for environ in environs:
        assert environ["HTTP_SEC_WEBSOCKET_KEY"] == value
        assert environ["HTTP_HOST"] == "a"
        assert "mine" not in environ
        assert {name: environ.get(name) for name in others} == others
    assert len(environs) == 3


def test_what_is_remembered_of_handshakes_is_bounded(serve: Serve) -> None:
    server = serve(plain)
    memory = server.server._endpoints[0].memory
    for number in range(2 * MOST_HANDSHAKES + 1):
        server.ask(HANDSHAKE + b"Cookie: %d\r\n\r\n" % number)
    assert 0 < len(memory._handshakes) <= MOST_HANDSHAKES


def test_a_framework_that_catches_the_refusal_changes_nothing_of_its_answer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def catches(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            return echo(environ, start_response)
        except Exception:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"caught"]

    caplog.set_level("INFO")
    with serve(catches).client() as client:
        client.send(HANDSHAKE + b"Origin: https://evil.example\r\n\r\n")
        response = client.response()
        assert response.status == 403 and b"websocket_origins allows same" in response.body
        client.send(HANDSHAKE + b"\r\n")
        assert client.head().status == 101
    log_with(caplog, "refused with 403: the origin 'https://evil.example'")


def test_an_application_can_answer_a_handshake_like_any_request(serve: Serve) -> None:
    def refuses(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"Who are you?"]

    with serve(refuses).client() as client:
        for _ in range(2):
            client.send(HANDSHAKE + b"\r\n")
            assert client.response().status == 401


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", b"none"),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"none"),
        (b"Upgrade: websocket\r\n", b"none"),
        (b"Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n", b"websocket"),
    ],
)
def test_only_who_offers_it_has_a_websocket(serve: Serve, fields: bytes, expected: bytes) -> None:
    assert serve(plain).ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n").body == expected


@pytest.mark.parametrize(
    ("allowed", "origin", "accepted"),
    [
        ("same", "http://a", True),
        ("same", "http://a:80", False),
        ("same", "https://a", False),
        ("*", "https://anywhere.example", True),
        ("https://one.example, https://two.example", "https://two.example", True),
        ("https://one.example", "http://a", False),
        ("HTTPS://One.example:443", "https://one.example", True),
        ("http://one.example:80,http://[::1]:080", "http://one.example", True),
        ("http://one.example:80,http://[::1]:080", "http://[::1]", True),
        ("http://one.example:443", "http://one.example", False),
        ("https://one.example:80", "https://one.example:80", True),
        ("http://localhost:8000", "http://localhost:8000", True),
        ("app://one.example:443", "app://one.example:443", True),
        ("https://one.example", "null", False),
    ],
)
def test_the_origins_of_pages_are_a_setting(serve: Serve, allowed: str, origin: str, accepted: bool) -> None:
    with serve(echo, websocket_origins=allowed).client() as client:
        client.send(HANDSHAKE + b"Origin: " + origin.encode() + b"\r\n\r\n")
        assert client.head().status == (101 if accepted else 403)


@pytest.mark.parametrize(
    ("allowed", "remedy"),
    [
        ("https://*.example", "no origin of a page; give same"),
        ("wss://one.example", "no origin of a page; give same"),
        ("https://one.example/", "no origin of a page; give same"),
        ("https://one.example:x", "no origin of a page; give same"),
        ("https://one.example:70000", "a port is 1 to 65535"),
        ("https://one.example:0", "a port is 1 to 65535"),
        ("https://grüße.example", "in ASCII: https://xn--"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(allowed: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=f"websocket_origins.*{remedy}"):
        Settings(websocket_origins=allowed)  # type: ignore[arg-type]


def test_subprotocol_and_headers_are_the_applications_to_choose(serve: Serve, connect: Connect) -> None:
    def chooses(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        assert not websocket.accepted and websocket.subprotocols == ["a", "b"]
        websocket.accept("b", [("Set-Cookie", "x=1")])
        websocket.send(f"{websocket.accepted} {websocket.protocol}")
        return []

    client = connect(serve(chooses), subprotocols=["a", "b"])
    assert client.getsubprotocol() == "b"
    assert client.getheaders()["set-cookie"] == "x=1"
    assert client.recv() == "True b"


def test_what_may_not_stand_in_a_handshake_is_a_fault_of_the_application(serve: Serve, connect: Connect) -> None:
    faults: list[str] = []

    def errs(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["wsgi.websocket"]
        for arguments in [("c",), (None, [("Connection", "x")]), (None, [("A", "b\r\nC: d")]), ("b", [("A b", "c")])]:
            try:
                websocket.accept(*arguments)
            except LocalProtocolError as error:
                faults.append(str(error))
        websocket.accept("b")
        try:
            websocket.accept()
        except LocalProtocolError as error:
            faults.append(str(error))
        return []

    connect(serve(errs), subprotocols=["b"]).recv()
    assert len(faults) == 5 and "does not offer the subprotocol 'c'" in faults[0] and "'Connection'" in faults[1]


@pytest.mark.parametrize("use", ["accept", "receive", "send"])
def test_a_client_that_leaves_before_the_101_leaves_nothing(serve: Serve, use: str) -> None:
    asked, left = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def late(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.set()
        left.wait(60)
        websocket = environ["wsgi.websocket"]
        try:
            getattr(websocket, use)(*["message"] * (use == "send"))
        except WebSocketClosed as error:
            faults.append(error)
            raise
        return []

    with serve(late) as server:
        client = server.client()
        client.send(HANDSHAKE + b"\r\n")
        asked.wait(60)
        client.reset()
        left.set()
        eventually(lambda: faults, "the application learns of it")
