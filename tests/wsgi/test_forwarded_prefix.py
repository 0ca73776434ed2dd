"""X-Forwarded-Prefix: where the proxy has put the application, if it may say so."""

from typing import Any

import pytest

from tests.support.server import Running
from tests.wsgi.conftest import Serve

PARTS = "for,proto,prefix"


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} {environ['RAW_URI']}".encode("latin-1")]


def ask(running: Running, value: bytes) -> bytes:
    """SCRIPT_NAME, PATH_INFO and RAW_URI of three requests, of which the server's memory knows the last ones."""
    field = b"X-Forwarded-Prefix: " + value
    answers = {running.ask(b"GET /pre/a HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % field).body for _ in range(3)}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"/pre", b"/pre"),
        (b"/pre/", b"/pre"),
        (b"/", b""),
        (b"", b""),
        (b"/a/b.c/..d", b"/a/b.c/..d"),
        (b"/a%20b%C3%A9%2541", b"/a b\xc3\xa9%41"),
        (b"/client, /proxy", b"/proxy"),
    ],
)
def test_it_is_the_script_name_and_the_path_stays(serve: Serve, value: bytes, name: bytes) -> None:
    assert ask(serve(app, forwarded_parts=PARTS), value) == name + b" /pre/a /pre/a"


@pytest.mark.parametrize(
    "value",
    [
        b"pre", b"//evil", b"/%2fevil", b"/a//b", b"/\\evil", b"/%5cevil", b"/a/../b", b"/.", b"/%2e%2e", b"/a?b",
        b"/a#b", b"/a b", b"/a%0d%0ab", b"/a%00", b"/a%7f", b"http://evil/",
    ],
)  # fmt: skip
def test_what_is_no_path_is_400(serve: Serve, value: bytes) -> None:
    running = serve(app, forwarded_parts=PARTS)
    assert running.ask(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Prefix: %b\r\n\r\n" % value).status == 400


@pytest.mark.parametrize(
    "settings",
    [{}, {"forwarded_parts": "for,proto,host,port"}, {"forwarded_parts": PARTS, "forwarded_allow_ips": "192.0.2.1"}],
)
@pytest.mark.parametrize("value", [b"/pre", b"//evil"])
def test_it_changes_nothing_where_it_does_not_count(serve: Serve, settings: dict[str, str], value: bytes) -> None:
    assert ask(serve(app, **settings), value) == b" /pre/a /pre/a"


def test_one_block_means_different_things_from_one_request_to_the_next(serve: Serve) -> None:
    running = serve(app, forwarded_parts=PARTS)
    for _ in range(2):
        for value in (b"/one", b"/two"):
            assert ask(running, value) == value + b" /pre/a /pre/a"
