"""Timers of the core, under a clock that the test moves."""

import random
from collections.abc import Iterator

import pytest

from streamserve.core import lib
from tests.support.loop import BACKENDS, SECOND, Loop, made

AT_ONCE = 512
"""Most timers that one poll reports: 256 before it looks at descriptors, and at most as many after."""


@pytest.fixture(params=BACKENDS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    for loop in made(request.param):
        lib.ss_loop_set_clock(loop.core, 0)
        yield loop


def fired(loop: Loop) -> list[int]:
    """Slots of the timers that end now, over as many polls as it takes."""
    slots: list[int] = []
    while events := loop.poll(0):
        assert {kind for kind, _, _ in events} == {lib.SS_EVENT_TIMER}
        assert len(events) <= AT_ONCE
        slots += [slot for _, slot, _ in events]
    return slots


def test_fires_when_its_time_has_come_and_not_before(loop: Loop) -> None:
    slot = lib.ss_timer_start(loop.core, 10, 1)
    lib.ss_loop_set_clock(loop.core, 9)
    assert fired(loop) == []
    lib.ss_loop_set_clock(loop.core, 10)
    assert fired(loop) == [slot]
    lib.ss_loop_set_clock(loop.core, SECOND)
    assert fired(loop) == []


def test_fire_in_the_order_of_their_times(loop: Loop) -> None:
    late, early, middle = (lib.ss_timer_start(loop.core, delay, 1) for delay in (30, 10, 20))
    lib.ss_loop_set_clock(loop.core, 40)
    assert fired(loop) == [early, middle, late]


@pytest.mark.parametrize("delay", [0, -1, -(2**63)])
def test_what_has_passed_fires_at_the_next_poll(loop: Loop, delay: int) -> None:
    slot = lib.ss_timer_start(loop.core, delay, 1)
    assert fired(loop) == [slot]


def test_the_longest_time_does_not_overflow(loop: Loop) -> None:
    lib.ss_loop_set_clock(loop.core, SECOND)
    slot = lib.ss_timer_start(loop.core, 2**63 - 1, 1)
    lib.ss_loop_set_clock(loop.core, 2**62)
    assert fired(loop) == []
    lib.ss_timer_stop(loop.core, slot)


def test_stopped_does_not_fire(loop: Loop) -> None:
    slots = [lib.ss_timer_start(loop.core, 10, 1) for _ in range(3)]
    lib.ss_timer_stop(loop.core, slots[1])
    lib.ss_loop_set_clock(loop.core, 10)
    assert sorted(fired(loop)) == [slots[0], slots[2]]


@pytest.mark.parametrize("slot", [-1, 7, 2**40, -(2**63)])
def test_stopping_what_is_not_there_does_nothing(loop: Loop, slot: int) -> None:
    kept = lib.ss_timer_start(loop.core, 10, 1)
    lib.ss_timer_stop(loop.core, slot)
    assert loop.counts()[lib.SS_COUNT_TIMERS] == 1
    lib.ss_timer_stop(loop.core, kept)
    lib.ss_timer_stop(loop.core, kept)


def test_a_slot_is_free_again_after_it_fired_or_stopped(loop: Loop) -> None:
    first = lib.ss_timer_start(loop.core, 0, 1)
    fired(loop)
    second = lib.ss_timer_start(loop.core, 0, 1)
    lib.ss_timer_stop(loop.core, second)
    third = lib.ss_timer_start(loop.core, 0, 1)
    assert first == second == third
    fired(loop)


def test_more_than_one_poll_reports_come_with_the_next(loop: Loop) -> None:
    slots = [lib.ss_timer_start(loop.core, number, 1) for number in range(2000)]
    lib.ss_loop_set_clock(loop.core, 2000)
    assert fired(loop) == slots


def test_those_that_do_not_count_leave_the_loop_idle(loop: Loop) -> None:
    slot = lib.ss_timer_start(loop.core, SECOND, 0)
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE
    other = lib.ss_timer_start(loop.core, SECOND, 1)
    assert loop.poll(-1) == []
    lib.ss_timer_stop(loop.core, other)
    assert lib.ss_loop_poll(loop.core, -1) == lib.SS_IDLE
    lib.ss_loop_set_clock(loop.core, SECOND)
    assert fired(loop) == [slot]


@pytest.mark.parametrize("seed", range(4))
def test_thousands_at_random_agree_with_a_model(loop: Loop, seed: int) -> None:
    """Start, stop and time passing in any order: what fires, and when, is what a dict says."""
    chance = random.Random(seed)
    model: dict[int, int] = {}
    now = 0
    for _ in range(4000):
        act = chance.random()
        if act < 0.55:
            delay = chance.choice([0, chance.randrange(50), chance.randrange(10_000)])
            slot = lib.ss_timer_start(loop.core, delay, chance.randrange(2))
            assert slot not in model
            model[slot] = now + delay
        elif act < 0.75 and model:
            slot = chance.choice(list(model))
            lib.ss_timer_stop(loop.core, slot)
            del model[slot]
        else:
            now += chance.randrange(200)
            lib.ss_loop_set_clock(loop.core, now)
            due = sorted(when for when in model.values() if when <= now)
            assert [model.pop(slot) for slot in fired(loop)] == due
        assert loop.counts()[lib.SS_COUNT_TIMERS] == len(model)
    for slot in model:
        lib.ss_timer_stop(loop.core, slot)


def test_a_real_clock_wakes_the_poll_in_time() -> None:
    for backend in BACKENDS:
        for loop in made(backend):
            slot = lib.ss_timer_start(loop.core, 1_500_000, 1)
            before = lib.ss_loop_now(loop.core)
            assert loop.poll(-1) == [(lib.SS_EVENT_TIMER, slot, 0)]
            assert lib.ss_loop_now(loop.core) - before >= 1_400_000
