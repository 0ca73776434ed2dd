"""examples/hello, served by the command that its README gives."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[ServedCommand]:
    with ServedCommand("--chdir", "examples/hello", "app:application", cwd=ROOT) as server:
        yield server


@pytest.mark.parametrize(
    ("query", "greeting"),
    [("", "Hello, world!\n"), ("?name=you", "Hello, you!\n"), ("?name=%C3%89mile+Zola", "Hello, Émile Zola!\n")],
)
def test_greets(server: ServedCommand, query: str, greeting: str) -> None:
    response = requests.get(f"{server.url}/{query}", timeout=60)
    assert (response.status_code, response.text) == (200, greeting)


def test_head_has_the_length_and_no_body(server: ServedCommand) -> None:
    response = requests.head(server.url, timeout=60)
    assert (response.headers["Content-Length"], response.content) == ("14", b"")


def test_readme_gives_the_command_that_is_tested_here() -> None:
    assert "streamserve --chdir examples/hello app:application\n" in (ROOT / "examples/hello/README.md").read_text()
