"""examples/websocket, served by the command that its README gives, seen by clients and by two windows of a browser."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests.support.browser import PROGRAM, Page, open_pages
from tests.support.process import ServedCommand
from tests.support.server import eventually

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("--chdir", "examples/websocket", "app:app")
STROKE = b"\x01\x0e" + bytes(range(8))  # two points
SIDE = 2048  # of the sheet, in pixels


@pytest.fixture
def server() -> Iterator[ServedCommand]:
    with ServedCommand(*ARGUMENTS, cwd=ROOT) as server:
        yield server
        while Member.here_too:
            Member.here_too.pop().connection.shutdown()


class Member:
    """A client that has taken its board.

    Attributes:
        colour: its own, 3 bytes.
        board: the pieces that were there.
    """

    here_too: list["Member"] = []  # noqa: RUF012, all of them: one that is left open and reads no Close delays the stop

    def __init__(self, server: ServedCommand) -> None:
        self.here_too.append(self)
        self.connection = websocket.create_connection(server.url.replace("http", "ws") + "/board", timeout=60)
        first = self.connection.recv()
        assert isinstance(first, bytes) and first[0] == 4
        self.colour, rest = first[1:4], first[4:]
        self.board: list[bytes] = []
        while rest:
            end = 2 + int.from_bytes(rest[:2], "big")
            self.board.append(rest[2:end])
            rest = rest[end:]

    def here(self) -> list[str]:
        """The colours of those who are here, from the message that says so."""
        colours: list[str] = json.loads(self.connection.recv())["here"]
        return colours


@pytest.fixture
def members(server: ServedCommand) -> Iterator[list[Member]]:
    """Two of them; each knows that both are here."""
    first = Member(server)
    assert len(first.here()) == 1
    second = Member(server)
    assert len(first.here()) == len(second.here()) == 2
    yield [first, second]


class TestClient:
    def test_a_stroke_goes_to_the_others_in_the_colour_of_who_drew_it(self, members: list[Member]) -> None:
        first, second = members
        assert first.colour != second.colour
        first.connection.send_binary(STROKE)
        assert second.connection.recv() == b"\x01" + first.colour + STROKE[1:]
        second.connection.send_binary(STROKE)
        assert first.connection.recv() == b"\x01" + second.colour + STROKE[1:]  # its own did not come back before

    def test_who_comes_later_gets_what_was_drawn(self, members: list[Member], server: ServedCommand) -> None:
        pieces = [b"\x01" + bytes([width]) + bytes(4) for width in range(1, 4)]
        for piece in pieces:
            members[0].connection.send_binary(piece)
        for _ in pieces:
            members[1].connection.recv()
        assert Member(server).board == [b"\x01" + members[0].colour + piece[1:] for piece in pieces]

    def test_the_board_keeps_no_more_than_the_newest(self, members: list[Member], server: ServedCommand) -> None:
        count, points = 600, bytes(1000)
        for number in range(count):
            members[0].connection.send_binary(b"\x01\x01" + number.to_bytes(4, "big") + points)
        for _ in range(count):
            members[1].connection.recv()
        board = Member(server).board
        assert 500 < len(board) < 520  # of 1,009 bytes each, with their length: half a MiB
        assert [int.from_bytes(piece[5:9], "big") for piece in board] == list(range(count - len(board), count))

    def test_the_board_is_cleared_for_all(self, members: list[Member], server: ServedCommand) -> None:
        members[0].connection.send_binary(STROKE)
        members[0].connection.send_binary(b"\x03")
        assert members[0].connection.recv() == b"\x03"
        assert [members[1].connection.recv()[0] for _ in range(2)] == [1, 3]
        assert Member(server).board == []

    def test_a_question_comes_back_to_who_asked(self, members: list[Member]) -> None:
        members[0].connection.send_binary(b"\x02" + b"question")
        assert members[0].connection.recv() == b"\x02question"

    def test_who_leaves_is_not_here(self, members: list[Member]) -> None:
        first, second = members
        assert first.colour != second.colour
        first.connection.close()
        assert second.here() == ["#" + second.colour.hex()]

    def test_more_than_there_are_colours_may_draw(self, server: ServedCommand) -> None:
        members = [Member(server) for _ in range(13)]
        colours = [member.colour for member in members]
        assert len(set(colours[:12])) == 12 and colours[12] == colours[0]

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("text", 1003),
            (b"", 1008),
            (b"\x09", 1008),
            (b"\x01", 1008),
            (b"\x01\x0e", 1008),
            (b"\x01\x00" + bytes(4), 1008),
            (b"\x01\x0e" + bytes(5), 1008),
            (b"\x01\x0e" + bytes(4 * 257), 1008),
            (b"\x02short", 1008),
            (b"\x03\x00", 1008),
        ],
    )
    def test_what_the_board_does_not_know_ends_the_connection(
        self, members: list[Member], server: ServedCommand, message: Any, code: int
    ) -> None:
        first, second = members
        first.connection.send(message) if isinstance(message, str) else first.connection.send_binary(message)
        opcode, data = first.connection.recv_data()
        assert (opcode, data[:2]) == (8, code.to_bytes(2, "big"))
        assert second.here() == ["#" + second.colour.hex()]
        assert "Traceback" not in server.stderr

    def test_the_page_is_one_file_that_loads_nothing(self, server: ServedCommand) -> None:
        response = requests.get(server.url, timeout=60)
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not re.search(r'(?:src|href)="(?!data:)', response.text)

    def test_readme_gives_the_command_that_is_tested_here(self) -> None:
        assert f"streamserve {' '.join(ARGUMENTS)}\n" in (ROOT / "examples/websocket/README.md").read_text()


# ---- two windows


@pytest.fixture(scope="module")
def browser() -> Iterator[list[Page]]:
    with open_pages(2) as pages:
        yield pages


def text(page: Page, element: str) -> str:
    value: str = page.evaluate(f"document.getElementById({element!r}).textContent")
    return value


def is_connected(page: Page) -> bool:
    return text(page, "connection") == "Connected"


def is_lost(page: Page) -> bool:
    shown = page.evaluate("[connection.dataset.state, connection.textContent]")
    return bool(shown == ["lost", "Reconnecting …"])


def at(page: Page, x: float, y: float) -> dict[str, float]:
    """The place in the window of one on the sheet, both from 0 to 1."""
    box = page.evaluate("document.getElementById('board').getBoundingClientRect().toJSON()")
    return {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}


def colour(page: Page, x: float, y: float) -> str:
    """The colour of the sheet there; nothing: it is blank."""
    pixel = page.evaluate(f"Array.from(paper.getImageData({x} * {SIDE}, {y} * {SIDE}, 1, 1).data)")
    return "#" + bytes(pixel[:3]).hex() if pixel[3] == 255 else ""


def draw(page: Page, y: float) -> None:
    """A line from left to right with the mouse."""
    page.call("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **at(page, 0.2, y))
    for x in (0.35, 0.5, 0.65, 0.8):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **at(page, x, y))
    page.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **at(page, 0.8, y))


def touch(page: Page, y: float) -> None:
    """The same with a finger."""
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[at(page, 0.2, y)])
    for x in (0.35, 0.5, 0.65, 0.8):
        page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[at(page, x, y)])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def is_drawn(page: Page, y: float) -> bool:
    return all(colour(page, x, y) for x in (0.2, 0.5, 0.8))


@pytest.mark.foreign
@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
class TestBrowser:
    @pytest.fixture
    def pages(self, browser: list[Page], server: ServedCommand) -> Iterator[list[Page]]:
        for page in browser:
            page.problems.clear()
            page.open(server.url)
            eventually(lambda page=page: is_connected(page), "the page is connected")
        yield browser
        for page in browser:
            page.open("about:blank")
            page.call("Emulation.clearDeviceMetricsOverride")
            assert page.problems == []

    def test_a_stroke_in_one_window_appears_in_the_other(self, pages: list[Page]) -> None:
        first, second = pages
        assert colour(second, 0.5, 0.3) == ""
        draw(first, 0.3)
        eventually(lambda: is_drawn(second, 0.3), "the stroke arrives")
        draw(second, 0.6)
        eventually(lambda: is_drawn(first, 0.6), "the stroke arrives")
        for page in pages:
            assert [colour(page, 0.5, 0.3), colour(page, 0.5, 0.6)] == [first.evaluate("mine"), second.evaluate("mine")]

    def test_a_finger_draws_and_does_not_scroll(self, pages: list[Page]) -> None:
        first, second = pages
        first.call("Emulation.setDeviceMetricsOverride", width=390, height=300, deviceScaleFactor=2, mobile=True)
        touch(first, 0.4)
        eventually(lambda: is_drawn(second, 0.4), "the stroke arrives")
        assert first.evaluate("scrollY") == 0

    def test_a_dot_is_a_stroke_and_two_in_a_frame_are_two(self, pages: list[Page]) -> None:
        first, second = pages
        press = "canvas.dispatchEvent(new PointerEvent('{}', {{pointerId: 1, button: 0, clientX: {}, clientY: {}}}))"
        first.evaluate("canvas.setPointerCapture = () => {}")  # which no pointer of a script has
        script = [
            press.format(kind, place["x"], place["y"])
            for place in (at(first, 0.25, 0.25), at(first, 0.75, 0.75))
            for kind in ("pointerdown", "pointerup")
        ]
        first.evaluate(";".join(script))
        eventually(lambda: colour(second, 0.25, 0.25) and colour(second, 0.75, 0.75), "both dots arrive")
        assert colour(second, 0.5, 0.5) == ""

    def test_who_opens_the_page_later_sees_what_was_drawn(self, pages: list[Page], server: ServedCommand) -> None:
        first, second = pages
        second.open("about:blank")
        eventually(lambda: text(first, "count") == "1", "one has left")
        draw(first, 0.5)
        first.call("Page.reload")
        second.open(server.url)
        eventually(lambda: is_drawn(second, 0.5), "the board comes")
        eventually(lambda: is_connected(first) and is_drawn(first, 0.5), "the board comes back")

    def test_the_sheet_is_cleared_for_both(self, pages: list[Page]) -> None:
        draw(pages[0], 0.5)
        eventually(lambda: is_drawn(pages[1], 0.5), "the stroke arrives")
        pages[1].evaluate("clearButton.click()")
        for page in pages:
            eventually(lambda page=page: colour(page, 0.5, 0.5) == "", "the sheet is blank")
            assert page.evaluate("hint.hidden") is False

    def test_it_shows_who_is_here_and_the_round_trip(self, pages: list[Page]) -> None:
        for page in pages:
            eventually(lambda page=page: text(page, "count") == "2", "both are here")
            eventually(lambda page=page: re.fullmatch(r"[0-9.]+ ms", text(page, "latency")), "the time is shown")
            assert page.evaluate("document.querySelectorAll('#people li').length") == 2
            assert page.evaluate("document.querySelector('#people .you').style.getPropertyValue('--colour') === mine")

    def test_a_restart_of_the_server_is_survived(self, browser: list[Page]) -> None:
        first, second = browser
        with ExitStack() as stack:
            server = stack.enter_context(ServedCommand(*ARGUMENTS, cwd=ROOT))
            for page in browser:
                page.open(server.url)
                eventually(lambda page=page: is_connected(page), "the page is connected")
            before = at(first, 0, 0)
            server.stop()
            for page in browser:
                eventually(lambda page=page: is_lost(page), "the page says that it lost it")
                assert page.evaluate("clearButton.disabled") and text(page, "latency") == "\u2013"
            assert at(first, 0, 0) == before  # the board stays where it was
            draw(first, 0.7)
            assert is_drawn(first, 0.7) and not is_drawn(second, 0.7)
            bind = server.url.removeprefix("http://")
            stack.enter_context(ServedCommand(*ARGUMENTS, "--bind", bind, cwd=ROOT))
            for page in browser:
                eventually(lambda page=page: is_connected(page), "the page is back")
                eventually(lambda page=page: is_drawn(page, 0.7), "what was drawn meanwhile is there")
            for page in browser:
                page.open("about:blank")

    def test_a_server_that_says_nothing_is_given_up(self, browser: list[Page], server: ServedCommand) -> None:
        page = browser[0]
        page.open(server.url)
        eventually(lambda: is_connected(page), "the page is connected")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            page.evaluate(
                "socket.removeEventListener('message', receive),"
                f" answered = -1e9, WebSocket = class extends WebSocket {{ constructor() {{"
                f" super('ws://127.0.0.1:{silent.getsockname()[1]}/') }} }}, ask()"
            )
            eventually(lambda: is_lost(page), "the page says that it lost it")
        page.open("about:blank")

    @pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (844, 390), (768, 1024), (1280, 800)])
    def test_fits_the_screen(self, pages: list[Page], width: int, height: int) -> None:
        page = pages[0]
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 1000
        )
        sizes = page.evaluate(
            "(() => { const board = canvas.getBoundingClientRect(), root = document.documentElement;"
            " return [innerWidth, root.scrollWidth, root.scrollHeight, board.width, board.height]; })()"
        )
        assert sizes[:2] == [width, width]
        assert sizes[2] <= max(height, 590)
        assert sizes[3] == pytest.approx(sizes[4], abs=1)
        assert sizes[3] > 0.7 * min(width, height)

    def test_controls_are_named(self, pages: list[Page]) -> None:
        tree = pages[0].call("Accessibility.getFullAXTree")["nodes"]
        named = {(node["role"]["value"], node["name"]["value"]) for node in tree if "name" in node and "role" in node}
        assert {
            ("button", "Clear"),
            ("heading", "Drawing board"),
            ("radio", "Fine"),
            ("radio", "Broad"),
            ("group", "Width of the pen"),
        } <= named
