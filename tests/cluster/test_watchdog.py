"""The server tells what blocks its loop, and on SIGUSR1 what every greenlet does."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.process import ServedCommand, command

APP = """
import os
import streamserve

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/block":
        os.read(int(os.environ["GATE"]), 1)
    elif path == "/park":
        streamserve.sleep(3600)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""
BLOCK_LINE = next(number for number, line in enumerate(APP.splitlines(), 1) if "os.read" in line)

SLOW_IMPORT = """
from time import perf_counter
end = perf_counter() + 0.5
while perf_counter() < end:
    pass

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""


class Site:
    """The application above, served; its /block waits in the kernel until `release`."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.file = directory / "site_that_blocks.py"
        self.file.write_text(APP)
        self.gate, self.key = os.pipe()
        self.server = ServedCommand(
            "site_that_blocks:app", *arguments, cwd=directory, pass_fds=(self.gate,), GATE=str(self.gate)
        )
        self.clients: list[Client] = []

    def ask(self, path: str) -> Client:
        host, _, port = self.server.url.removeprefix("http://").rpartition(":")
        client = Client((host, int(port)))
        self.clients.append(client)
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return client

    def wait_for(self, pattern: str) -> "re.Match[str]":
        return self.server.wait_for(re.compile(pattern))

    def release(self) -> None:
        os.write(self.key, b"x")

    def close(self) -> None:
        for client in self.clients:
            client.close()
        os.close(self.gate)
        os.close(self.key)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, "--block-warning", "50ms", "--graceful-timeout", "0")
    try:
        with site.server:
            yield site
    finally:
        site.close()


def test_a_request_that_blocks_the_loop_is_logged_while_it_does_and_once(site: Site) -> None:
    for number in range(3):
        client = site.ask("/block")
        if not number:
            head = site.wait_for("WARNING the event loop is blocked")
            assert f"by the request at GET /block at {site.file}:{BLOCK_LINE} in app" in head.string
            site.wait_for(f'File "{site.file}", line {BLOCK_LINE}, in app')
            site.wait_for(r"^    os\.read\(")
            site.wait_for("Remedy: ")
        site.release()
        assert client.response().status == 200
    site.server.stop()
    assert site.server.stderr.count("the event loop is blocked") == 1


def test_sigusr1_shows_who_waits_where(site: Site) -> None:
    for _ in range(3):
        site.ask("/park")
        assert site.ask("/").response().status == 200  # so the one before waits
    site.server.signal(signal.SIGUSR1)
    site.wait_for("INFO    SIGUSR1: process [0-9]+: [0-9]+ greenlets")
    site.wait_for("3 greenlets wait here: the request at GET /park, the request at GET /park, ")
    site.wait_for("streamserve.sleep")
    assert site.ask("/").response().status == 200


def test_sigusr1_shows_the_greenlet_that_blocks_in_the_kernel(site: Site) -> None:
    client = site.ask("/block")
    site.wait_for("the event loop is blocked")
    site.server.signal(signal.SIGUSR1)
    site.wait_for(r"thread 'MainThread' \([0-9]+\) runs the request at GET /block$")
    site.wait_for(f'File "{site.file}", line {BLOCK_LINE}, in app')
    site.release()
    assert client.response().status == 200


def test_zero_switches_the_watchdog_off(tmp_path: Path) -> None:
    site = Site(tmp_path, "--block-warning", "0")
    try:
        with site.server:
            site.server.signal(signal.SIGUSR1)
            site.wait_for("SIGUSR1: process ")
            assert site.ask("/").response().status == 200
    finally:
        site.close()
    assert "runs the watchdog" not in site.server.stderr


def test_is_on_by_default(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        with site.server:
            site.server.signal(signal.SIGUSR1)
            site.wait_for("runs the watchdog")
    finally:
        site.close()


def test_an_application_keeps_its_own_handler_of_sigusr1(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os.write(2, b'of the application\\n'))\n"
        "def app(environ, start_response): ...\n"
    )
    with ServedCommand("own:app", cwd=tmp_path) as server:
        server.signal(signal.SIGUSR1)
        server.wait_for(re.compile("^of the application$"))


def test_an_import_of_the_application_that_takes_long_is_logged(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_IMPORT)
    with ServedCommand("slow:app", "--block-warning", "200ms", cwd=tmp_path) as server:
        server.stop()
    assert re.search(
        r"WARNING the event loop is blocked.* by the main greenlet .*slow.py:[45] in <module>", server.stderr
    )


def test_streamserve_run_has_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SLOW_IMPORT)
    for limit, count in (("200ms", 1), ("0", 0)):
        done = command("run", "script.py", cwd=tmp_path, STREAMSERVE_BLOCK_WARNING=limit)
        assert done.stderr.count("WARNING the event loop is blocked") == count, done.stderr
        assert done.returncode == 0
