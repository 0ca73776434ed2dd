"""examples/side_by_side, served by the command that its README gives, with real servers of every kind."""

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from streamserve import sleep
from tests.support.browser import PROGRAM, Page, open_browser
from tests.support.process import ServedCommand
from tests.support.server import Running
from tests.support.servers.postgres import Postgres
from tests.support.servers.redis import Redis
from tests.support.servers.smtp import Smtp

pytestmark = pytest.mark.foreign  # the database drivers are other people's C

APP = "examples.side_by_side.app:app"
ROOT = Path(__file__).parents[2]
SECONDS = 2.0  # that each service takes
ROW = re.compile(
    r'<li data-name="(?P<name>[^"]*)" data-start="(?P<start>[^"]*)" data-end="(?P<end>[^"]*)"\s+'
    r'data-failed="(?P<failed>[^"]*)">.*?<span class="answer">(?P<answer>.*?)</span>',
    re.DOTALL,
)


class Row(NamedTuple):
    """What the page says of one service. Times are in seconds since the view began."""

    name: str
    start: float
    end: float
    failed: bool
    answer: str


def look(server: ServedCommand) -> tuple[str, dict[str, Row]]:
    """The page, and its rows by name."""
    response = requests.get(server.url, timeout=120)
    assert response.status_code == 200, response.text
    found = [
        Row(row["name"], float(row["start"]), float(row["end"]), row["failed"] == "true", unescape(row["answer"]))
        for row in ROW.finditer(response.text)
    ]
    return response.text, {row.name: row for row in found}


def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    sleep(SECONDS)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"slow"]


def test_services_are_asked_side_by_side(postgres: Postgres, redis: Redis) -> None:
    environ = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "SECONDS": str(SECONDS)}
    with Running(slow) as second, Smtp(SECONDS) as mail:
        environ |= {"HTTP_URL": f"http://127.0.0.1:{second.port}/", "MAIL_SERVER": f"127.0.0.1:{mail.port}"}
        with ServedCommand(APP, cwd=ROOT, **environ) as server:
            page, rows = look(server)
        messages = mail.messages()

    assert list(rows) == ["PostgreSQL query", "Redis command", "HTTP request", "E-mail"]
    assert [row for row in rows.values() if row.failed] == []
    assert rows["PostgreSQL query"].answer.startswith("PostgreSQL ")
    assert rows["HTTP request"].answer == "200 OK, 4 bytes"
    assert [message["Subject"] for message in messages] == ["Sent while the others waited"]
    assert 'id="no-database"' not in page

    assert all(row.end - row.start >= SECONDS * 0.99 for row in rows.values())
    assert max(row.start for row in rows.values()) < min(row.end for row in rows.values())
    total = re.search(r'id="total">([0-9.]+) s<', page)
    assert total is not None
    assert float(total[1]) < 3 * SECONDS  # one after the other: 4


@pytest.fixture(scope="module")
def bare() -> Iterator[ServedCommand]:
    """The example as a new user starts it, but quicker."""
    with ServedCommand(APP, cwd=ROOT, SECONDS="0.05", DATABASE_URL="", REDIS_URL="") as server:
        yield server


def test_without_a_database_the_page_says_so_and_asks_the_others(bare: ServedCommand) -> None:
    page, rows = look(bare)
    assert list(rows) == ["HTTP request", "E-mail"]
    assert [row for row in rows.values() if row.failed] == []
    assert "No database was asked" in page


def test_service_that_fails_is_shown_as_failed_beside_the_others() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        environ = {"DATABASE_URL": f"postgresql://user:pa55word@{nobody}/x", "MAIL_SERVER": nobody, "SECONDS": "0.05"}
        with ServedCommand(APP, cwd=ROOT, **environ) as server:
            page, rows = look(server)
    assert {name: row.failed for name, row in rows.items()} == {
        "PostgreSQL query": True,
        "HTTP request": False,
        "E-mail": True,
    }
    assert "Error" in rows["PostgreSQL query"].answer
    assert "ConnectionRefusedError" in rows["E-mail"].answer
    assert "pa55word" not in page


@pytest.fixture(scope="module")
def page(bare: ServedCommand) -> Iterator[Page]:
    with open_browser() as page:
        page.open(bare.url)
        yield page


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")
class TestBrowser:
    @pytest.mark.parametrize("width", [320, 768, 1280])
    def test_fits_the_screen(self, page: Page, width: int) -> None:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 700
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.call("Emulation.clearDeviceMetricsOverride")

    def test_draws_a_bar_for_each_service(self, page: Page) -> None:
        widths = page.evaluate(
            "[...document.querySelectorAll('rect')].map((bar) => bar.getBoundingClientRect().width"
            " / bar.parentElement.getBoundingClientRect().width)"
        )
        assert len(widths) == 2
        assert all(0 < width <= 1.001 for width in widths)

    def test_takes_nothing_from_elsewhere(self, page: Page, bare: ServedCommand) -> None:
        loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert len(loaded) >= 1
        assert all(name.startswith(bare.url + "/") for name in loaded)
