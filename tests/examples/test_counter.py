"""examples/counter, served by the command that its README gives, seen by a client and by a browser."""

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.browser import PROGRAM, Page, open_browser
from tests.support.process import ServedCommand

ROOT = Path(__file__).parents[2]

# The numbers that the page shows one after the other, until it has shown five.
FIVE_NUMBERS = """
new Promise((resolve) => {
  const count = document.getElementById("count");
  const shown = [Number(count.textContent)];
  new MutationObserver(() => {
    shown.push(Number(count.textContent));
    if (shown.length >= 5) resolve(shown);
  }).observe(count, { childList: true, characterData: true, subtree: true });
})
"""

BROKEN_UPLOAD = (
    b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    b"Content-Length: 1000000\r\n\r\n"
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\nno more'
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServedCommand]:
    with ServedCommand("--chdir", "examples/counter", "app:app", cwd=ROOT) as server:
        yield server


def events(server: ServedCommand, **headers: str) -> list[str]:
    """The first six lines of the event stream."""
    with requests.get(f"{server.url}/events", headers=headers, stream=True, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        lines = response.iter_lines(chunk_size=None, decode_unicode=True)
        return [line for line, _ in zip(filter(None, lines), range(6), strict=False)]


class TestClient:
    def test_events_count_upward(self, server: ServedCommand) -> None:
        assert events(server)[1:5] == ["id: 1", "data: 1", "id: 2", "data: 2"]

    def test_reconnecting_goes_on_after_the_last_number(self, server: ServedCommand) -> None:
        assert events(server, **{"Last-Event-ID": "41"})[1:3] == ["id: 42", "data: 42"]

    @pytest.mark.parametrize("sent", ["x", "-5", "9" * 400, "\u00b2"])
    def test_last_number_that_is_none_is_ignored(self, server: ServedCommand, sent: str) -> None:
        assert events(server, **{"Last-Event-ID": sent})[1] == "id: 1"

    def test_streams_do_not_wait_for_each_other(self, server: ServedCommand) -> None:
        url = f"{server.url}/events"
        streams = [requests.get(url, stream=True, timeout=30) for _ in range(20)]
        try:
            for stream in streams:
                assert "data: 2" in stream.iter_lines(chunk_size=None, decode_unicode=True)
        finally:
            for stream in streams:
                stream.close()

    @pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
    def test_upload_tells_what_arrived(self, server: ServedCommand, size: int) -> None:
        content = os.urandom(size)
        response = requests.post(f"{server.url}/upload", files={"file": ("some <file>.bin", content)}, timeout=60)
        assert response.status_code == 200
        assert re.search(r'id="name">some &lt;file&gt;\.bin<', response.text)
        assert f'id="size">{size}<' in response.text
        assert f'id="sha256">{hashlib.sha256(content).hexdigest()}<' in response.text

    @pytest.mark.foreign  # a sanitizer keeps what is freed
    def test_upload_does_not_gather_in_memory(self, server: ServedCommand) -> None:
        before = peak_memory(server)
        size = 200 << 20
        response = requests.post(
            f"{server.url}/upload",
            data=multipart(size),
            headers={"Content-Type": "multipart/form-data; boundary=edge"},
            timeout=120,
        )
        assert f'id="size">{size}<' in response.text
        assert peak_memory(server) - before < 20 << 20

    @pytest.mark.parametrize("files", [None, {"file": ("", b"")}, {"other": ("x", b"y")}])
    def test_upload_without_a_file_is_refused_with_words(self, server: ServedCommand, files: dict[str, object]) -> None:
        response = requests.post(f"{server.url}/upload", files=files, timeout=60)  # type: ignore[arg-type]
        assert response.status_code == 400
        assert '<p id="problem" role="alert">Choose a file first.</p>' in response.text

    def test_upload_that_breaks_off_leaves_no_traceback(self, server: ServedCommand) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(BROKEN_UPLOAD)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").readline() == b"HTTP/1.1 400 BAD REQUEST\r\n"
        assert "Traceback" not in server.stderr

    def test_readme_gives_the_command_that_is_tested_here(self) -> None:
        assert "streamserve --chdir examples/counter app:app\n" in (ROOT / "examples/counter/README.md").read_text()


def multipart(size: int) -> Iterator[bytes]:
    """A form with one file of that many bytes, sent in chunks."""
    yield b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    for _ in range(size >> 20):
        yield bytes(1 << 20)
    yield b"\r\n--edge--\r\n"


def peak_memory(server: ServedCommand) -> int:
    """The most bytes that the server ever had resident."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+([0-9]+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.mark.foreign
@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
class TestBrowser:
    @pytest.fixture
    def page(self, browser: Page, server: ServedCommand) -> Iterator[Page]:
        browser.problems.clear()
        browser.open(server.url)
        yield browser
        browser.open("about:blank")  # which ends the stream of the page
        assert browser.problems == []

    def test_counter_goes_up(self, page: Page) -> None:
        numbers = page.evaluate(FIVE_NUMBERS)
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert page.evaluate("document.getElementById('connection').textContent") == "Connected"

    def test_upload_shows_name_size_and_digest(self, page: Page, tmp_path: Path) -> None:
        content = os.urandom(3_000_000)
        (tmp_path / "holiday photo.jpg").write_bytes(content)
        page.choose_file("#file", tmp_path / "holiday photo.jpg")
        page.click_and_load("button")
        shown = page.evaluate("['name', 'size', 'sha256'].map((id) => document.getElementById(id).textContent)")
        assert shown == ["holiday photo.jpg", "3000000", hashlib.sha256(content).hexdigest()]
        assert page.evaluate(FIVE_NUMBERS)[-1] > 1  # it counts on the page of the result too

    def test_pages_that_were_left_hold_no_connection(self, page: Page, server: ServedCommand) -> None:
        for number in range(8):  # a browser opens six to one host
            page.open(f"{server.url}/?{number}")
        assert page.evaluate(FIVE_NUMBERS)[-1] > 1

    def test_form_without_a_file_is_not_sent(self, page: Page) -> None:
        page.evaluate("document.querySelector('button').click()")
        assert page.evaluate("document.querySelector('#file').validity.valueMissing") is True
        assert page.evaluate("location.pathname") == "/"

    def test_takes_nothing_from_elsewhere(self, page: Page, server: ServedCommand) -> None:
        loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert len(loaded) >= 2
        assert all(name.startswith(server.url + "/") for name in loaded)

    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    def test_fits_the_screen(self, page: Page, width: int, tmp_path: Path) -> None:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 700
        )
        (tmp_path / ("long-name-" * 20)).write_bytes(b"x")
        page.choose_file("#file", tmp_path / ("long-name-" * 20))
        page.click_and_load("button")
        assert page.evaluate("innerWidth") == width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.call("Emulation.clearDeviceMetricsOverride")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_stands_out_from_its_background(self, page: Page, scheme: str) -> None:
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for selector in ("h1", "header p", "#count", "#connection", "label", "button"):
            assert contrast(page, selector) >= 4.5, selector
        page.call("Emulation.setEmulatedMedia", features=[])

    def test_controls_are_named(self, page: Page) -> None:
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        named = {(node["role"]["value"], node["name"]["value"]) for node in tree if "name" in node and "role" in node}
        assert {("button", "Upload"), ("heading", "Counter"), ("timer", "Events received")} <= named
        assert any("A file of any size" in name for _, name in named)


def contrast(page: Page, selector: str) -> float:
    """The contrast ratio of an element's text (WCAG 2.2, 1.4.3)."""
    colours = page.evaluate(
        f"""(() => {{
          const element = document.querySelector({selector!r});
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        }})()"""
    )
    darker, lighter = sorted(luminance(colour) for colour in colours)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall("[0-9]+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
