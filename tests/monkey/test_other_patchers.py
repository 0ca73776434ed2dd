"""Applications that patch themselves for gevent or eventlet, as under `gunicorn -k gevent`: the real packages."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.support.other_patchers import ROOT, python_path
from tests.support.process import ServedCommand, command

# Waits in each way that a second loop under the same calls would not come back from.
APPLICATION = """
import socket, threading, time

def app(environ, start_response):
    time.sleep(0.01)
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    assert lock.acquire(timeout=20)
    thread.join(20)
    one, other = socket.socketpair()
    threading.Timer(0.01, one.sendall, [b"x"]).start()
    assert other.recv(1) == b"x"
    start_response("200 OK", [])
    return [time.sleep.__module__.encode()]
"""

LEFT_OUT = " is left out: streamserve patches the standard library itself; remove it"

PATCHING = {
    "from gevent import monkey; monkey.patch_all()": ["gevent.monkey.patch_all()"],
    "import gevent.monkey as m; m.patch_all(thread=False)": ["gevent.monkey.patch_all()"],
    "from gevent.monkey import patch_all, patch_ssl; patch_all(); patch_ssl()": [
        "gevent.monkey.patch_all()",
        "gevent.monkey.patch_ssl()",
    ],
    "import gevent.monkey; gevent.monkey.patch_socket(); gevent.monkey.patch_time()": [
        "gevent.monkey.patch_socket()",
        "gevent.monkey.patch_time()",
    ],
    "import eventlet; eventlet.monkey_patch()": ["eventlet.monkey_patch()"],
    "from eventlet.patcher import monkey_patch; monkey_patch(socket=True)": ["eventlet.monkey_patch()"],
    "import psycogreen.gevent as p; p.patch_psycopg()": ["psycogreen.gevent.patch_psycopg()"],
}


@pytest.mark.parametrize("patch", [True, False], ids=["patched", "no-patch"])
@pytest.mark.parametrize("line", PATCHING)
def test_application_that_patches_itself_is_served_and_told_which_line_to_remove(
    tmp_path: Path, line: str, patch: bool
) -> None:
    (tmp_path / "site_module.py").write_text(f"# mine\n{line}\n{APPLICATION}")
    flags = [] if patch else ["--no-patch"]
    with ServedCommand("site_module:app", *flags, cwd=tmp_path, PYTHONPATH=python_path()) as server:
        expected = "streamserve.green.time" if patch else "time"
        assert requests.get(server.url, timeout=60).text == expected
        for call in PATCHING[line]:
            assert f" WARNING {call} in {tmp_path}/site_module.py, line 2{LEFT_OUT}\n" in server.stderr


def test_each_place_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("from gevent import monkey\nfor _ in range(3):\n    monkey.patch_all()\n")
    result = command("run", "script.py", cwd=tmp_path, PYTHONPATH=python_path())
    assert (result.returncode, result.stderr.count(LEFT_OUT)) == (0, 1)


@pytest.mark.parametrize(
    ("package", "use"),
    [("gevent", "import gevent; gevent.sleep(0)"), ("eventlet", "import eventlet; eventlet.sleep(0)")],
)
def test_loop_of_another_package_is_told_where_it_begins(tmp_path: Path, package: str, use: str) -> None:
    (tmp_path / "script.py").write_text(f"{use}\n{use}\n")
    result = command("run", "script.py", cwd=tmp_path, PYTHONPATH=python_path())
    assert result.returncode == 0
    assert result.stderr.count(f"{package}'s own loop is used in {tmp_path}/script.py, line 1: ") == 1
    assert result.stderr.count("own loop") == 1


EVENTLET_WAITS = """
import eventlet
def wait(path):
    if path == "/sleep":
        eventlet.sleep(0.01)
    elif path == "/spawn":
        eventlet.spawn(int).wait()
    else:
        queue = eventlet.Queue()
        eventlet.spawn_n(queue.put, 1)
        queue.get()
def app(environ, start_response):
    wait(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [b"waited"]
"""


def test_requests_that_wait_in_the_loop_of_eventlet_end_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "site_module.py").write_text(EVENTLET_WAITS)
    with ServedCommand("site_module:app", cwd=tmp_path, PYTHONPATH=python_path()) as server:
        for path in ["/sleep", "/spawn", "/queue"] * 4:
            assert requests.get(server.url + path, timeout=60).text == "waited"
        with ThreadPoolExecutor(6) as pool:
            paths = [server.url + path for path in ("/sleep", "/spawn", "/queue")] * 4
            assert {answer.text for answer in pool.map(partial(requests.get, timeout=60), paths)} == {"waited"}


@pytest.mark.parametrize(
    "start",
    [
        ["-m", "gevent.monkey", "--module", "streamserve", "site_module:app"],
        ["-c", "import eventlet; eventlet.monkey_patch()\nimport streamserve"],
        ["-c", "from gevent import monkey; monkey.patch_socket()\nimport streamserve.wsgi"],
        [
            "-c",
            "import streamserve.monkey; from gevent import monkey; monkey.patch_all()\nstreamserve.monkey.patch_all()",
        ],
    ],
)
def test_process_that_others_have_patched_is_refused(tmp_path: Path, start: list[str]) -> None:
    (tmp_path / "site_module.py").write_text(APPLICATION)
    result = subprocess.run(
        [sys.executable, *start], cwd=tmp_path, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert " has patched the standard library before streamserve could, and only one may; remove " in result.stderr


@pytest.mark.parametrize("line", ["from gevent import monkey", "import eventlet", "import psycogreen.gevent"])
def test_package_that_is_not_there_need_not_be(tmp_path: Path, line: str) -> None:
    (tmp_path / "site_module.py").write_text(f"{line}\n{APPLICATION}")
    result = command("site_module:app", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 2
    package = line.split()[1].partition(".")[0]
    assert f'site_module.py", line 1, in <module>\n    {line}\n' in result.stderr
    assert result.stderr.endswith(
        f"; remove the line if it is for patching, which streamserve does itself, or install {package}\n"
    )


def test_imports_without_patching_are_no_news(tmp_path: Path) -> None:
    (tmp_path / "site_module.py").write_text(f"import gevent, gevent.monkey, gevent.pool\n{APPLICATION}")
    with ServedCommand("site_module:app", cwd=tmp_path, PYTHONPATH=python_path()) as server:
        assert requests.get(server.url, timeout=60).text == "streamserve.green.time"
        assert "WARNING" not in server.stderr
