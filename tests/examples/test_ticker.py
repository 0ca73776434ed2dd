"""examples/ticker, served by the command that its README gives."""

import time
from pathlib import Path

import requests

from tests.support.process import ServedCommand
from tests.support.server import eventually

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("--chdir", "examples/ticker", "app:application")


def test_the_server_says_within_a_second_who_has_left() -> None:
    with ServedCommand(*ARGUMENTS, cwd=ROOT, SECONDS="3600") as server:
        assert "/events" in requests.get(server.url, timeout=60).text
        with requests.get(f"{server.url}/events", stream=True, timeout=60) as response:
            assert next(response.iter_lines()).startswith(b"data: ")
            eventually(lambda: "has come" in server.stdout, "who comes is told")
            assert "has left" not in server.stdout
        begun = time.monotonic()
        eventually(lambda: "has left" in server.stdout, "who leaves is told", 30)
        server.stop()
    assert time.monotonic() - begun < 30  # and not an hour later
    assert "Traceback" not in server.stderr


def test_readme_gives_the_command_that_is_tested_here() -> None:
    assert f"    streamserve {' '.join(ARGUMENTS)}\n" in (ROOT / "examples/ticker/README.md").read_text()
