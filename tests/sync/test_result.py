"""AsyncResult: a value or an exception that others wait for."""

import traceback

import pytest

from streamserve import Greenlet, Timeout, get_hub, iwait, joinall, sleep, spawn
from streamserve.errors import BlockingSwitchOutError
from streamserve.sync.event import AsyncResult
from tests.support.threads import PATIENCE, begin, crew, disturbed, in_threads, until


def test_all_get_the_value_in_order() -> None:
    result, log = AsyncResult(), []
    started = [spawn(lambda name=name: log.append((name, result.get()))) for name in "abc"]
    sleep(0)
    assert not result.ready() and not result.done() and not result.successful()
    assert (result.value, result.exception, result.exc_info) == (None, None, ())
    result.set(5)
    joinall(started)
    assert log == [("a", 5), ("b", 5), ("c", 5)]
    assert result.ready() and result.done() and result.successful()
    assert (result.get_nowait(), result.result(), result.wait(), result.value) == (5, 5, 5, 5)


def test_all_get_the_exception() -> None:
    result, error, log = AsyncResult(), ValueError("no"), []

    def run() -> None:
        with pytest.raises(ValueError) as caught:
            result.get()
        log.append(caught.value)

    started = [spawn(run), spawn(run)]
    sleep(0)
    result.set_exception(error)
    joinall(started)
    assert log == [error, error]
    assert result.ready() and not result.successful()
    assert (result.value, result.exception, result.wait()) == (None, error, None)
    assert result.exc_info == (ValueError, error, None)


def test_the_traceback_given_with_an_exception_is_raised_with_it() -> None:
    result = AsyncResult()

    def guilty() -> None:
        raise KeyError("deep down")

    try:
        guilty()
    except KeyError as error:
        result.set_exception(error, (KeyError, error, error.__traceback__))
    with pytest.raises(KeyError) as caught:
        result.get()
    assert "guilty" in "".join(traceback.format_exception(caught.value))


def test_the_first_of_value_and_exception_counts_and_the_last_of_two_values() -> None:
    result, failed = AsyncResult(), AsyncResult()
    result.set(1)
    result.set_exception(KeyError)
    result.set_result(2)
    assert (result.get(), result.exception, result.successful()) == (2, None, True)
    failed.set_exception(KeyError)
    failed.set(1)
    failed.set_exception(ValueError)
    with pytest.raises(ValueError):
        failed.get()
    assert not failed.successful()


def test_an_exception_must_be_one() -> None:
    result = AsyncResult()
    with pytest.raises(TypeError, match="exception class or instance"):
        result.set_exception(5)
    assert not result.ready()


def test_get_without_a_value_raises_timeout() -> None:
    result, limit = AsyncResult(), Timeout(0.001)
    for attempt in (
        result.get_nowait,
        lambda: result.get(False),
        lambda: result.get(timeout=0.001),
        lambda: result.result(-1),
    ):
        with pytest.raises(Timeout):
            attempt()
    with pytest.raises(Timeout) as caught:
        result.get(timeout=limit)
    assert caught.value is limit
    assert result.wait(0.001) is None
    assert result.linkcount() == 0


def test_a_value_of_none_is_one() -> None:
    result = AsyncResult()
    spawn(result.set)
    assert result.get(timeout=PATIENCE) is None
    assert result.successful()


def test_it_takes_over_what_a_greenlet_ends_with() -> None:
    for how in (Greenlet.link, Greenlet.rawlink):
        good, bad = AsyncResult(), AsyncResult()
        how(spawn(pow, 2, 10), good)
        failing = Greenlet(divmod, 1, 0)
        how(failing, bad)
        hub = get_hub()
        before, hub.handle_error = hub.handle_error, lambda *error: None  # what fails here is expected
        try:
            failing.start()
            assert good.get() == 1024
            with pytest.raises(ZeroDivisionError):
                bad.get()
        finally:
            hub.handle_error = before


def test_it_takes_over_another_result() -> None:
    first, second = AsyncResult(), AsyncResult()
    first.rawlink(second)
    first.set("passed on")
    assert second.get(timeout=PATIENCE) == "passed on"


def test_links_are_called_once_and_can_be_taken_back() -> None:
    result, seen = AsyncResult(), []
    result.rawlink(seen.append)
    result.rawlink(print)
    result.unlink(print)
    result.set(1)
    result.rawlink(print)
    result.unlink(print)
    sleep(0)
    result.set(2)
    sleep(0)
    assert seen == [result]


def test_iwait_gives_results_as_they_become_ready() -> None:
    results = [AsyncResult() for _ in range(3)]
    spawn(lambda: [results[number].set() for number in (1, 2, 0)])
    assert list(iwait(results)) == [results[1], results[2], results[0]]


def test_a_killed_waiter_is_forgotten() -> None:
    result = AsyncResult()
    started = [spawn(result.get), spawn(result.get, timeout=PATIENCE), spawn(result.wait)]
    sleep(0)
    assert result.linkcount() == 3
    for greenlet in started:
        greenlet.kill()
    assert result.linkcount() == 0


def test_waiting_in_the_hub_is_refused() -> None:
    result, caught = AsyncResult(), []

    def callback() -> None:
        with pytest.raises(BlockingSwitchOutError, match="spawn a greenlet"):
            result.get()
        caught.append(result.linkcount())

    get_hub().run_callback(callback)
    sleep(0)
    assert caught == [0]


def test_it_cannot_be_cancelled() -> None:
    result = AsyncResult()
    assert (result.cancel(), result.cancelled()) == (False, False)


def test_repr_tells_its_state() -> None:
    result = AsyncResult()
    assert "unset" in repr(result)
    result.set(5)
    assert "value=5" in repr(result)
    failed = AsyncResult()
    failed.set_exception(KeyError("x"))
    assert "KeyError('x')" in repr(failed)


def test_another_thread_sets_it() -> None:
    result = AsyncResult()
    threads, _ = begin([lambda: until(result.linkcount) or result.set("from there")])
    assert result.get(timeout=PATIENCE) == "from there"
    threads[0].join()


def test_no_wake_up_is_lost_between_threads(restless: None) -> None:
    results = [AsyncResult() for _ in range(300)]

    def work() -> None:
        for number, result in enumerate(results):
            assert result.get(timeout=PATIENCE) == number

    def set_all() -> None:
        for number, result in enumerate(results):
            result.set(number)

    in_threads([crew(5, disturbed(work)), crew(5, disturbed(work)), disturbed(work), disturbed(set_all)])
    assert not any(result.linkcount() for result in results)
