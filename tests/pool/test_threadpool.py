"""ThreadPool: threads as needed, results and errors, limits, forks and the interpreter's end."""

import _thread
import contextvars
import gc
import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from streamserve import get_hub, joinall, sleep, spawn
from streamserve.errors import LoopExit
from streamserve.loop.hubs import hub_of_thread
from streamserve.loop.waiter import Waiter
from streamserve.pool.threadpool import ThreadPool
from streamserve.sync.event import Event
from tests.loop.test_fork import in_child
from tests.loop.test_threads import open_descriptors
from tests.support.threads import PATIENCE, in_threads, until


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool(3)
    yield made
    made.kill()


def test_calls_run_in_other_threads_while_greenlets_go_on(pool: ThreadPool) -> None:
    gates = [_thread.allocate_lock() for _ in range(3)]
    for gate in gates:
        gate.acquire()

    begun: list[object] = []

    def work(gate: _thread.LockType) -> int:
        begun.append(gate)
        assert gate.acquire(timeout=PATIENCE)
        return _thread.get_ident()

    results = [pool.spawn(work, gate) for gate in gates]
    assert (len(pool), bool(pool), pool.size) == (3, True, 3)
    until(lambda: len(begun) == 3)
    for gate in gates:
        gate.release()
    idents = {result.get(timeout=PATIENCE) for result in results}
    assert len(idents) == 3
    assert _thread.get_ident() not in idents
    assert (len(pool), bool(pool)) == (0, False)


def test_values_and_errors_of_all_kinds_come_back(pool: ThreadPool, errors: io.StringIO) -> None:
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    assert pool.spawn(int, "ff", base=16).get() == 255
    for error in (ZeroDivisionError, KeyboardInterrupt, SystemExit):

        def fail(error: type[BaseException] = error) -> None:
            raise error("on purpose")

        with pytest.raises(error, match="on purpose"):
            pool.spawn(fail).get()
        with pytest.raises(error, match="on purpose"):
            pool.apply(fail)
    pool.join()
    until(errors.getvalue)
    assert errors.getvalue().count("failed with") == 1, "what spawn began and what is an error is reported"
    for wrong in (pool.spawn, pool.apply):
        with pytest.raises(TypeError):
            wrong(3)
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_mapping(pool: ThreadPool) -> None:
    seen: list[object] = []
    assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
    assert pool.map_async(abs, [-1], seen.append).get() == [1]
    assert pool.apply_async(abs, (-2,), callback=seen.append).get() == 2
    assert pool.apply_cb(abs, (-3,), callback=seen.append) == 3
    sleep(0)
    assert seen == [[1], 2, 3]


def test_apply_of_a_member_runs_on_the_spot() -> None:
    pool = ThreadPool(1)
    assert pool.apply(lambda: pool.apply(_thread.get_ident) == _thread.get_ident()) is True
    pool.kill()


def test_spawn_waits_while_maxsize_calls_are_open() -> None:
    pool, gate, log = ThreadPool(1), _thread.allocate_lock(), []
    gate.acquire()
    first = pool.spawn(gate.acquire)
    spawner = spawn(lambda: log.append(pool.spawn(int).get()))
    sleep(0)
    assert (len(pool), log) == (1, [])
    gate.release()
    spawner.join()
    assert first.get() is True
    assert log == [0]
    pool.kill()


def test_sizes() -> None:
    pool = ThreadPool(3)
    assert (pool.size, pool.maxsize) == (0, 3)
    pool.size = 2
    assert pool.size == 2
    pool.maxsize = 1
    assert pool.size == 1
    assert pool.map(abs, range(5)) == list(range(5))
    with pytest.raises(ValueError, match="maxsize"):
        pool.size = 2
    with pytest.raises(ValueError, match="-1"):
        pool.maxsize = -1
    with pytest.raises(ValueError, match="-1"):
        ThreadPool(-1)
    with pytest.raises(TypeError):
        ThreadPool("1")  # type: ignore[arg-type]
    pool.kill()
    assert pool.size == 0
    assert pool.apply(abs, (-1,)) == 1, "it may be used again"
    pool.kill()


def test_join_waits_for_all_calls(pool: ThreadPool) -> None:
    gate = _thread.allocate_lock()
    gate.acquire()
    results = [pool.spawn(gate.acquire), pool.spawn(int)]
    assert pool.join(timeout=0.001) is False
    gate.release()
    assert pool.join() is True
    assert all(result.ready() for result in results)


def test_idle_threads_end() -> None:
    pool = ThreadPool(3, idle_task_timeout=0.001)
    for _ in range(20):
        assert pool.map(abs, range(9)) == list(range(9))
    until(lambda: pool.size == 0)
    assert pool.apply(abs, (-1,)) == 1


def test_a_pool_that_nobody_holds_ends_its_threads() -> None:
    pool = ThreadPool(2)
    pool.map(abs, range(4))
    crew = pool._crew
    del pool
    gc.collect()
    until(lambda: crew.alive == 0)


def test_a_call_may_use_greenlets_and_its_loop_ends_with_the_thread() -> None:
    def use_greenlets() -> list[int]:
        greenlets = [spawn(lambda number=number: (sleep(0.0001), number)[1]) for number in range(3)]
        assert hub_of_thread() is not main
        return [greenlet.get() for greenlet in greenlets]

    main, pool = get_hub(), ThreadPool(1)
    assert pool.apply(use_greenlets) == [0, 1, 2]
    pool.kill()
    before = open_descriptors()
    for _ in range(5):
        assert pool.apply(use_greenlets) == [0, 1, 2]
        pool.kill()
    until(lambda: open_descriptors() <= before)


def test_contexts_do_not_leak_from_call_to_call() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("of the caller")
    pool = ThreadPool(1)
    assert pool.apply(lambda: (variable.get(), variable.set("left behind"))[0]) == "unset"
    assert pool.apply(variable.get) == "unset"
    pool.kill()


def test_idle_threads_are_no_hope_but_working_ones_are(pool: ThreadPool) -> None:
    pool.map(abs, range(3))
    with pytest.raises(LoopExit):
        Waiter(get_hub()).park()
    event = Event()
    pool.spawn(lambda: event.set())
    assert event.wait() is True


def test_any_thread_may_spawn(pool: ThreadPool) -> None:
    seen: list[int] = []

    def run() -> None:
        joinall([spawn(lambda number=number: seen.append(pool.spawn(abs, -number).get())) for number in range(50)])

    in_threads([run, run, run])
    assert sorted(seen) == sorted([*range(50)] * 3)


def test_after_a_fork_the_child_starts_with_no_thread_and_the_parent_goes_on(pool: ThreadPool) -> None:
    gate = _thread.allocate_lock()
    gate.acquire()
    result, queued = pool.spawn(gate.acquire), pool.spawn(int, "5")

    def child() -> str:
        assert (len(pool), pool.size) == (0, 0)
        return f"{pool.map(abs, [-1, -2, -3, -4])} {queued.ready()}"

    queued.get()
    answer = in_child(child)
    gate.release()
    assert answer == "[1, 2, 3, 4] True"
    assert result.get() is True


def test_a_thread_that_cannot_be_started_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamserve.pool import crew

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    pool = ThreadPool(1)
    with monkeypatch.context() as patch:
        patch.setattr(crew, "start_new_thread", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.spawn(int)
    assert (len(pool), pool.size) == (0, 0)
    assert pool.apply(abs, (-1,)) == 1
    pool.kill()


@pytest.mark.parametrize(
    "last", ["pass", "pool.spawn(time.sleep, 1000)", "pool.map(abs, range(9))", "raise SystemExit"]
)
def test_the_interpreter_ends_in_silence(last: str) -> None:
    code = f"""
import time
from streamserve.loop.hubs import get_hub
from streamserve.pool.threadpool import ThreadPool
pool = ThreadPool(4)
pool.map(abs, range(20))
get_hub().threadpool.apply(abs, (-1,))
{last}
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_kill_while_others_wait_to_spawn_ends_the_threads_there_are(pool: ThreadPool) -> None:
    crowd = [spawn(pool.spawn, sum, [number]) for number in range(20)]
    sleep(0)
    pool.kill()
    joinall(crowd, timeout=PATIENCE, raise_error=True)
    assert [each.value.get(timeout=PATIENCE) for each in crowd] == list(range(20))
    pool.kill()
    assert pool.size == 0
