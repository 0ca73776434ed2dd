"""What an ended greenlet held is let go in its own greenlet and context."""

import contextvars
import gc
import io
import sys
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

from streamserve import Timeout, sleep, spawn
from tests.support.program import printed

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


class Held:
    """Something that is closed when it is freed."""


def within(log: list[str]) -> Iterator[int]:
    token = variable.set(1)
    try:
        yield 1
    finally:
        variable.reset(token)  # a ValueError in another context
        log.append("reset")


def test_a_killed_greenlet_ends_its_generators_in_its_own_context() -> None:
    log: list[str] = []

    def work() -> None:
        for _ in within(log):
            sleep(20)

    greenlet = spawn(work)
    sleep(0)
    greenlet.kill()
    assert log == ["reset"]


def test_a_failed_one_too_and_its_traceback_keeps_its_lines(errors: io.StringIO) -> None:
    log: list[str] = []

    def fail() -> None:
        for _ in within(log):
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error

    greenlet = spawn(fail)
    greenlet.join()
    assert log == ["reset"]
    assert greenlet.exception is not None
    lines = "".join(traceback.format_exception(greenlet.exception))
    assert 'raise ValueError("second") from error' in lines
    assert 'raise KeyError("first")' in lines


def test_what_a_killed_one_held_is_free_while_its_handle_is_kept(errors: io.StringIO) -> None:
    held: list[Any] = []

    def work() -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        sleep(20)

    greenlets = [spawn(work) for _ in range(3)]
    sleep(0)
    gc.disable()
    try:
        greenlets[0].kill()
        greenlets[1].kill(Timeout(1))
        greenlets[2].kill(ValueError)
        assert [reference() for reference in held] == [None] * 3
    finally:
        gc.enable()


def test_a_generator_that_caught_the_error_and_goes_on_is_left_alone(errors: io.StringIO) -> None:
    caught: list[BaseException] = []

    def catching() -> Iterator[int]:
        try:
            raise KeyError("caught")
        except KeyError as error:
            caught.append(error)
        yield 1
        yield 2

    living = catching()
    next(living)

    def fail() -> None:
        raise caught[0]

    spawn(fail).join()
    assert next(living) == 2


def test_frames_of_greenlets_that_wait_are_left_alone(errors: io.StringIO) -> None:
    caught: list[BaseException] = []

    def waiting() -> str:
        mine = "kept"
        try:
            raise KeyError(sys.getrecursionlimit())
        except KeyError as error:
            caught.append(error)
        sleep(0.001)
        return mine

    def fail() -> None:
        raise caught[0]

    first = spawn(waiting)
    sleep(0)
    spawn(fail).join()
    assert first.get() == "kept"


def test_a_kill_amid_create_connection_leaves_no_socket_open() -> None:
    source = """
from streamserve.monkey import patch_all; patch_all()
import os, socket
from streamserve import sleep, spawn
listener = socket.create_server(("127.0.0.1", 0), backlog=1)
address = listener.getsockname()
kept = [socket.create_connection(address) for _ in range(2)]  # its backlog is full: the next one waits
before = len(os.listdir("/proc/self/fd"))
greenlets = [spawn(socket.create_connection, address) for _ in range(5)]
sleep(0.01)
during = len(os.listdir("/proc/self/fd"))
for greenlet in greenlets:
    greenlet.kill()
print(during - before, len(os.listdir("/proc/self/fd")) - before)
"""
    assert printed(source) == ["5 0"]
