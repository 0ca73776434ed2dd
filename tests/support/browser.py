"""A headless Chromium, driven over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT = 60.0  # seconds for any one answer or event

FLAGS = [
    "--headless",
    "--no-sandbox",  # which root may not use
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
]


class Page:
    """One tab.

    Attributes:
        problems: What the page's scripts threw and what the browser complained of, as text.
    """

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection
        self._number = 0
        self._session = ""
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while (answer := self._receive()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        """Opens a URL and waits until it has loaded, which an open event stream does not prevent."""
        self._events.clear()
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self._wait_for("Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of the promise that it gives."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def choose_file(self, selector: str, path: Path) -> None:
        """Puts a file into an input, as its dialog would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def click_and_load(self, selector: str) -> None:
        """Clicks what leads to another page, and waits until that has loaded."""
        self._events.clear()
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        self._wait_for("Page.loadEventFired")

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())
        self._events.clear()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv())
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(message["params"]["exceptionDetails"]["text"])
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            entry = message["params"]["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}".strip())
        return message


@contextlib.contextmanager
def open_browser() -> Iterator[Page]:
    """Starts Chromium with a profile of its own, gives one page of it, and ends it."""
    with open_pages(1) as (page,):
        yield page


@contextlib.contextmanager
def open_pages(count: int) -> Iterator[list[Page]]:
    """Starts Chromium with a profile of its own, gives so many windows of it, and ends it."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, contextlib.ExitStack() as connections:
        process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            endpoint = _endpoint(process)
            pages = []
            for _ in range(count):
                connection = websocket.create_connection(endpoint, timeout=TIMEOUT, suppress_origin=True)
                connections.callback(connection.close)
                pages.append(Page(connection))
            yield pages
            connections.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the group is its own: nothing but its renderers is in there
            process.wait(TIMEOUT)


def _endpoint(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if match := re.search(r"DevTools listening on (ws://\S+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that it never waits for us to read
            return match[1]
    raise AssertionError("Chromium did not start:\n" + "".join(seen))
