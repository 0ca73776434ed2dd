"""The page of examples/chat in Chromium: two windows talk, through a restart of the server too."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import node
from tests.support.browser import PROGRAM, Page, open_pages
from tests.support.process import ServedCommand
from tests.support.server import eventually

ROOT = Path(__file__).parents[2]
VERSION = "4.8.3"
PICTURE = bytes.fromhex(  # a red pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)

pytestmark = [pytest.mark.foreign, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


def serve(*arguments: str) -> ServedCommand:
    client = node.package("socket.io-client", VERSION) / "socket.io-client/dist/socket.io.min.js"
    return ServedCommand("examples.chat.app:sio", *arguments, cwd=ROOT, CHAT_CLIENT=str(client))


class Window:
    """Somebody's window."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self.name = name
        self.was_refused = False
        page.problems.clear()
        forget = page.call("Page.addScriptToEvaluateOnNewDocument", source="sessionStorage.clear()")
        page.open(url)
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=forget["identifier"])

    def join(self) -> None:
        self.put("join-name", self.name)
        self.page.evaluate("document.getElementById('join-go').click()")
        self.until_connected()

    def may_say(self, problem: str) -> bool:
        """A client that was refused ends its session, and a poll that was on its way may come too late for that."""
        return self.was_refused and "status of 400" in problem and "transport=polling" in problem

    def until_connected(self) -> None:
        eventually(lambda: self.page.evaluate("document.body.dataset.state") == "live", "the page is connected")

    def put(self, element: str, value: str) -> None:
        self.page.evaluate(f"document.getElementById({element!r}).value = {json.dumps(value)}")

    def type(self, text: str) -> None:
        """On the keyboard, where the message is written."""
        self.page.evaluate("document.getElementById('text').focus()")
        self.page.call("Input.insertText", text=text)

    def say(self, text: str) -> None:
        self.type(text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self.page.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        self.page.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def open_room(self, name: str) -> None:
        self.page.evaluate(
            "[...document.querySelectorAll('#rooms button')]"
            f".find((button) => button.querySelector('.room-name').textContent === {name!r}).click()"
        )
        eventually(lambda: self.text("title") == name, "the room is shown")

    def text(self, element: str) -> str:
        return str(self.page.evaluate(f"document.getElementById({element!r}).textContent"))

    def texts(self, selector: str) -> list[str]:
        script = f"[...document.querySelectorAll({selector!r})].map((element) => element.textContent)"
        found: list[str] = self.page.evaluate(script)
        return found

    def messages(self) -> list[str]:
        return self.texts("#messages .bubble > p")

    def hears(self, text: str) -> None:
        eventually(lambda: text in self.messages(), f"{self.name} hears {text!r}")

    def states(self) -> list[str]:
        """Of the own messages: pending, sent, read or failed."""
        script = "[...document.querySelectorAll('#messages .own')].map((element) => element.dataset.state)"
        found: list[str] = self.page.evaluate(script)
        return found

    def banner(self) -> str:
        return "" if self.page.evaluate("document.getElementById('banner').hidden") else self.text("banner").strip()

    def attach(self, path: Path) -> None:
        self.page.choose_file("#file", path)
        eventually(lambda: not self.page.evaluate("document.getElementById('attached').hidden"), "it is attached")


@pytest.fixture(scope="module")
def pages() -> Iterator[list[Page]]:
    with open_pages(2) as pages:
        yield pages


@pytest.fixture(scope="module")
def server() -> Iterator[ServedCommand]:
    with serve() as server:
        yield server
    assert "Traceback" not in server.stderr


@pytest.fixture
def windows(pages: list[Page], server: ServedCommand) -> Iterator[list[Window]]:
    """Ada and Bob, in a room of their own."""
    windows = [Window(page, server.url, name) for page, name in zip(pages, ("Ada", "Bob"), strict=True)]
    room = f"room-{len(server.lines)}-{id(windows)}"[:24]
    for window in windows:
        window.join()
        window.put("create-name", room)
        window.page.evaluate("document.querySelector('#create button').click()")
        eventually(lambda window=window: window.text("title") == room, "the room is shown")
    yield windows
    for window in windows:
        window.page.open("about:blank")
        window.page.call("Emulation.clearDeviceMetricsOverride")
        assert [problem for problem in window.page.problems if not window.may_say(problem)] == []


def test_two_people_talk_and_see_what_was_read(windows: list[Window]) -> None:
    ada, bob = windows
    ada.say("Hello Bob")
    bob.hears("Hello Bob")
    eventually(lambda: ada.states() == ["read"], "Bob's window says that he has read it")
    bob.say("Hello Ada")
    ada.hears("Hello Ada")
    assert ada.messages() == bob.messages() == ["Hello Bob", "Hello Ada"]
    assert "Bob: Hello Ada" in ada.texts("#announcer p"), "a screen reader says it"


def test_text_stays_text_and_addresses_are_links(windows: list[Window]) -> None:
    ada, bob = windows
    text = "<img src=x onerror=alert(1)> see https://example.org/a?b=1."
    ada.say(text)
    bob.hears(text)
    assert bob.page.evaluate("document.querySelectorAll('#messages img').length") == 0
    links = bob.page.evaluate("[...document.querySelectorAll('#messages a')].map((link) => [link.href, link.rel])")
    assert links == [["https://example.org/a?b=1", "noopener noreferrer"]]


def test_who_types_is_shown_until_the_message_comes(windows: list[Window]) -> None:
    ada, bob = windows
    ada.type("I am")
    eventually(lambda: bob.text("typing") == "Ada is typing", "it is shown")
    ada.say(" done")
    bob.hears("I am done")
    assert bob.text("typing") == ""


def test_who_is_here_is_shown(windows: list[Window], server: ServedCommand) -> None:
    ada, bob = windows
    eventually(lambda: sorted(ada.texts("#people .person")) == ["Ada", "Bob"], "both are here")
    bob.page.open("about:blank")
    eventually(lambda: ada.texts("#people .person") == ["Ada"], "Bob has left")
    eventually(lambda: "Bob left" in ada.texts("#messages .notice"), "it is said")
    bob.page.open(server.url)  # the window knows who it is
    bob.until_connected()
    eventually(lambda: len(ada.texts("#people .person")) == 2, "Bob is back")


def test_unread_messages_are_counted(windows: list[Window]) -> None:
    ada, bob = windows
    room = ada.text("title")
    bob.open_room("lobby")
    for text in ("one", "two"):
        ada.say(text)
    eventually(lambda: bob.texts("#rooms .badge").count("2") == 1, "two are counted")
    assert bob.page.evaluate("document.title") == "(2) #lobby · Chat"
    bob.open_room(room)
    bob.hears("two")
    assert bob.texts("#messages .new") == ["New"]
    eventually(lambda: bob.page.evaluate("document.title") == f"#{room} · Chat", "they are read")


def test_a_picture_is_shown_and_a_file_is_offered(windows: list[Window], tmp_path: Path) -> None:
    ada, bob = windows
    (tmp_path / "red.png").write_bytes(PICTURE)
    ada.attach(tmp_path / "red.png")
    ada.say("look")
    bob.hears("look")
    shown = "document.querySelector('#messages .picture img')?.naturalWidth"
    eventually(lambda: bob.page.evaluate(shown) == 1, "the picture is shown")
    content = bytes(range(256)) * 1000
    (tmp_path / "notes.bin").write_bytes(content)
    ada.attach(tmp_path / "notes.bin")
    ada.say("")
    eventually(lambda: bob.texts("#messages .card") == ["notes.bin256 KB"], "the file is offered")
    bob.page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "got"))
    bob.page.evaluate("document.querySelector('#messages .card').click()")
    got = tmp_path / "got/notes.bin"
    eventually(lambda: got.exists() and got.stat().st_size == len(content), "it is there")
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_a_file_that_is_too_large_is_not_sent(windows: list[Window], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes((4 << 20) + 1))
    windows[0].page.choose_file("#file", tmp_path / "large")
    eventually(lambda: windows[0].text("problem") == "large has 4.2 MB; 4.2 MB are allowed.", "it is said")


def test_a_name_that_is_taken_is_refused_with_words(windows: list[Window], server: ServedCommand) -> None:
    ada, bob = windows
    bob.page.evaluate("document.getElementById('rename').click()")
    bob.put("join-name", "ada")
    bob.page.evaluate("document.getElementById('join-go').click()")
    words = "Somebody named ada is here already. Please choose another name."
    eventually(lambda: bob.text("join-problem") == words, "it is said")
    bob.name = "Robert"
    bob.join()
    eventually(lambda: "Robert" in ada.texts("#people .person"), "he has another name")
    bob.was_refused = True


def test_a_restart_of_the_server_is_survived(pages: list[Page]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serve())
        ada, bob = (Window(page, server.url, name) for page, name in zip(pages, ("Ada", "Bob"), strict=True))
        for window in (ada, bob):
            window.join()
        ada.say("before")
        bob.hears("before")
        server.stop()
        eventually(lambda: ada.banner().startswith("The connection is lost."), "the banner says so")
        ada.say("meanwhile")
        assert ada.messages() == ["before", "meanwhile"] and ada.states()[-1] == "pending"
        assert ada.banner().endswith("One message waits here until then.")
        stack.enter_context(serve("--bind", server.url.removeprefix("http://")))
        for window in (ada, bob):
            window.until_connected()
        bob.hears("meanwhile")
        eventually(lambda: ada.states()[-1] in ("sent", "read"), "it was sent")
        for window in (ada, bob):
            eventually(lambda window=window: window.banner() == "", "the banner goes")
            assert window.messages() == ["before", "meanwhile"]
            window.page.open("about:blank")


def test_the_end_of_a_room_stays_in_sight_unless_somebody_reads_further_up(windows: list[Window]) -> None:
    ada, bob = windows
    page = ada.page
    page.call("Emulation.setDeviceMetricsOverride", width=700, height=500, deviceScaleFactor=1, mobile=False)
    below = "scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight"
    for number in range(20):
        bob.say(f"line {number}")
    ada.hears("line 19")
    eventually(lambda: page.evaluate(below) < 2, "the end is shown")
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=500, deviceScaleFactor=2, mobile=True)
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    eventually(lambda: page.evaluate(below) < 2, "the end is shown on another screen")
    page.evaluate("document.getElementById('scroller').scrollTop = 0")
    eventually(lambda: not page.evaluate("document.getElementById('latest').hidden"), "there is a way back")
    bob.say("news")
    eventually(lambda: ada.text("latest") == "1 new", "it is counted")
    assert page.evaluate("document.getElementById('scroller').scrollTop") == 0
    page.evaluate("document.getElementById('latest').click()")
    eventually(lambda: page.evaluate(below) < 2, "the end is shown")


@pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (844, 390), (768, 1024), (1280, 800)])
def test_fits_the_screen(windows: list[Window], width: int, height: int) -> None:
    ada, bob = windows
    bob.say("a-long-word-" * 40)
    ada.hears("a-long-word-" * 40)
    ada.page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 1000
    )
    sizes = (
        "[innerWidth, document.documentElement.scrollWidth, document.getElementById('scroller').scrollWidth"
        " - document.getElementById('scroller').clientWidth, Math.round(innerHeight -"
        " document.getElementById('composer').getBoundingClientRect().bottom)]"
    )
    assert ada.page.evaluate(sizes) == [width, width, 0, 0]


def test_on_a_phone_the_rooms_are_in_a_drawer(windows: list[Window]) -> None:
    page = windows[0].page
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    hidden = "document.getElementById('sidebar').getBoundingClientRect().right <= 0"
    eventually(lambda: page.evaluate(hidden), "the drawer is shut")
    assert page.evaluate("document.getElementById('sidebar').inert")
    page.evaluate("document.getElementById('menu').click()")
    eventually(
        lambda: page.evaluate("document.getElementById('sidebar').getBoundingClientRect().left") == 0, "it opens"
    )
    assert page.evaluate("document.activeElement.id") == "close"
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    eventually(lambda: page.evaluate(hidden), "the drawer is shut")
    assert page.evaluate("document.activeElement.id") == "menu"


def test_controls_are_named(windows: list[Window]) -> None:
    page = windows[0].page
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    windows[0].open_room("lobby")
    wanted = {
        ("heading", "#lobby"),
        ("textbox", "Message"),
        ("button", "Send"),
        ("button", "Attach a file"),
        ("button", "Leave this room"),
        ("textbox", "Name of a new room"),
        ("button", "lobby"),
        ("button", "Join ideas, 0 here"),
        ("log", ""),
    }

    def named() -> set[tuple[str, str]]:
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        return {(node["role"]["value"], node["name"]["value"]) for node in tree if "name" in node and "role" in node}

    eventually(lambda: wanted <= named(), "each control has its name, once the layout is that of this size", 20)
    unnamed = [(role, name) for role, name in named() if role in ("button", "textbox", "link") and not name]
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(windows: list[Window], scheme: str) -> None:
    ada, bob = windows
    ada.say("mine")
    bob.say("theirs")
    ada.hears("theirs")
    ada.page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    seen = ada.page.evaluate(CONTRASTS)
    assert {name: value for name, value in seen.items() if value < 4.5} == {}
    assert len(seen) == len(re.findall(r"\n  \[", CONTRASTS))
    ada.page.call("Emulation.setEmulatedMedia", features=[])


# Text, and what stands behind it where that is no plain colour of an ancestor: the lighter end of a gradient.
CONTRASTS: Any = """
(() => {
const pairs = [
  ["#title"],
  ["#topic"],
  [".message:not(.own) .bubble p"],
  [".message:not(.own) .name"],
  [".message:not(.own) time"],
  [".message.own .bubble p", "--own-from"],
  [".message.own time", "--own-from"],
  [".avatar"],
  [".day span"],
  ["#my-name"],
  ["#rooms .room-name"],
  ["#rooms .other .room-name"],
  ["#people small"],
  ["#state"],
];
const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
const flat = (...colours) => {
  context.clearRect(0, 0, 1, 1);
  for (const colour of colours) [context.fillStyle = colour, context.fillRect(0, 0, 1, 1)];
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (colour) => colour.map((value) => value / 255)
  .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
  .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
const behind = (element) => {
  const found = [];
  for (let at = element; at; at = at.parentElement) found.unshift(getComputedStyle(at).backgroundColor);
  return found;
};
return Object.fromEntries(pairs.map(([selector, gradient]) => {
  const element = document.querySelector(selector);
  const root = getComputedStyle(document.documentElement);
  const ground = gradient ? [root.getPropertyValue(gradient).trim()] : behind(element);
  const both = [light(flat(...ground)), light(flat(...ground, getComputedStyle(element).color))].sort((a, b) => b - a);
  return [selector, (both[0] + 0.05) / (both[1] + 0.05)];
}));
})()
"""
