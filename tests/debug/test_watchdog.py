"""A loop that is kept from its poll is reported: where, by whom, once for each place."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from streamserve import Greenlet, get_hub, sleep, spawn, spawn_raw, start_watchdog
from streamserve.core import lib
from streamserve.debug.watchdog import LOOKS, MOST_PLACES, SAY_AGAIN, Watchdog
from streamserve.loop.waiter import Waiter
from tests.support.server import Running

PATIENCE = 60  # seconds; only a failing test waits so long


class Watched:
    """A watchdog of this thread's loop whose clock is set by hand and which looks when it is told to."""

    def __init__(self, limit: float = 1.0) -> None:
        self.now = time.monotonic()
        self.limit = limit
        self.reports: list[str] = []
        self.dog = Watchdog(lambda: self.now)
        self.dog.watch(get_hub(), limit, self.reports.append)

        self.pool = ThreadPoolExecutor(1)
        # Their `result()` blocks in the line that calls it, and until then another native thread looks. They are no
        # functions of this file: such would be the place that blocks.
        self.blocks: Callable[[float], Future[None]] = partial(self.pool.submit, self._pass_time)
        self.blocks_until: Callable[[float], Future[None]] = partial(self.pool.submit, self._look_at)

    def _pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / self.limit * LOOKS)):
            self.dog.check()
            self.now += self.limit / LOOKS
        self.dog.check()

    def _look_at(self, now: float) -> None:
        self.now = now
        self.dog.check()


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.pool.shutdown()


def in_a_greenlet(function: Callable[..., Any], *args: Any) -> Greenlet:
    greenlet = spawn(function, *args)
    greenlet.join()
    assert greenlet.exception is None
    return greenlet


def test_tells_file_line_stack_and_greenlet(watched: Watched) -> None:
    def busy() -> None:
        watched.blocks(1.5).result()

    greenlet = in_a_greenlet(lambda: busy())
    (report,) = watched.reports
    head, *stack = report.splitlines()
    line = busy.__code__.co_firstlineno + 1
    assert f"blocked, so far for 1.0 s, by {greenlet.name} (" in head
    assert head.endswith(f" at {__file__}:{line} in busy")
    here = stack.index(f'  File "{__file__}", line {line}, in busy')
    assert stack[here + 1] == "    watched.blocks(1.5).result()"
    assert stack[here - 1] == "    greenlet = in_a_greenlet(lambda: busy())"
    assert "Remedy:" in report


def test_says_nothing_before_the_limit(watched: Watched) -> None:
    in_a_greenlet(lambda: watched.blocks(0.9).result())
    assert watched.reports == []


def test_reports_a_place_once(watched: Watched) -> None:
    for _ in range(20):
        in_a_greenlet(lambda: watched.blocks(3).result())
    assert len(watched.reports) == 1


def test_reports_each_of_two_places(watched: Watched) -> None:
    def job(first: bool) -> None:
        if first:
            watched.blocks(3).result()
        else:
            watched.blocks(3).result()

    for first in (True, False, True, False):
        in_a_greenlet(job, first)
    start = job.__code__.co_firstlineno
    places = [report.splitlines()[0].rpartition(" at ")[2] for report in watched.reports]
    assert places == [f"{__file__}:{start + line} in job" for line in (2, 4)]


def test_reports_two_blocks_of_one_job_without_a_poll_between_them_once_only(watched: Watched) -> None:
    def job() -> None:
        watched.blocks(3).result()
        watched.blocks(3).result()

    in_a_greenlet(job)
    assert len(watched.reports) == 1


def test_reports_a_place_again_after_a_long_while_with_its_count(watched: Watched) -> None:
    def job() -> None:
        watched.blocks(2).result()

    for _ in range(3):
        in_a_greenlet(job)
    watched.now += SAY_AGAIN
    in_a_greenlet(job)
    assert len(watched.reports) == 2
    assert "(4 times since " in watched.reports[1]


def test_a_poll_between_two_jobs_resets(watched: Watched) -> None:
    for _ in range(10):
        in_a_greenlet(lambda: watched.blocks(0.5).result())
        sleep(0.0001)
    assert watched.reports == []


def test_a_poll_within_a_job_resets(watched: Watched) -> None:
    def job() -> None:
        for _ in range(10):
            watched.blocks(0.5).result()
            sleep(0.0001)

    in_a_greenlet(job)
    assert watched.reports == []


def test_many_short_jobs_without_a_poll_between_them_are_not_one_that_blocks(watched: Watched) -> None:
    polls = set()

    def job() -> None:
        polls.add(lib.ss_loop_entered(get_hub().core))
        watched.blocks(0.5).result()

    greenlets = [spawn(job) for _ in range(20)]
    for greenlet in greenlets:
        greenlet.join()
    assert len(polls) == 1
    assert watched.reports == []


def test_many_short_requests_of_one_poll_are_not_one_that_blocks() -> None:
    polls: dict[str, int] = {}
    begun, all_sent = threading.Event(), threading.Event()
    known: list[Watched] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path == "/first":
            known.append(Watched())
            begun.set()
            assert all_sent.wait(PATIENCE)
        elif path != "/warm":
            polls[path] = lib.ss_loop_entered(get_hub().core)
            known[0].blocks(0.5).result()
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    with Running(app) as running:
        clients = [running.client() for _ in range(10)]
        for client in clients:
            client.send(b"GET /warm HTTP/1.1\r\nHost: a\r\n\r\n")
            client.response()
        first = running.client()
        first.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
        for number, client in enumerate(clients):
            client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        all_sent.set()
        for client in (first, *clients):
            assert client.response().status == 200
    known[0].pool.shutdown()
    assert len(polls) == 10
    assert len(set(polls.values())) == 1
    assert known[0].reports == []


def test_a_loop_that_waits_for_events_is_not_blocked(watched: Watched) -> None:
    hub = get_hub()
    waiter = Waiter(hub)

    def look_while_it_waits() -> None:
        while lib.ss_loop_entered(hub.core):  # until it waits in its poll
            time.sleep(0.001)
        for _ in range(5):
            watched.now += 10
            watched.dog.check()
        waiter.wake_threadsafe()

    sleep(0.0001)
    thread = threading.Thread(target=look_while_it_waits)
    thread.start()
    waiter.park()
    thread.join()
    assert watched.reports == []


def test_what_kept_the_watchdog_itself_from_looking_is_found_at_its_next_look(watched: Watched) -> None:
    watched.dog.check()
    in_a_greenlet(lambda: watched.blocks_until(time.monotonic() + 5).result())  # as a call does that holds the GIL
    assert len(watched.reports) == 1


def test_a_long_turn_alone_says_nothing_about_its_last_job(watched: Watched) -> None:
    def job() -> None:
        watched.now = time.monotonic() + 5
        watched.dog.watch(get_hub(), 1.0, watched.reports.append)
        watched.blocks(0.5).result()

    in_a_greenlet(job)
    assert watched.reports == []


def test_names_whatever_runs(watched: Watched) -> None:
    waiter = Waiter(get_hub())

    def raw() -> None:
        watched.blocks(2).result()
        waiter.wake()

    greenlet = Greenlet(lambda: watched.blocks(2).result())
    greenlet.name = "the mailer"
    greenlet.start()
    greenlet.join()
    spawn_raw(raw)
    waiter.park()
    get_hub().run_callback(lambda: watched.blocks(2).result())
    sleep()
    watched.blocks(2).result()
    who = [report.partition(" by ")[2].partition(" at ")[0] for report in watched.reports]
    assert who == [
        "the mailer (test_names_whatever_runs.<locals>.<lambda>)",
        "raw greenlet (test_names_whatever_runs.<locals>.raw)",
        f"hub of thread {get_hub().thread_ident}",
        "the main greenlet or a raw one",
    ]


def test_remembers_a_bounded_number_of_places(watched: Watched) -> None:
    def block_at(number: int) -> None:
        code = compile("watched.blocks(1).result()", f"/srv/app_{number}.py", "exec")
        in_a_greenlet(exec, code, {"watched": watched})

    for number in [*range(MOST_PLACES + 1), *range(1, MOST_PLACES + 1), 0]:
        block_at(number)
    assert len(watched.reports) == MOST_PLACES + 2  # of all, the first alone was forgotten


def test_forgets_a_loop_that_has_ended() -> None:
    watchdogs: list[Watched] = []

    def other() -> None:
        watchdogs.append(Watched())
        get_hub().destroy()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    watched = watchdogs[0]
    assert watched.dog.check() > PATIENCE  # nothing is left to look at
    assert watched.reports == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_refuses_a_limit_that_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="give a number above 0"):
        start_watchdog(seconds)


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )


def test_finds_what_blocks_before_the_first_poll() -> None:
    done = run_script("""
from streamserve import spawn, start_watchdog
reports = []
def job():
    while not reports:
        pass
start_watchdog(0.01, reports.append)
spawn(job).join()
print(reports[0].splitlines()[0].rpartition(" in ")[2])
""")
    assert (done.stdout, done.stderr, done.returncode) == ("job\n", "", 0)


def test_its_thread_reports_and_ends_when_nothing_is_left_to_watch() -> None:
    done = run_script("""
import _thread, time
from streamserve import start_watchdog, sleep
from streamserve.debug.watchdog import stop_watchdog
for again in range(3):
    reports = []
    start_watchdog(0.01 + again / 1000, reports.append)
    sleep(0.001)
    assert _thread._count() == 1
    if not again:
        while not reports:  # blocks until it is found to
            pass
    stop_watchdog()
    while _thread._count():
        time.sleep(0.001)
print(len(reports))
""")
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_writes_to_standard_error_while_a_greenlet_holds_the_lock_of_its_stream() -> None:
    done = run_script("""
import logging, os, sys
from streamserve import start_watchdog, sleep
reader, writer = os.pipe()
saved = os.dup(2)
os.dup2(writer, 2)
logging.basicConfig()
start_watchdog(0.01)
sleep(0.001)
with logging.getLogger().handlers[0].lock:
    text = os.read(reader, 100)  # comes while this waits
os.dup2(saved, 2)
print(text.decode()[:42])
""")
    assert (done.stdout, done.stderr, done.returncode) == ("streamserve: the event loop is blocked, so\n", "", 0)


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "os._exit(0)", "get_hub().destroy()"])
def test_the_end_of_the_interpreter_is_clean(ending: str) -> None:
    done = run_script(f"""
import os
from streamserve import get_hub, start_watchdog, sleep
start_watchdog(0.001, lambda text: None)
sleep(0.001)
{ending}
""")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_loop_on_which_nothing_can_happen_still_raises() -> None:
    done = run_script("""
from streamserve import get_hub, start_watchdog
from streamserve.errors import LoopExit
from streamserve.loop.waiter import Waiter
start_watchdog()
try:
    Waiter(get_hub()).park()
except LoopExit:
    print("LoopExit")
""")
    assert (done.stdout, done.returncode) == ("LoopExit\n", 0), done.stderr


def test_a_child_after_fork_has_no_watchdog_and_can_start_its_own() -> None:
    done = run_script("""
import os, warnings
from streamserve import start_watchdog, sleep
from streamserve.loop.native_threads import others_may_wake
warnings.simplefilter("ignore")  # of threads and fork
start_watchdog(0.01, lambda text: None)
sleep(0.001)
child = os.fork()
if not child:
    sleep(0.001)
    assert not others_may_wake()
    reports = []
    start_watchdog(0.01, reports.append)
    sleep(0.001)
    while not reports:
        pass
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr
