"""Runners: greenlets that are reused."""

from typing import Any

import greenlet
import pytest

from streamserve import getcurrent, joinall, sleep, spawn
from streamserve.loop.hubs import get_hub
from streamserve.loop.runner import IDLE_RUNNERS


def test_greenlets_that_never_wait_share_one_runner() -> None:
    runners = {g.get() for g in [spawn(lambda: id(greenlet.getcurrent())) for _ in range(100)]}
    assert len(runners) == 1


def test_a_runner_that_waits_hands_the_rest_to_another() -> None:
    log: list[str] = []
    joinall([spawn(lambda: (sleep(0.001), log.append("waited"))), spawn(log.append, "went on")])
    assert log == ["went on", "waited"]


def test_idle_runners_are_bounded() -> None:
    joinall([spawn(sleep, 0.001) for _ in range(IDLE_RUNNERS + 200)])
    sleep(0.001)
    assert len(get_hub().idle_runners) <= IDLE_RUNNERS


@pytest.mark.parametrize("kind", [ValueError, SystemError])
def test_a_failing_greenlet_does_not_cost_its_runner(errors: Any, kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind

    failed = spawn(fail)
    try:
        failed.join()
    except SystemError:
        assert kind is SystemError
    log: list[int] = []
    joinall([spawn(log.append, number) for number in range(5)])
    assert log == [0, 1, 2, 3, 4]


def test_each_item_asks_for_its_own_current_greenlet() -> None:
    hub, seen = get_hub(), []

    def item(words: Any, runner: Any) -> None:  # what a request is: an item without a Greenlet
        seen.append(getcurrent())
        assert getcurrent() is seen[-1]

    hub.ready.extend([(item,), (item,)])
    sleep(0.001)
    assert len(seen) == 2
    assert seen[0] is not seen[1]
    assert all(handle.dead for handle in seen)


def test_a_kill_of_an_item_reaches_only_that_item() -> None:
    hub, log, handles = get_hub(), [], []

    def item(words: Any, runner: Any) -> None:
        handles.append(getcurrent())
        try:
            sleep(10)
        except BaseException as error:
            log.append(type(error).__name__)

    hub.ready.append((item,))
    sleep(0.001)
    handles[0].kill()
    handles[0].kill()
    spawn(lambda: (sleep(0.001), log.append("next"))).join()
    assert log == ["GreenletExit", "next"]
