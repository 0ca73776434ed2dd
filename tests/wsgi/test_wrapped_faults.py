"""A broken upload is the client's fault, whatever error the application has made of it."""

import logging
from typing import Any

import pytest

from tests.support.server import eventually
from tests.wsgi.conftest import Serve

CUT = b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\nzz"


class WrappedError(Exception):
    """What a form parser makes of whatever fails in it."""


def app(environ: dict[str, Any], start_response: Any) -> Any:
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        match environ["PATH_INFO"]:
            case "/from":
                raise WrappedError from error
            case "/within":
                raise WrappedError  # noqa: B904, the chain that Python makes by itself
            case "/started":
                write = start_response("200 OK", [])
                write(b"begun")
                raise WrappedError from error
            case "/unsendable":
                start_response("200 OK", [("X", "a\nb")])
            case "/exit":
                raise SystemExit(3) from error
    if environ["PATH_INFO"] == "/behind":
        raise WrappedError
    if environ["PATH_INFO"] == "/begun-behind":
        write = start_response("200 OK", [])
        write(b"begun")
        raise WrappedError
    return []


@pytest.mark.parametrize("path", [b"from", b"within", b"behind"])
@pytest.mark.parametrize("end", ["ends", "stalls"])
def test_it_is_a_quiet_400_or_408(serve: Serve, caplog: pytest.LogCaptureFixture, path: bytes, end: str) -> None:
    lines: list[str] = []

    class Log:
        def write(self, text: str) -> None:
            lines.append(text)

    running = serve(app, log=Log(), body_timeout=0.3, buffered_body=0)
    status = {"ends": 400, "stalls": 408}[end]
    with running.client() as client:
        client.send(CUT % path)
        if end == "ends":
            client.finish()
        assert client.response().status == status
    eventually(lambda: lines, "the line is there")
    assert f'"POST /{path.decode()} HTTP/1.1" {status} ' in lines[0]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_response_that_has_begun_breaks_off_in_silence(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = serve(app)
    with running.client() as client:
        client.send(CUT % b"started")
        client.finish()
        assert client.rest().endswith(b"begun\r\n")
    eventually(lambda: not running.server.active, "the request is over")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("path", [b"unsendable", b"begun-behind", b"exit"])
def test_what_is_the_applications_own_is_told(serve: Serve, caplog: pytest.LogCaptureFixture, path: bytes) -> None:
    running = serve(app)
    with running.client() as client:
        client.send(CUT % path)
        client.finish()
        client.rest()
    eventually(lambda: [record for record in caplog.records if record.levelno >= logging.ERROR], "it is logged")
