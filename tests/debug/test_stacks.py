"""All greenlets as text: who runs, who waits, where, and how many of each."""

import gc
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from streamserve import Greenlet, get_hub, getcurrent, joinall, sleep, spawn, spawn_raw
from streamserve.debug.stacks import MOST_CHARACTERS, MOST_NAMES, format_greenlets
from streamserve.loop.waiter import Waiter

PATIENCE = 60  # seconds; only a failing test waits so long


class Gate:
    """Where greenlets wait until it opens."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []

    def pass_through(self) -> None:
        waiter = Waiter(get_hub())
        self.waiters.append(waiter)
        waiter.park()

    def open(self) -> None:
        for waiter in self.waiters:
            waiter.wake()


def with_waiting(functions: list[Callable[[Gate], Any]], name: str = "") -> str:
    """The text while a greenlet for each function waits at the gate."""
    gate = Gate()
    greenlets = [spawn(function, gate) for function in functions]
    for number, greenlet in enumerate(greenlets):
        if name:
            greenlet.name = f"{name} {number}"
    sleep()
    assert len(gate.waiters) == len(greenlets)
    text = format_greenlets()
    gate.open()
    joinall(greenlets)
    return text


def section(text: str, phrase: str) -> str:
    """The one part of the text that has the phrase outside of the lines of source that it quotes."""
    quoted = re.compile("^    .*$", re.MULTILINE)
    (found,) = [part for part in text.split("\n\n") if phrase in quoted.sub("", part)]
    return found


def asks_database(gate: Gate) -> None:
    gate.pass_through()


def sends_mail(gate: Gate) -> None:
    gate.pass_through()


def test_identical_stacks_are_shown_once_with_their_number_and_some_names() -> None:
    text = with_waiting([asks_database] * 40 + [sends_mail] * 7, "worker")
    part = section(text, "in asks_database")
    head = part.splitlines()[0]
    assert re.fullmatch(
        rf"40 greenlets wait here: (worker [0-9]+ \(asks_database\),? ){{{MOST_NAMES}}}and {40 - MOST_NAMES} more", head
    )
    assert len(set(re.findall("worker [0-9]+", head))) == MOST_NAMES
    assert part.count("gate.pass_through()") == 1
    assert section(text, "in sends_mail").startswith("7 greenlets wait here: worker 4")
    assert text.index("in asks_database") < text.index("in sends_mail")


def test_different_lines_of_one_function_are_different_places() -> None:
    def job(gate: Gate, first: bool) -> None:
        if first:
            gate.pass_through()
        else:
            gate.pass_through()

    text = with_waiting([partial(job, first=True), partial(job, first=False)])
    assert text.count("1 greenlet waits here: ") == 3  # two of ours, and the hub
    assert text.count(f"({job.__qualname__})") == 2


def test_shows_where_a_greenlet_waits_without_how_it_was_started_and_parked() -> None:
    part = section(with_waiting([asks_database]), "in asks_database")
    assert "runner.py" not in part
    assert "waiter.py" not in part
    assert part.splitlines()[-2:] == [
        f'  File "{__file__}", line {Gate.pass_through.__code__.co_firstlineno + 3}, in pass_through',
        "    waiter.park()",
    ]


def test_shows_what_runs_and_the_hub_and_the_main_greenlet() -> None:
    def asks() -> str:
        return format_greenlets()

    greenlet = spawn(asks)
    greenlet.name = "the asker"
    part = section(greenlet.get(), " runs the asker ")
    assert part.splitlines()[-1].strip() == "return format_greenlets()"
    assert greenlet.get().count("the asker (") == 1
    assert "greenlet waits here: main greenlet\n" in greenlet.get()
    assert f"greenlet waits here: hub of thread {get_hub().thread_ident}\n" in greenlet.get()


def test_shows_the_frame_that_a_signal_interrupted() -> None:
    def busy() -> Any:
        import sys

        return sys._getframe()

    frame = busy()
    assert "in busy" in section(format_greenlets(frame), " runs main greenlet")


def test_shows_raw_greenlets() -> None:
    gate = Gate()
    spawn_raw(asks_database, gate)
    sleep()
    text = format_greenlets()
    gate.open()
    sleep()
    assert "1 greenlet waits here: raw greenlet (asks_database)\n" in text


def test_idle_runners_are_a_number() -> None:
    gc.collect()
    others = format_greenlets().count("greenlet waits here: ")  # the hub, and what earlier tests left
    joinall([spawn(sleep) for _ in range(30)])
    gc.collect()
    first = format_greenlets().splitlines()[0]
    assert f" {len(get_hub().idle_runners):,} idle runners" in first
    assert len(get_hub().idle_runners) >= 30
    assert format_greenlets().count("greenlet waits here: ") <= others


def test_counts_what_is_ready_to_run() -> None:
    greenlets = [spawn(int) for _ in range(3)]
    assert ", 3 entries ready to run," in format_greenlets()
    joinall(greenlets)


def test_shows_other_native_threads() -> None:
    begun, end = threading.Event(), threading.Event()

    def in_another_thread() -> None:
        begun.set()
        end.wait(PATIENCE)

    thread = threading.Thread(target=in_another_thread, name="the importer")
    thread.start()
    assert begun.wait(PATIENCE)
    text = format_greenlets()
    end.set()
    thread.join()
    assert "in in_another_thread" in section(text, "'the importer' (")


def test_shows_the_greenlets_of_another_threads_loop() -> None:
    begun, end = threading.Event(), threading.Event()

    def in_another_thread() -> None:
        gate = Gate()
        greenlet = spawn(asks_database, gate)
        sleep()
        begun.set()
        end.wait(PATIENCE)
        gate.open()
        greenlet.join()

    thread = threading.Thread(target=in_another_thread)
    thread.start()
    assert begun.wait(PATIENCE)
    text = format_greenlets()
    end.set()
    thread.join()
    assert "(asks_database)\n" in section(text, "in asks_database")


def test_ten_thousand_greenlets_in_one_place_are_one_entry() -> None:
    text = with_waiting([asks_database] * 10_000)
    assert "10,000 greenlets wait here: " in text
    assert len(text) < 10_000


def test_many_places_are_bounded() -> None:
    def place(number: int) -> Callable[[Gate], None]:
        names: dict[str, Any] = {}
        exec(compile(f"def place_{number}(gate):\n  gate.pass_through()\n", f"/srv/{number:0500}.py", "exec"), names)
        function: Callable[[Gate], None] = names[f"place_{number}"]
        return function

    text = with_waiting([place(number) for number in range(1000)])
    assert len(text) < MOST_CHARACTERS + 10_000
    last = text.splitlines()[-1]
    left_out = 1001 - text.count("greenlet waits here")
    assert last == f"{left_out} greenlets in {left_out} other places are left out"


def test_a_deep_stack_is_shortened() -> None:
    def deep(gate: Gate, depth: int) -> None:
        if depth:
            deep(gate, depth - 1)
        else:
            gate.pass_through()

    part = section(with_waiting([partial(deep, depth=150)]), "in pass_through")
    assert " more ...\n" in part
    assert part.count("\n") < 100


def test_runs_no_code_of_the_objects_it_meets() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("working outside of request context")

        def __repr__(self) -> str:
            raise RuntimeError("no")

        def __call__(self, gate: Gate) -> None:
            gate.pass_through()

    assert "(Proxy)" in with_waiting([Proxy()])


def test_names_a_greenlet_that_nobody_asked_for() -> None:
    seen: list[str] = []
    get_hub().run_callback(lambda: seen.append(format_greenlets()))
    sleep()
    assert " runs hub of thread " in seen[0]


def test_greenlets_that_were_not_started_do_no_harm() -> None:
    from greenlet import greenlet as RawGreenlet

    unstarted = Greenlet(int), RawGreenlet(int)
    assert " 1 not begun," in format_greenlets()
    del unstarted
    assert getcurrent() is not None
