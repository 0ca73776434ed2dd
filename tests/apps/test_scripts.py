"""Programs that serve themselves by `socketio.run(app)`, or test themselves, under `streamserve run`."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.apps.conftest import Connect
from tests.support.process import command

SCRIPT = """
import sys
from flask import Flask
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode=MODE)


@app.route("/")
def index():
    return "page"


@app.route("/fail")
def fail():
    raise RuntimeError("on purpose")


@socketio.on("echo")
def echo(what):
    return what


@socketio.on("stop")
def stop():
    socketio.stop()


if __name__ == "__main__":
    socketio.start_background_task(lambda: print(socketio.wsgi_server.address[1], flush=True))
    socketio.run(app, port=0, OPTIONS)
    print("over")
"""

Run = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs the script with a mode and options; returns the process and its URL."""
    with ExitStack() as stack:

        def start(mode: str | None = None, options: str = "") -> tuple[subprocess.Popen[str], str]:
            (tmp_path / "app.py").write_text(SCRIPT.replace("MODE", repr(mode)).replace("OPTIONS", options))
            process = subprocess.Popen(
                [sys.executable, "-m", "streamserve", "run", "app.py"],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, f"http://127.0.0.1:{process.stdout.readline().strip()}"

        yield start


@pytest.mark.parametrize("mode", [None, "threading", "gevent", "eventlet"])
def test_run_serves_until_a_handler_stops_it(run: Run, connect: Connect, mode: str | None) -> None:
    process, url = run(mode)
    client = connect(url)
    assert client.call("echo", "hey", timeout=60) == "hey"
    assert requests.get(url, timeout=60).text == "page"
    client.emit("stop")
    output, log = process.communicate(timeout=60)
    assert output == "over\n"
    *before, serving = log.splitlines()
    assert [line.partition(" INFO    ")[2].partition(" means ")[0] for line in before] == (
        [f"async_mode={mode!r}"] if mode else []
    )
    assert re.fullmatch(rf"[0-9].* INFO    streamserve \S+ serving app on {url} \(pid {process.pid}, \w+\)", serving)
    assert process.returncode == 0


def test_run_ends_by_ctrl_c(run: Run, connect: Connect) -> None:
    process, url = run()
    connect(url)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_debugging_shows_what_failed_and_options_of_other_servers_are_named(run: Run) -> None:
    process, url = run("gevent", "debug=True, use_reloader=False, log_output=False, spawn='default'")
    assert "RuntimeError: on purpose" in requests.get(url + "/fail", timeout=60).text
    process.send_signal(signal.SIGINT)
    assert "another server's arguments are ignored: spawn" in process.communicate(timeout=60)[1]


TESTS = """
import unittest
from app import app, socketio


class TestApp(unittest.TestCase):
    def test_echo(self):
        client = socketio.test_client(app, flask_test_client=app.test_client())
        self.assertTrue(client.is_connected())
        self.assertEqual(client.emit("echo", "hey", callback=True), "hey")
        socketio.emit("news", {"a": b"bytes"})
        self.assertEqual(client.get_received(), [{"name": "news", "args": [{"a": b"bytes"}], "namespace": "/"}])
        client.disconnect()
        self.assertFalse(client.is_connected())


unittest.main()
"""


def test_the_test_client_of_a_program_works(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SCRIPT.replace("MODE", "None").replace("OPTIONS", ""))
    (tmp_path / "tests.py").write_text(TESTS)
    done = command("run", "tests.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
