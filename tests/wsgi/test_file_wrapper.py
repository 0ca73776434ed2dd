"""wsgi.file_wrapper: regular files leave by sendfile, everything else is read (PEP 3333)."""

import gzip
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamserve.core import lib
from tests.support.client import Client, Truncated
from tests.support.logs import log_with
from tests.support.server import eventually
from tests.wsgi.conftest import Serve

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
DATA = bytes(range(256)) * 12_000  # 3 MB: more than a socket takes at once, and than a turn sends


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(DATA)
    return made


def wrapping(open_file: Callable[[], Any], headers: Any = (), seen: list[Any] | None = None) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", list(headers))
        file = open_file()
        if seen is not None:
            seen.append(file)
        return environ["wsgi.file_wrapper"](file)

    return app


@pytest.mark.parametrize(
    "open_file",
    [
        lambda path: path.open("rb"),
        lambda path: path.open("rb", buffering=0),
        lambda path: path.open("r+b"),
    ],
)
def test_a_regular_file_has_a_length_and_is_closed(serve: Serve, path: Path, open_file: Any) -> None:
    seen: list[Any] = []
    running = serve(wrapping(lambda: open_file(path), seen=seen))
    with running.client() as client:
        for _ in range(3):
            client.send(GET)
            response = client.response()
            assert response.get("content-length") == str(len(DATA)) and not response.closes
            assert response.body == DATA
    eventually(lambda: all(file.closed for file in seen), "the files were closed")


def test_small_files_in_a_pipeline(serve: Serve, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    with serve(wrapping(lambda: small.open("rb"))).client() as client:
        client.send(GET * 20)
        assert [client.response().body for _ in range(20)] == [b"small"] * 20


@pytest.mark.parametrize("read", [0, 1, 100_000])
def test_begins_at_the_position_of_the_file(serve: Serve, path: Path, read: int) -> None:
    def open_file() -> Any:
        file = path.open("rb")
        file.read(read)
        return file

    assert serve(wrapping(open_file)).ask(GET).body == DATA[read:]


def test_what_was_written_to_a_temporary_file_is_sent(serve: Serve) -> None:
    def open_file() -> Any:
        file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the server closes it
        file.write(b"written")
        file.seek(0)
        file.write(b"W")
        file.seek(0)
        return file

    assert serve(wrapping(open_file)).ask(GET).body == b"Written"


def test_the_applications_length_is_what_is_sent(serve: Serve, path: Path) -> None:
    running = serve(wrapping(lambda: path.open("rb"), [("Content-Length", "1000")]))
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            response = client.response()
            assert response.body == DATA[:1000] and not response.closes


class Counting(io.BytesIO):
    """A file that is no regular one, and knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize(("block_size", "written"), [(65536, b""), (300, b""), (-1, b""), (65536, b"w" * 400)])
def test_what_is_read_is_read_no_further_than_the_length(
    serve: Serve, caplog: pytest.LogCaptureFixture, block_size: int, written: bytes
) -> None:
    files: list[Counting] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Length", "1000")])
        write(written)
        files.append(Counting(DATA))
        return environ["wsgi.file_wrapper"](files[-1], block_size)

    running = serve(app)
    with running.client() as client:
        for _ in range(2):
            client.send(GET)
            response = client.response()
            assert response.body == written + DATA[: 1000 - len(written)] and not response.closes
    eventually(lambda: all(file.closed for file in files), "the files were closed")
    assert [file.taken for file in files] == [1000 - len(written)] * 2
    assert caplog.records == []


def test_a_length_beyond_the_file_ends_the_connection(
    serve: Serve, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(wrapping(lambda: path.open("rb"), [("Content-Length", str(len(DATA) + 1))])).client()
    client.send(GET)
    with pytest.raises(Truncated):
        client.response()
    log_with(caplog, "less than its Content-Length")


def test_head_has_the_length(serve: Serve, path: Path) -> None:
    with serve(wrapping(lambda: path.open("rb"))).client() as client:
        for _ in range(2):
            client.send(HEAD)
            assert client.response("HEAD").get("content-length") == str(len(DATA))


def test_http_1_0(serve: Serve, path: Path) -> None:
    response = serve(wrapping(lambda: path.open("rb"))).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (response.body, response.get("content-length"), response.closes) == (DATA, str(len(DATA)), True)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body(serve: Serve, path: Path, status: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    with serve(app).client() as client:
        client.send(GET + GET)
        assert [client.response().status for _ in range(2)] == [int(status[:3])] * 2


def test_after_write_the_file_is_read(serve: Serve, path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])(b"before")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    assert serve(app).ask(GET).body == b"before" + DATA


def test_what_transforms_a_file_is_read(serve: Serve, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(DATA))
    assert serve(wrapping(lambda: gzip.GzipFile(packed))).ask(GET).body == DATA
    assert serve(wrapping(lambda: io.BufferedReader(gzip.GzipFile(packed)))).ask(GET).body == DATA  # type: ignore[type-var]


def test_pipes_empty_files_and_files_of_the_kernel_are_read(serve: Serve, tmp_path: Path) -> None:
    def pipe() -> Any:
        reader, writer = os.pipe()
        os.write(writer, b"piped")
        os.close(writer)
        return open(reader, "rb")

    empty = tmp_path / "empty"
    empty.touch()
    kernel = Path("/proc/version")
    assert serve(wrapping(pipe)).ask(GET).body == b"piped"
    assert serve(wrapping(lambda: empty.open("rb"))).ask(GET).body == b""
    assert serve(wrapping(lambda: kernel.open("rb"))).ask(GET).body == kernel.read_bytes()


def test_a_file_that_is_closed_already_is_500(serve: Serve, path: Path) -> None:
    def open_file() -> Any:
        file = path.open("rb")
        file.close()
        return file

    assert serve(wrapping(open_file)).ask(GET).status == 500


def test_a_file_that_shrinks_ends_the_connection(serve: Serve, tmp_path: Path) -> None:
    shrinking = tmp_path / "shrinking"
    shrinking.write_bytes(bytes(8_000_000))
    running = serve(wrapping(lambda: shrinking.open("rb")))
    client = running.client(receive_buffer=4096)
    client.send(GET)
    assert client.head().get("content-length") == "8000000"
    eventually(lambda: running.count(lib.SS_COUNT_FILES) == 1, "the rest waits for the client")
    os.truncate(shrinking, 0)
    assert len(client.rest()) < 8_000_000


def test_a_client_that_takes_nothing_is_dropped(serve: Serve, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(8_000_000))
    running = serve(wrapping(lambda: large.open("rb")), write_timeout=0.2)
    client = running.client(receive_buffer=4096)
    client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_ACCEPTED) == 1, "accepted")
    eventually(lambda: running.count(lib.SS_COUNT_CONNECTIONS) == 0, "the write deadline passed")
    assert running.count(lib.SS_COUNT_FILES) == 0


def test_a_client_that_leaves_takes_the_file_along(serve: Serve, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(8_000_000))
    running = serve(wrapping(lambda: large.open("rb")))
    client = running.client(receive_buffer=4096)
    client.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_FILES) == 1, "the rest waits for the client")
    client.reset()
    eventually(lambda: running.count(lib.SS_COUNT_FILES) == 0, "it is let go")


def test_no_greenlet_is_held_while_a_file_is_sent(serve: Serve, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(8_000_000))
    running = serve(wrapping(lambda: large.open("rb")), concurrency=1, queue=0)
    slow = running.client(receive_buffer=4096)
    slow.send(GET)
    eventually(lambda: running.count(lib.SS_COUNT_FILES) == 1, "the rest waits for the client")
    assert running.ask(GET).body == bytes(8_000_000)
    assert slow.response().body == bytes(8_000_000)


def test_a_file_without_descriptors_left_is_read(serve: Serve, path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen: list[Any] = []

    def open_file() -> Any:
        file = path.open("rb")
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, hard))
        seen.append(file)
        return file

    running = serve(wrapping(open_file))
    client = running.client()
    try:
        client.send(GET)
        response = client.response()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert response.body == DATA and seen


def test_with_sigpipe_at_its_default_the_file_is_read(serve: Serve, path: Path) -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        response = serve(wrapping(lambda: path.open("rb"))).ask(GET)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert response.body == DATA and response.chunks is not None


SERVER = """
import os, sys
from streamserve.wsgi import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open(sys.argv[1], "rb"))

server = WSGIServer("127.0.0.1:0", app)
print(server.address[1], os.getpid(), flush=True)
server.serve_forever()
"""


@pytest.mark.foreign
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_file_is_never_read_into_the_process(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    root = Path(__file__).parents[2]
    command = ["strace", "-f", "-y", "-e", "trace=read,pread64,readv,sendfile", "-o", str(trace), sys.executable]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [*command, "-c", SERVER, str(path)], stdout=subprocess.PIPE, cwd=root, env=environ, text=True
    ) as process:
        pid = process.pid
        try:
            assert process.stdout is not None
            port, pid = map(int, process.stdout.readline().split())
            with Client(("127.0.0.1", port)) as client:
                client.send(GET)
                assert client.response().body == DATA
        finally:
            os.kill(pid, signal.SIGKILL)  # strace ends with what it traces
    lines = [line for line in trace.read_text(errors="replace").splitlines() if f"<{path}>" in line]
    assert lines and all(" sendfile(" in line for line in lines), lines
