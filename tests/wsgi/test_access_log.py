"""The access log: its formats, what may not stand in a line, and files that are moved, full or not read."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamserve.errors import ConfigurationError
from streamserve.gateway.response_head import build_head
from streamserve.logs.log_file import MOST_PENDING, LogFile
from streamserve.logs.log_line import clock_of, compile_line
from streamserve.settings import Settings
from streamserve.settings.log_format import FIELDS
from tests.support.server import Running, eventually
from tests.wsgi.conftest import Serve

COMBINED = re.compile(r'(\S+) - - \[[^]]+\] "(.*)" (\d{3}) (\d+|-) "(.*)" "(.*)"')
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def app(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/raise":
        raise ValueError
    start_response("404 Not Found", [("X-Answer", "4 2"), ("Content-Type", 'text/"plain"')])
    if environ["PATH_INFO"] == "/write":
        start_response.__self__.write(b"12345")
        return []
    return iter([b"abc", b"defg"])


def lines_of(stream: io.StringIO, count: int) -> list[str]:
    lines: list[str] = eventually(
        lambda: (lines := stream.getvalue().splitlines()) and len(lines) >= count and lines, f"{count} lines"
    )
    assert len(lines) == count
    return lines


class TestFormats:
    def test_combined_is_the_default(self, serve: Serve) -> None:
        stream = io.StringIO()
        running = serve(app, log=stream)
        with running.client() as client:
            for path in (b"/stream?q", b"/write", b"/raise"):
                client.send(b"GET %b HTTP/1.1\r\nHost: h\r\nReferer: http://r/\r\nUser-Agent: me\r\n\r\n" % path)
                client.response()
        found = [COMBINED.fullmatch(line) for line in lines_of(stream, 3)]
        assert [match.groups() for match in found if match] == [
            ("127.0.0.1", "GET /stream?q HTTP/1.1", "404", "7", "http://r/", "me"),
            ("127.0.0.1", "GET /write HTTP/1.1", "404", "5", "http://r/", "me"),
            ("127.0.0.1", "GET /raise HTTP/1.1", "500", "22", "http://r/", "me"),
        ]

    def test_common(self, serve: Serve) -> None:
        stream = io.StringIO()
        running = serve(app, log=stream, access_log_format="common")
        running.ask(b"GET /x HTTP/1.0\r\nAuthorization: Basic am9lOnNlY3JldA==\r\n\r\n")
        moment = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
        assert re.fullmatch(f'127.0.0.1 - joe {moment} "GET /x HTTP/1.0" 404 7', lines_of(stream, 1)[0])

    def test_each_field(self, serve: Serve) -> None:
        stream = io.StringIO()
        running = serve(app, log=stream, access_log_format="|".join(f"{name}=%({name})s" for name in FIELDS))
        running.ask(b"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nUser-Agent: me\r\nContent-Length: 1\r\n\r\nx")
        fields = dict(part.split("=", 1) for part in lines_of(stream, 1)[0].split("|"))
        assert re.fullmatch(r"0\.\d{6}", fields.pop("L")) and fields.pop("t").startswith("[")
        assert int(fields.pop("D")) >= 0 and int(fields.pop("M")) >= 0
        assert fields == {
            "h": "127.0.0.1", "l": "-", "u": "-", "r": "POST /a%20b?c=d HTTP/1.1", "m": "POST", "U": "/a b", "q": "c=d",
            "H": "HTTP/1.1", "s": "404", "b": "7", "B": "7", "f": "-", "a": "me", "T": "0", "p": f"<{os.getpid()}>",
        }  # fmt: skip

    def test_fields_of_requests_responses_and_the_environ(self, serve: Serve) -> None:
        stream = io.StringIO()
        format = (
            "100%% {x} %({host}i)s %({Content-Length}i)s %({x-none}i)s %({X-ANSWER}o)s %({content-type}o)s"
            " %({wsgi.url_scheme}e)s %({server_protocol}e)s %({none}e)s"
        )
        running = serve(app, log=stream, access_log_format=format)
        running.ask(b"POST / HTTP/1.1\r\nHost: name\r\nContent-Length: 1\r\n\r\nx")
        assert lines_of(stream, 1) == ["100% {x} name 1 - 4 2 text/\\x22plain\\x22 http HTTP/1.1 -"]

    def test_json(self, serve: Serve) -> None:
        stream = io.StringIO()
        running = serve(app, log=stream, access_log_format="json")
        running.ask(b'GET /"\\x HTTP/1.1\r\nHost: h\r\nReferer: \xc3\xa9\x9b\r\nX-Request-ID: 7\r\n\r\n')
        running.ask(b"bad\r\n\r\n")
        running.ask(b"GET /refused HTTP/1.1\r\n\r\n")
        good, bad, refused = (json.loads(line) for line in lines_of(stream, 3))
        assert (refused["status"], refused["method"], refused["target"]) == (400, "GET", "/refused")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", good.pop("time"))
        assert 0 <= good.pop("seconds") < 10
        assert good == {
            "remote_addr": "127.0.0.1", "method": "GET", "target": '/"\\x', "protocol": "HTTP/1.1", "status": 404,
            "bytes": 7, "referer": "\xc3\xa9\x9b", "user_agent": None, "request_id": "7",
        }  # fmt: skip
        assert (bad["remote_addr"], bad["status"], bad["method"], bad["target"]) == ("127.0.0.1", 400, None, "bad")
        assert bad["protocol"] is None

    def test_times_are_written_whatever_the_locale_and_the_zone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        monkeypatch.setenv("TZ", "XYZ-05:30")
        time.tzset()
        try:
            assert clock_of("combined")(1_000_000_000) == "[09/Sep/2001:07:16:40 +0530]"
            assert clock_of("json")(1_000_000_000) == '"2001-09-09T07:16:40+05:30"'
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(
        ("format", "complaint"),
        [
            ("%(h)s %(z)s", "has the unknown field %(z)s; use %(x)s with x one of h l u"),
            ("%({host}x)s", "has the unknown field %({host}x)s; use"),
            ("%({}i)s", "has the unknown field %({}i)s; use"),
            ("%({a b}i)s", "has the unknown field %({a b}i)s; use"),
            ("%(h)d", "has a % that begins no field ('%(h)d'); use"),
            ("50% of %(h)s", "has a % that begins no field ('% of %(h)s'); use"),
            ("jsn", "names no field; give common, combined or json, or use"),
            ("", "names no field"),
            ("%(h)s\n", "is no line of text"),
            ("%(h)s\x1b[31m", "is no line of text"),
        ],
    )
    def test_a_wrong_format_is_named_with_what_exists(self, format: str, complaint: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            Settings(access_log_format=format)
        assert f"access_log_format={format!r} (set by the program) {complaint}" in str(raised.value)
        assert "\n" not in str(raised.value)


class TestEscaping:
    @pytest.mark.parametrize("format", ["combined", "json", "%(h)s %(r)s %(U)s %(q)s %(a)s %({x}i)s %({x}e)s"])
    def test_nothing_of_a_client_ends_a_line_or_colours_a_terminal(self, format: str) -> None:
        line = compile_line(format)
        hostile = "".join(map(chr, range(256))) + "\u2028\u202e\U0001f600"
        names = (
            "REMOTE_ADDR RAW_URI REQUEST_METHOD SERVER_PROTOCOL PATH_INFO QUERY_STRING HTTP_REFERER HTTP_X x".split()
        )
        environ = dict.fromkeys([*names, "HTTP_USER_AGENT", "HTTP_X_REQUEST_ID"], hostile)
        text = line(environ, 200, 5, 0.5, build_head("200 OK", [], ""), clock_of(format)(0))
        assert text.isascii() and text[:-1].isprintable() and text.endswith("\n")
        if format == "json":
            assert json.loads(text)["target"] == hostile
        else:
            assert "\\x22" in text and '"\\x' not in text.replace(' "\\x', "")

    def test_names_in_a_format_are_no_code(self) -> None:
        line = compile_line("""%({'+exit+'}i)s %({"}o)s %({'}e)s""")
        assert line({}, 200, 0, 0.0, build_head("200 OK", [], ""), "") == "- - -\n"

    def test_what_clients_choose_is_escaped(self, serve: Serve) -> None:
        stream = io.StringIO()

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_FOR"]  # what a proxy fix does
            return [b""]

        running = serve(app, log=stream)
        running.ask(
            b'GET /"\\x1b HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1" \xff\r\n'
            b'User-Agent: a"b\\c\t\x9b31m\xff\r\nReferer: "\r\n\r\n'
        )
        line = lines_of(stream, 1)[0]
        assert '"GET /\\x22\\x5cx1b HTTP/1.1"' in line
        assert '"\\x22" "a\\x22b\\x5cc\\x09\\x9b31m\\xff"' in line
        assert line.startswith("1.1.1.1\\x22 \\xff - - [")

    @pytest.mark.parametrize("spoil", ["clear", None, 5, ["list"], object()])
    @pytest.mark.parametrize("format", ["combined", "json"])
    def test_an_environ_that_the_application_spoiled_harms_nobody(self, serve: Serve, spoil: Any, format: str) -> None:
        stream = io.StringIO()

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            if spoil == "clear":
                environ.clear()
            for name in list(environ):
                environ[name] = spoil
            return [b"served"]

        running = serve(app, log=stream, concurrency=2, queue=1, access_log_format=format)
        with running.client() as client:
            for _ in range(10):
                client.send(GET)
                assert client.response().body == b"served"
        lines_of(stream, 10)

    def test_what_is_remembered_of_clients_is_bounded(self) -> None:
        line = compile_line("%(a)s")
        shown = line.__globals__["text"].__self__
        for number in range(10_000):
            line({"HTTP_USER_AGENT": str(number)}, 200, 0, 0.0, None, "")
            line({"HTTP_USER_AGENT": str(number) + "x" * 1000}, 200, 0, 0.0, None, "")
        assert len(shown) <= 1024 and max(map(len, shown)) <= 256


class Clock:
    """Time that moves when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.INFO, "streamserve.wsgi")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("streamserve.wsgi")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


class TestFiles:
    def test_a_file_that_was_moved_is_opened_again(self, tmp_path: Path) -> None:
        clock, path = Clock(), tmp_path / "log"
        file = LogFile(str(path), clock)
        file.write("one\n", 1)
        path.rename(tmp_path / "log.1")
        file.write("two\n", 1)  # within the same second nobody looks
        clock.now += 1
        file.write("three\n", 1)
        file.write("four\n", 1)
        assert (tmp_path / "log.1").read_text() == "one\ntwo\n" and path.read_text() == "three\nfour\n"
        path.unlink()
        path.write_text("made by logrotate\n")
        clock.now += 1
        file.write("five\n", 1)
        assert path.read_text() == "made by logrotate\nfive\n"

    def test_a_file_that_cannot_be_opened_again_is_written_on(self, tmp_path: Path, said: list[str]) -> None:
        clock, folder = Clock(), tmp_path / "logs"
        folder.mkdir()
        file = LogFile(str(folder / "log"), clock)
        folder.rename(tmp_path / "old")
        clock.now += 1
        file.write("one\n", 1)
        assert (tmp_path / "old" / "log").read_text() == "one\n"
        assert said == [
            f"the access log {str(folder / 'log')!r} was moved and cannot be opened again: No such file or directory"
        ]

    def test_rotation_needs_no_signal(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "log"
        running = serve(app, log="default", access_log=str(path))
        running.ask(GET)
        eventually(lambda: path.read_text(), "the first line")
        path.rename(tmp_path / "log.1")

        def arrived() -> bool:
            running.ask(GET)
            return path.exists() and path.read_text() != ""

        eventually(arrived, "a line in the new file")

    def test_a_full_disk_stops_nothing_and_is_told_once(self, serve: Serve, said: list[str]) -> None:
        running = serve(app, log="default", access_log="/dev/full")
        for _ in range(5):
            assert running.ask(GET).status == 404
        running.stop(0).result(60)
        running.join()
        assert said == [
            "the access log '/dev/full' cannot be written: No space left on device; its lines are dropped until it can",
            "the access log '/dev/full' could not be written to the end; lines dropped: 5",
        ]

    def test_a_disk_that_was_full_is_written_again_without_a_torn_line(self, tmp_path: Path, said: list[str]) -> None:
        """A limit of the file's size stands for the disk: a write is cut off, the next fails."""
        script = """
import resource, signal, logging, sys
from streamserve.logs.log_file import LogFile
logging.basicConfig(stream=sys.stdout, format="%(message)s")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = LogFile(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
file.write("0123456789\\n" * 4, 4)
file.write("0123456789\\n", 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write("last\\n", 1)
"""
        import subprocess
        import sys

        path = tmp_path / "log"
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
        assert path.read_text() == "0123456789\n0123456789\n012\nlast\n", done.stderr
        assert done.stdout == (
            f"the access log {str(path)!r} cannot be written: File too large; its lines are dropped until it can\n"
            f"the access log {str(path)!r} is written again; lines dropped meanwhile: 3\n"
        )

    def test_a_closed_pipe_stops_nothing(self, said: list[str]) -> None:
        reader, writer = os.pipe()
        file = LogFile(writer)
        os.close(reader)
        assert not file.write("one\ntwo\n", 2) and not file.write("three\n", 1)
        file.close()
        os.close(writer)
        assert said == [
            "the access log cannot be written: Broken pipe; its lines are dropped until it can",
            "the access log could not be written to the end; lines dropped: 3",
        ]

    def test_a_pipe_that_nobody_reads_is_not_waited_for(self, said: list[str]) -> None:
        """What it does not take is kept within a bound, and written once it is read."""
        reader, writer = os.pipe()
        file = LogFile(writer)
        line = "x" * 1023 + "\n"
        written = 0
        while not said:
            assert file.write(line * 64, 64) or not written
            written += 64
        assert file.lost == 64 and len(file._pending) <= MOST_PENDING
        received = b""
        while file.write("", 0):
            received += os.read(reader, 1 << 16)
        os.close(writer)
        while data := os.read(reader, 1 << 16):
            received += data
        os.close(reader)
        assert received.decode() == line * (written - 64)
        assert said[1:] == ["the access log is written again; lines dropped meanwhile: 64"]

    def test_lines_that_wait_for_a_reader_are_written_without_another_request(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        running = serve(app, log="default", access_log=str(path), access_log_format="%(q)s")
        count = 40
        with running.client() as client:
            for number in range(count):
                client.send(b"GET /?%04d%b HTTP/1.1\r\nHost: h\r\n\r\n" % (number, b"x" * 4000))
                client.response()
        received = b""
        while received.count(b"\n") < count:
            received += eventually(lambda: _read(reader), "more lines")
        os.close(reader)
        assert [int(line[:4]) for line in received.split()] == list(range(count))

    def test_a_stream_that_cannot_be_written_harms_nobody(self, serve: Serve, said: list[str]) -> None:
        class Broken:
            def __repr__(self) -> str:
                return "<broken>"

            def write(self, text: str) -> None:
                raise OSError("disk full")

        running = serve(app, log=Broken())
        for _ in range(5):
            assert running.ask(GET).status == 404
        eventually(lambda: said, "it was reported")
        assert said == ["the access log <broken> cannot be written: disk full; its lines are dropped until it can"]


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""


def test_without_a_log_nothing_is_measured(serve: Serve) -> None:
    running: Running = serve(app)
    endpoint = next(iter(running.server._endpoints.values()))
    assert running.server.access_log is None and endpoint.serve == endpoint._serve
