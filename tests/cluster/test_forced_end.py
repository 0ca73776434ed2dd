"""A second signal ends a server whose loop is blocked, whatever blocks it, and says what does."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.client import Client
from tests.support.process import ServedCommand

APP = """
import ctypes
import os
import sys
from streamserve.monkey import get_original

libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)

def spin():
    while True:
        pass

def catch():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

def read():
    os.read(int(os.environ["GATE"]), 1)

def poll():
    while True:  # each signal ends the call
        libc.poll(None, 0, -1)

def lock():
    lock = get_original("_thread", "allocate_lock")()
    lock.acquire()
    lock.acquire()

def write():
    while True:
        os.write(2, bytes(65536))

def c_call():
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)  # no signal ends it

def keep_the_gil():
    locking = ctypes.PyDLL(None).pthread_mutex_lock
    locking(mutex)
    locking(mutex)  # no signal ends it, and no thread of Python's runs any more

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"].strip("/")
    if path:
        print("printed before", path)
        print("blocking", path, file=sys.stderr, flush=True)
        globals()[path]()
    return [b"ok"]
"""


class Site:
    """The application above, served on its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        (directory / "app_that_blocks.py").write_text(APP)
        self.gate, self.key = os.pipe()
        self.client: Client | None = None
        self.server = ServedCommand(
            "app_that_blocks:app", "--block-warning", "0", *arguments, cwd=directory, pass_fds=(self.gate,),
            GATE=str(self.gate), PYTHONUNBUFFERED="",
        )  # fmt: skip

    def block(self, how: str) -> None:
        host, _, port = self.server.url.removeprefix("http://").rpartition(":")
        self.client = Client((host, int(port)))
        self.client.send(f"GET /{how} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self.server.wait_for(re.compile(f"^blocking {how}"))

    def signal(self, first: signal.Signals, second: signal.Signals) -> None:
        """Sends one, and the other when the first was noticed: two at once may be one for the kernel."""
        self.server.signal(first)
        self.server.wait_for(re.compile(f"{first.name}: the event loop is blocked by .* in "))
        self.server.signal(second)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        os.close(self.gate)
        os.close(self.key)
        self.server.process.kill()
        self.server.process.wait()
        self.server.__exit__(None, None, None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, "--access-log", "access.log")
    yield site
    site.close()


@pytest.mark.parametrize(
    ("how", "number"),
    [(how, signal.SIGTERM) for how in ("spin", "catch", "read", "poll", "lock", "c_call")] + [("spin", signal.SIGINT)],
)
def test_a_second_signal_ends_a_blocked_loop_with_its_stack(site: Site, how: str, number: signal.Signals) -> None:
    site.block(how)
    site.signal(number, number)
    assert site.server.wait() == 128 + number, site.server.stderr
    assert f"{number.name} came again, and the event loop is blocked" in site.server.stderr
    assert f"is blocked by the request at GET /{how} at " in site.server.stderr
    assert re.search(rf'app_that_blocks.py", line \d+, in {how}\n', site.server.stderr)


def test_a_second_signal_ends_a_call_that_keeps_the_gil_too(site: Site) -> None:
    site.block("keep_the_gil")
    site.server.signal(signal.SIGTERM)
    site.server.signal(signal.SIGINT)
    codes = (128 + signal.SIGTERM, 128 + signal.SIGINT)  # of two that wait, the kernel hands over either first
    assert site.server.wait() in codes, site.server.stderr
    assert "the interpreter cannot run, a call of C holds its lock" in site.server.stderr
    assert re.search(r'app_that_blocks.py", line \d+ in keep_the_gil\n', site.server.stderr)


def test_the_time_of_a_graceful_stop_holds_for_a_call_that_keeps_the_gil_too(tmp_path: Path) -> None:
    site = Site(tmp_path, "--graceful-timeout", "100ms")
    site.block("keep_the_gil")
    site.server.signal(signal.SIGTERM)
    assert site.server.wait() == 128 + signal.SIGTERM, site.server.stderr
    site.close()


def test_signals_of_two_kinds_are_two_signals(site: Site) -> None:
    site.block("read")
    site.signal(signal.SIGTERM, signal.SIGINT)
    assert site.server.wait() == 128 + signal.SIGINT


def test_what_was_printed_and_logged_is_written_first(site: Site, tmp_path: Path) -> None:
    assert requests.get(site.server.url, timeout=60).text == "ok"
    site.block("spin")
    site.signal(signal.SIGTERM, signal.SIGTERM)
    site.server.wait()
    site.server._stdout.seek(0)
    assert "printed before spin" in site.server._stdout.read()
    assert '"GET / HTTP/1.1" 200' in (tmp_path / "access.log").read_text()


def test_a_loop_that_goes_on_in_time_stops_as_ever(site: Site) -> None:
    site.block("read")
    site.server.signal(signal.SIGTERM)
    os.write(site.key, b"x")
    site.server.wait_for(re.compile("stopping"))
    assert site.server.wait() == 0
    assert "blocked" not in site.server.stderr


def test_the_time_of_a_graceful_stop_holds_for_a_blocked_loop_too(tmp_path: Path) -> None:
    site = Site(tmp_path, "--graceful-timeout", "10ms")
    try:
        site.block("spin")
        site.server.signal(signal.SIGTERM)
        assert site.server.wait() == 128 + signal.SIGTERM
        assert "are over, and the event loop is blocked" in site.server.stderr
    finally:
        site.close()


def test_standard_error_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    """The loop is blocked by a write to it, and so is whoever tells of that."""
    (tmp_path / "app_that_blocks.py").write_text(APP)
    with subprocess.Popen(
        [sys.executable, "-m", "streamserve", "app_that_blocks:app", "--bind", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stderr is not None
        address = re.search(r"on http://127\.0\.0\.1:([0-9]+) ", server.stderr.readline())
        assert address
        client = Client(("127.0.0.1", int(address[1])))
        try:
            client.send(b"GET /write HTTP/1.1\r\nHost: a\r\n\r\n")
            assert server.stderr.readline() == "blocking write\n"
            server.send_signal(signal.SIGTERM)
            server.send_signal(signal.SIGINT)
            assert server.wait(60) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
        finally:
            client.close()
            server.kill()
