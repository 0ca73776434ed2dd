"""What an application finds in environ (PEP 3333, and points 18 to 20 and 46 of the promises)."""

import copy
import os
from typing import Any
from wsgiref.util import request_uri

import pytest

from tests.support.client import has_ipv6
from tests.wsgi.conftest import Serve

HOST = b"Host: example\r\n"


class Recorder:
    """An application that keeps every environ it is given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"recorded"]


def request(target: bytes = b"/", fields: bytes = HOST, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return method + b" " + target + b" HTTP/" + version + b"\r\n" + fields + b"\r\n"


def one(serve: Serve, data: bytes, **settings: Any) -> dict[str, Any]:
    """The environ of one request, asked for twice: once built, once from memory; they must be equal."""
    app = Recorder()
    with serve(app, **settings) as running, running.client() as client:
        for _ in range(3):
            client.send(data)
            assert client.response(data.split(b" ")[0].decode()).status == 200
        port = str(client.socket.getsockname()[1])
    first, second, third = app.seen
    first.pop("wsgi.input"), second.pop("wsgi.input"), third.pop("wsgi.input")
    assert first == second == third
    assert first is not second
    assert first.pop("REMOTE_PORT") == port
    return first


def test_has_what_pep_3333_asks_and_nothing_unexpected(serve: Serve) -> None:
    app = Recorder()
    running = serve(app)
    running.ask(request(b"/a/b?x=1&y=%20"))
    environ = app.seen[0]
    assert type(environ) is dict
    texts = {name: value for name, value in environ.items() if not name.startswith("wsgi.")}
    assert all(type(value) is str for value in texts.values())
    assert texts.pop("REMOTE_PORT").isdigit()
    assert texts == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "x=1&y=%20",
        "REQUEST_URI": "/a/b?x=1&y=%20",
        "RAW_URI": "/a/b?x=1&y=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(running.port),
        "SERVER_SOFTWARE": "streamserve",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "example",
    }
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert callable(environ["wsgi.file_wrapper"])
    assert hasattr(environ["wsgi.errors"], "write")


def test_does_not_dump_the_process_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PROCESS", "1")
    environ = one(serve, request())
    assert "SECRET_OF_THE_PROCESS" not in environ
    assert not set(environ) & set(os.environ)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/%C3%A9", "/\xc3\xa9", ""),
        (b"/%2F%2f", "///", ""),
        (b"/%00", "/\0", ""),
        (b"/%zz%4", "/%zz%4", ""),
        (b"/%2541", "/%41", ""),
        (b"//double//", "//double//", ""),
        (b"/a+b", "/a+b", ""),
        (b"/?", "/", ""),
        (b"/p%3Fq?r%3F?s", "/p?q", "r%3F?s"),
        (b"/../x/./y", "/../x/./y", ""),
        (b"/;v=1", "/;v=1", ""),
        (b"/" + b"long" * 200, "/" + "long" * 200, ""),
    ],
)
def test_decodes_the_path_once_and_leaves_the_query_raw(serve: Serve, target: bytes, path: str, query: str) -> None:
    environ = one(serve, request(target))
    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target.decode()


@pytest.mark.parametrize(
    ("method", "target", "host", "path", "query"),
    [
        (b"GET", b"http://other:81/p%20q?r=1", "other:81", "/p q", "r=1"),
        (b"GET", b"HTTP://other", "other", "/", ""),
        (b"GET", b"http://other?r", "other", "/", "r"),
        (b"GET", b"https://[::1]:8443//x?y/?z", "[::1]:8443", "//x", "y/?z"),
        (b"GET", b"http://[::1::2]/", "[::1::2]", "/", ""),
        (b"GET", b"http://other/;a;b?c", "other", "/;a;b", "c"),
        (b"OPTIONS", b"*", "example", "*", ""),
        (b"OPTIONS", b"http://other", "other", "/", ""),
    ],
)
def test_other_target_forms(serve: Serve, method: bytes, target: bytes, host: str, path: str, query: str) -> None:
    environ = one(serve, request(target, method=method))
    assert environ["HTTP_HOST"] == host
    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target.decode()
    assert environ["wsgi.url_scheme"] == "http"


def test_connect_has_an_authority_and_ends_the_connection(serve: Serve) -> None:
    app = Recorder()
    running = serve(app)
    client = running.client()
    client.send(request(b"other:443", method=b"CONNECT") + request())
    response = client.response("CONNECT")
    assert response.closes
    assert client.ended()
    assert app.seen[0]["REQUEST_METHOD"] == "CONNECT"
    assert app.seen[0]["RAW_URI"] == app.seen[0]["HTTP_HOST"] == "other:443"
    assert len(app.seen) == 1


@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "4")], [("X-A", "1"), ("content-length", "4"), ("X-B", "2")]]
)
@pytest.mark.parametrize("pieces", [[b"body"], [b"bo", b"dy"], []])
def test_success_of_connect_has_neither_length_nor_body(serve: Serve, headers: Any, pieces: list[bytes]) -> None:
    """RFC 9110 section 9.3.6: what follows the head belongs to the tunnel."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", headers)
        return pieces

    client = serve(app).client()
    client.send(request(b"other:443", method=b"CONNECT"))
    head, _, rest = client.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and rest == b""
    assert b"content-length" not in head.lower() and b"transfer-encoding" not in head.lower()
    assert head.count(b"X-") == len([name for name, _ in headers if name.startswith("X-")])


def test_refusal_of_connect_is_a_response_like_others(serve: Serve) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("405 Method Not Allowed", [])
        return [b"no tunnel"]

    client = serve(app).client()
    client.send(request(b"other:443", method=b"CONNECT"))
    response = client.response()
    assert (response.get("content-length"), response.body) == ("9", b"no tunnel")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_server_name_of_ipv6_stands_in_brackets(serve: Serve) -> None:
    app = Recorder()
    client = serve(app, listener="[::1]:0").client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    client.rest()
    environ = app.seen[0]
    assert (environ["SERVER_NAME"], environ["REMOTE_ADDR"]) == ("[::1]", "::1")  # RFC 3875 section 4.1.14
    assert request_uri(environ) == f"http://[::1]:{environ['SERVER_PORT']}/"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"PATCH", b"get", b"PROPFIND", b"M-SEARCH"])
def test_methods_are_passed_as_sent(serve: Serve, method: bytes) -> None:
    assert one(serve, request(method=method))["REQUEST_METHOD"] == method.decode()


def test_http_1_0_and_minor_versions(serve: Serve) -> None:
    environ = one(serve, request(fields=b"Connection: keep-alive\r\n", version=b"1.0"))
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in environ
    assert one(serve, request(version=b"1.2"))["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_a_block_is_not_remembered_across_versions(serve: Serve) -> None:
    app = Recorder()
    running = serve(app)
    fields = HOST + b"Connection: keep-alive\r\n"
    with running.client() as client:
        for version in (b"1.1", b"1.0", b"1.1", b"1.0"):
            client.send(request(fields=fields, version=version))
            kept = client.response().get("connection")
            assert kept == ("keep-alive" if version == b"1.0" else None)
    assert [environ["SERVER_PROTOCOL"] for environ in app.seen] == ["HTTP/1.1", "HTTP/1.0"] * 2


def test_no_fields_at_all(serve: Serve) -> None:
    app = Recorder()
    running = serve(app)
    for _ in range(3):
        assert running.ask(request(fields=b"", version=b"1.0")).closes
    assert not [name for environ in app.seen for name in environ if name.startswith("HTTP_")]


def test_fields(serve: Serve) -> None:
    fields = (
        HOST + b"Accept: a\r\nX-Empty:\r\naccept: b\r\nCookie: c=1\r\nCookie: d=2\r\nX-Blank: \t v w \t\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 0\r\nX-Bytes: \x80\xff\x85\xa0\r\n"
    )
    environ = one(serve, request(fields=fields))
    assert environ["HTTP_ACCEPT"] == "a, b"
    assert environ["HTTP_COOKIE"] == "c=1; d=2"
    assert environ["HTTP_X_EMPTY"] == ""
    assert environ["HTTP_X_BLANK"] == "v w"
    assert environ["HTTP_X_BYTES"] == "\x80\xff\x85\xa0"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "0"
    assert "HTTP_CONTENT_TYPE" not in environ and "HTTP_CONTENT_LENGTH" not in environ


def test_names_that_could_forge_another_are_dropped(serve: Serve) -> None:
    fields = HOST + b"X_Real: forged\r\nX-Real: true\r\nProxy: http://evil\r\nContent_Length: 5\r\n_: x\r\n"
    environ = one(serve, request(fields=fields))
    assert environ["HTTP_X_REAL"] == "true"
    assert "HTTP_PROXY" not in environ
    assert "CONTENT_LENGTH" not in environ and "HTTP_CONTENT_LENGTH" not in environ
    assert "HTTP__" not in environ


def test_names_with_underscores_can_be_kept_or_refused(serve: Serve) -> None:
    fields = HOST + b"X_Real: a\r\nContent_Length: 5\r\n"
    kept = one(serve, request(fields=fields), underscore_headers="keep")
    assert kept["HTTP_X_REAL"] == "a"
    assert "CONTENT_LENGTH" not in kept
    app = Recorder()
    running = serve(app, underscore_headers="refuse")
    for _ in range(3):
        response = running.ask(request(fields=fields))
        assert response.status == 400 and response.closes
    assert app.seen == []


def test_what_an_application_changes_stays_in_its_environ(serve: Serve) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(copy.copy(environ))
        start_response("200 OK", [])
        if len(seen) % 2:
            environ["HTTP_HOST"] = environ["PATH_INFO"] = environ["LEAK"] = "changed"
            environ["wsgi.url_scheme"] = "https"
        else:
            environ.clear()
        return [b""]

    running = serve(app)
    with running.client() as client:
        for _ in range(6):
            client.send(request(b"/same"))
            client.response()
    for environ in seen:
        environ.pop("wsgi.input")
    assert all(environ == seen[0] for environ in seen)


def test_a_new_connection_in_an_old_slot_has_its_own_peer(serve: Serve) -> None:
    """The address is kept by the connection's slot; slots are reused at once."""
    app = Recorder()
    running = serve(app)
    for first in (request(), request(b"http://[::1::2]/"), request(b"http://a/?%zz"), request(method=b"X")):
        with running.client() as client:
            client.send(first)
            client.response()
            client.send(request())
            client.response()
            assert {environ["REMOTE_PORT"] for environ in app.seen} == {str(client.socket.getsockname()[1])}
        app.seen.clear()
