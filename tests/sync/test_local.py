"""local: attributes of one greenlet, which nobody else sees and nobody keeps."""

import copy
import gc
import pickle
import threading
import weakref
from typing import Any

import greenlet as raw_greenlet
import pytest

from streamserve import get_hub, getcurrent, joinall, sleep, spawn, spawn_raw
from streamserve.sync.local import local
from tests.support.threads import crew, disturbed, in_thread, in_threads, until


class Value:
    """Something that can be watched dying."""


def seen_elsewhere(data: local) -> dict[str, Any]:
    found: dict[str, Any] = spawn(lambda: dict(data.__dict__)).get()
    return found


def test_each_greenlet_has_its_own_attributes() -> None:
    data, found = local(), []
    data.name = "main"

    def run(name: str) -> None:
        found.append(hasattr(data, "name"))
        data.name = name
        sleep(0)
        found.append(data.name)

    joinall([spawn(run, name) for name in "ab"])
    assert found == [False, False, "a", "b"]
    assert data.name == "main"
    del data.name
    assert data.__dict__ == {}


def test_threads_raw_greenlets_and_the_hub_have_their_own() -> None:
    data, found = local(), []

    def look() -> None:
        found.append(dict(data.__dict__))
        data.name = "other"
        found.append(data.name)

    data.name = "main"
    in_thread(look)
    spawn_raw(look)
    get_hub().run_callback(look)
    sleep(0)
    raw_greenlet.greenlet(look).switch()
    assert found == [{}, "other"] * 4
    assert data.name == "main"
    get_hub().run_callback(lambda: found.append(data.name))
    sleep(0)
    assert found[-1] == "other", "the hub keeps what it has"


def test_nothing_leaks_from_one_item_of_a_runner_to_the_next() -> None:
    data, found = local(), []

    def request(item: tuple[Any, str], runner: Any) -> None:
        found.append((id(runner), dict(data.__dict__)))
        data.user = item[1]
        assert data.user == item[1]
        value.append(Value())
        data.value = value.pop()
        alive.append(weakref.ref(data.value))

    value: list[Value] = []
    alive: list[Any] = []
    for user in ("ann", "bob", "eve"):
        get_hub().ready.append((request, user))
    sleep(0)
    get_hub().ready.append((request, "dan"))
    sleep(0)
    joinall([spawn(request, (None, "zoe"), None)])
    assert len({runner for runner, _ in found[:4]}) == 1, "the point: all on one runner"
    assert [attributes for _, attributes in found] == [{}] * 5
    assert [place() for place in alive] == [None] * 5


def test_what_is_first_used_after_a_wait_stays_with_its_request() -> None:
    data, found = local(), []

    def request(item: tuple[Any, str], runner: Any) -> None:
        data.user = item[1]
        sleep(0)
        found.append(data.user == item[1])
        sleep(0)
        found.append(data.user == item[1])

    for user in ("ann", "bob", "eve"):
        get_hub().ready.append((request, user))
    for _ in range(5):
        sleep(0)
    assert found == [True] * 6


# ---- freed


def test_attributes_are_freed_when_the_greenlet_ends_though_somebody_holds_it() -> None:
    data, alive = local(), []

    def run() -> None:
        data.value = Value()
        alive.append(weakref.ref(data.value))

    ended = spawn(run)
    ended.join()
    assert alive[0]() is None
    failing = spawn(lambda: (run(), sleep(100)))
    sleep(0)
    assert alive[1]() is not None
    failing.kill()
    assert alive[1]() is None


def test_attributes_of_a_raw_greenlet_are_freed_with_it() -> None:
    data, alive = local(), []

    def run() -> None:
        data.value = Value()
        alive.append(weakref.ref(data.value))

    raw_greenlet.greenlet(run).switch()
    spawn_raw(run)
    sleep(0)
    gc.collect()
    assert [place() for place in alive] == [None, None]


def test_attributes_of_a_thread_are_freed_with_it() -> None:
    data, alive = local(), []

    def run() -> None:
        data.value = Value()
        alive.append(weakref.ref(data.value))

    in_thread(run)
    until(lambda: alive[0]() is None)  # greenlet frees what an ended thread leaves in another thread, some time later


def test_attributes_are_freed_when_the_local_dies() -> None:
    held = [local()]
    alive = []

    def run() -> None:
        held[0].value = Value()
        alive.append(weakref.ref(held[0].value))

    waiting = [spawn(lambda: (run(), sleep(100))) for _ in range(2)]
    run()
    sleep(0)
    held.clear()
    gc.collect()
    assert [place() for place in alive] == [None] * 3
    for greenlet in waiting:
        greenlet.kill()


def test_a_local_that_lives_long_remembers_no_ended_greenlet() -> None:
    data = local()
    key = type(data).__dict__["_local__key"].__get__(data)
    before = len(key.places)
    joinall([spawn(setattr, data, "x", 1) for _ in range(100)])
    assert len(key.places) == before


# ---- subclasses


class Counted(local):
    """Remembers its arguments, and how often its `__init__` ran."""

    runs: list[Any] = []  # noqa: RUF012 - shared on purpose
    kind = "class attribute"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args, kwargs
        self.runs.append(getcurrent())

    @property
    def size(self) -> int:
        return len(self.args[0])

    @size.setter
    def size(self, size: int) -> None:
        self.args = (range(size), {})

    def method(self) -> Any:
        return self.args


def test_init_runs_again_in_each_greenlet_that_uses_it() -> None:
    Counted.runs.clear()
    data = Counted(1, 2, three=3)
    assert len(Counted.runs) == 1
    assert spawn(lambda: (data.method(), data.args)).get() == (((1, 2), {"three": 3}),) * 2
    in_thread(lambda: data.args)
    spawn(sleep, 0).join()
    assert len(Counted.runs) == 3
    assert len(set(map(id, Counted.runs))) == 3


def test_an_init_that_fails_runs_again_next_time() -> None:
    class Picky(local):
        attempts = 0

        def __init__(self) -> None:
            type(self).attempts += 1
            self.partial = True
            if type(self).attempts == 2:
                raise ValueError("not now")

    data = Picky()

    def run() -> None:
        with pytest.raises(ValueError, match="not now"):
            data.anything  # noqa: B018
        assert data.partial

    spawn(run).get()
    assert Picky.attempts == 3


def test_properties_methods_and_class_attributes_work() -> None:
    data = Counted("a")
    data.size = 3
    assert data.size == 3 and data.kind == "class attribute"
    data.kind = "own"
    assert data.kind == "own" and Counted.kind == "class attribute"
    del data.kind
    assert data.kind == "class attribute"
    assert "args" in dir(data) and "size" not in data.__dict__
    assert isinstance(data, Counted) and data.__class__ is Counted


def test_slots_are_shared_by_all_greenlets() -> None:
    class Slotted(local):
        __slots__ = ("shared",)

    data = Slotted()
    data.own = 1
    data.shared = [1]
    assert spawn(lambda: (data.shared, hasattr(data, "own"))).get() == ([1], False)
    del data.shared
    assert not hasattr(data, "shared")


def test_getattr_of_a_subclass_is_asked_for_what_is_missing() -> None:
    class Lenient(local):
        def __getattr__(self, name: str) -> str:
            return f"no {name}"

    assert Lenient().colour == "no colour"


# ---- bad use


def test_arguments_need_an_init() -> None:
    with pytest.raises(TypeError, match="Initialization arguments are not supported"):
        local(5)


def test_what_is_missing_or_fixed_is_an_attribute_error() -> None:
    for data in (local(), type("Sub", (local,), {})()):
        with pytest.raises(AttributeError, match="has no attribute 'name'"):
            data.name  # noqa: B018
        with pytest.raises(AttributeError, match="name"):
            del data.name
        with pytest.raises(AttributeError, match="read-only"):
            data.__dict__ = {}
        with pytest.raises(AttributeError, match="read-only"):
            del data.__dict__


def test_a_copy_has_what_this_greenlet_has() -> None:
    data = Counted("a")
    data.name = "main"
    other = copy.copy(data)
    other.name = "copy"
    assert (data.name, other.args) == ("main", (("a",), {}))
    assert "name" not in seen_elsewhere(other)
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(data)


# ---- stress


class Cycle:
    """Garbage that uses a local when it is collected."""

    def __init__(self, data: local) -> None:
        self.data = data
        self.itself = self

    def __del__(self) -> None:
        self.data.collected = threading.get_ident()


def test_many_threads_and_greenlets_and_finalizers_at_once(restless: None) -> None:
    data = Counted(1)

    def work() -> None:
        own = local()
        for number in range(30):
            Cycle(data)
            data.number = own.number = number
            sleep(0)
            assert data.number == own.number == number
            assert data.args == ((1,), {})

    in_threads([crew(6, disturbed(work)), crew(6, disturbed(work)), disturbed(work)])
    gc.collect()
    assert "number" not in data.__dict__
