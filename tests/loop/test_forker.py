"""A child of fork whose parent called it in a greenlet: that greenlet is its main one."""

import pytest

from tests.support.program import printed, run_program

START = """
import os, sys, threading
from streamserve import sleep, spawn
from streamserve.sync.event import Event
parent = os.getpid()
event = Event()
def fork(child):
    def run():
        event.set()  # main was woken, and stands in the queue that the child drops
        pid = os.fork()
        if pid == 0:
            return child()
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return run
def follow(greenlet):
    try:
        event.wait()
        greenlet.join()
        print("main", os.getpid() == parent)
    finally:
        assert os.getpid() == parent
"""
FORK = {
    "returns": ("lambda: print('said')", ["said", "child 0", "main True"]),
    "exits": ("lambda: sys.exit(3)", ["child 3", "main True"]),
    "says why": ("lambda: sys.exit('why')", ["child 1", "main True"]),
    "another exits": ("lambda: (spawn(sys.exit, 4), sleep(60))", ["child 4", "main True"]),
    "goes on": (
        "lambda: (sleep(0.001), spawn(lambda: (sleep(0.001), print('last'))))",
        ["last", "child 0", "main True"],
    ),
    "waits for ever": ("lambda: Event().wait()", ["child 0", "main True"]),
    "is interrupted": ("lambda: (spawn(os.kill, os.getpid(), 2), sleep(60))", ["child 130", "main True"]),
}


@pytest.mark.parametrize("what", FORK)
def test_the_child_ends_with_the_greenlet_that_forked(what: str) -> None:
    child, lines = FORK[what]
    assert run_program(f"{START}\nfollow(spawn(fork({child})))").stdout.splitlines() == lines


@pytest.mark.parametrize("what", ["returns", "goes on"])
def test_a_signal_function_keeps_no_child_whose_greenlet_has_ended(what: str) -> None:
    child, lines = FORK[what]
    program = f"{START}\nimport signal\nsignal.signal(signal.SIGUSR2, lambda *a: None)\nfollow(spawn(fork({child})))"
    assert run_program(program).stdout.splitlines() == lines


def test_a_patched_thread_that_forks_is_the_only_one_of_the_child() -> None:
    program = f"""
from streamserve.monkey import patch_all
patch_all()
{START}
import signal
signal.signal(signal.SIGUSR2, lambda *a: None)
for child in (lambda: None, lambda: sys.exit(3)):
    event.clear()
    thread = threading.Thread(target=fork(child))
    thread.start()
    follow(thread)
"""
    assert printed(program) == ["child 0", "main True"] * 2


def test_the_child_of_a_request_ends_with_it() -> None:
    program = f"""
{START}
import urllib.request
from streamserve.monkey import patch_all
patch_all()
import signal
signal.signal(signal.SIGUSR2, lambda *a: None)
from streamserve.wsgi import WSGIServer
def app(environ, start_response):
    pid = os.fork()
    if pid == 0:
        if environ["PATH_INFO"] == "/exit":
            sys.exit(5)
        start_response("200 OK", [])
        return [b"child"]
    start_response("200 OK", [])
    return [b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
server = WSGIServer("127.0.0.1:0", app)
server.start()
for path in ("/", "/exit"):
    print(urllib.request.urlopen(f"http://127.0.0.1:{{server.address[1]}}{{path}}").read().decode())
"""
    assert printed(program) == ["0", "5"]


def test_a_fork_of_the_main_greenlet_leaves_it_the_main_one() -> None:
    program = f"""
{START}
pid = os.fork()
if pid == 0:
    spawn(sys.exit, 6)
    try:
        sleep(60)
    finally:
        print("finally", flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert printed(program) == ["finally", "6"]
