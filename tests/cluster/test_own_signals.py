"""A signal that stops the server means the process that serves, not one that its application forked."""

import signal
from pathlib import Path

import pytest
import requests

from tests.support.process import ServedCommand
from tests.support.program import printed

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


FORKS_AT_ONCE = """
    import FIRST
    from streamserve import monkey
    monkey.patch_all()
    import logging, os, signal, time
    from streamserve import joinall, spawn
    from streamserve.cluster.own_signals import on_signal

    on_signal(signal.SIGTERM, print, "it is ours")

    class Slow(logging.Handler):
        def __init__(self):
            super().__init__()
            time.sleep(0.05)

    def configure():  # holds logging's lock, which a fork takes
        import logging.config
        handlers = {"h": {"()": Slow}}
        logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["h"]}})

    def fork():
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    joinall([spawn(configure), *(spawn(fork) for _ in range(3))])
    fork()
"""


@pytest.mark.parametrize("first", ["streamserve", "logging"])
def test_forks_of_several_greenlets_at_once_leave_no_signal_blocked(first: str) -> None:
    *at_once, later = printed(FORKS_AT_ONCE.replace("FIRST", first))
    assert [line.split()[0] for line in at_once] == ["-15"] * 3
    assert later == "-15 set()"
    if first == "streamserve":  # as in the command: its function is the last before a fork
        assert at_once == [later] * 3
