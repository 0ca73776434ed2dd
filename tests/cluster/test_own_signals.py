"""A signal that stops the server means the process that serves, not one that its application forked."""

import signal
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand

APPLICATION = """
import multiprocessing, os, signal, threading, time

fork = multiprocessing.get_context("fork")


def compute():
    print("the child runs", flush=True)
    while True:
        pass


def wait():
    print("the child runs", flush=True)
    time.sleep(60)


def catch():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stop.set())
    stop.wait()
    os._exit(42)


def app(environ, start_response):
    way, number = environ["PATH_INFO"][1:].split("/")
    start_response("200 OK", [])
    if way == "pools":
        for _ in range(int(number)):
            with fork.Pool(2) as pool:
                pool.map(abs, range(5))
        return [b"ended"]
    codes = []
    for _ in range(5):
        child = fork.Process(target=globals()[way])
        child.start()
        if number != "0":
            time.sleep(0.3)
        os.kill(child.pid, int(number) or signal.SIGTERM)
        child.join()
        codes.append(child.exitcode)
    return [" ".join(map(str, codes)).encode()]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "site_module.py").write_text(APPLICATION)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("compute/0", {-signal.SIGTERM}),  # before it has run a line
        ("wait/0", {-signal.SIGTERM}),
        (f"compute/{signal.SIGTERM:d}", {-signal.SIGTERM}),
        (f"wait/{signal.SIGTERM:d}", {-signal.SIGTERM}),
        (f"wait/{signal.SIGHUP:d}", {-signal.SIGHUP}),
        (f"wait/{signal.SIGINT:d}", {1}),  # a KeyboardInterrupt
        (f"compute/{signal.SIGINT:d}", {1}),
        (f"catch/{signal.SIGTERM:d}", {42}),
    ],
)
def test_a_child_ends_by_the_signal_that_it_is_sent(project: Path, path: str, codes: set[int]) -> None:
    with ServedCommand("site_module:app", cwd=project) as server:
        assert set(map(int, requests.get(f"{server.url}/{path}", timeout=60).text.split())) == codes
        assert "stopping" not in server.stderr
    assert "SIGTERM: stopping; no request is running" in server.stderr


def test_pools_end_however_far_their_workers_are(project: Path) -> None:
    with ServedCommand("site_module:app", cwd=project) as server:
        assert requests.get(f"{server.url}/pools/40", timeout=60).text == "ended"
        assert "stopping" not in server.stderr
