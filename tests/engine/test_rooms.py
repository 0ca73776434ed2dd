"""Rooms that other native threads change while something is sent there."""

from typing import Any

from streamserve.engine.rooms import Room


class _Meanwhile(dict[str, Any]):
    """Sessions by name; who looks for one lets a thread go on that changes the room."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self._change = change

    def get(self, name: str, default: Any = None) -> Any:
        change, self._change = self._change, lambda: None
        change()
        return default


class _Engine:
    hub = None
    epoch = 0

    def __init__(self, change: Any) -> None:
        self.sockets = _Meanwhile(change)


def test_who_enters_while_the_array_of_a_room_is_made_is_in_the_next_one() -> None:
    room = Room()
    room["a"] = "A"
    eio: Any = _Engine(lambda: room.__setitem__("b", "B"))
    first = room.targets(eio)
    second = room.targets(eio)
    assert second is not first
    assert room.targets(eio) is second


def test_who_asks_for_the_array_while_another_thread_makes_it_gets_no_old_one() -> None:
    room = Room()
    room["a"] = "A"
    eio: Any = _Engine(lambda: None)
    asked: list[Any] = []
    old = room.targets(eio)
    for change in (lambda: room.__setitem__("b", "B"), lambda: setattr(eio, "epoch", 1)):
        change()
        eio.sockets = _Meanwhile(lambda: asked.append(room.targets(eio)))
        room.targets(eio)
        assert len(asked) == 1 and asked.pop() is not old
        old = room.targets(eio)
