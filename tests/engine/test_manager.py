"""Rooms: python-socketio's manager and ours, asked the same, say the same."""

import random
from typing import Any
from unittest.mock import MagicMock

import pytest
from socketio.manager import Manager
from socketio.pubsub_manager import PubSubManager

from streamserve.engine.manager import FastManager, fast

NAMESPACES = ("/", "/chat")
ROOMS = ("red", "green", 7)


def made(kind: type) -> Any:
    manager = kind()
    server = MagicMock()
    numbers = iter(range(10**6))
    server.eio.generate_id.side_effect = lambda: f"sid{next(numbers)}"
    manager.set_server(server)
    return manager


def state(manager: Any, sids: list[str]) -> list[Any]:
    """All that a program can see."""
    seen: list[Any] = []
    for namespace in NAMESPACES:
        rooms = manager.rooms.get(namespace, {})
        for sid in sids:
            seen.append(sorted(map(str, manager.get_rooms(sid, namespace))))
            seen.append(
                (manager.is_connected(sid, namespace), manager.eio_sid_from_sid(sid, namespace) if rooms else 0)
            )
            seen.append(manager.is_connected(sid, namespace) and sid in rooms)
        for room in (*ROOMS, None, ["red", 7], sids[0] if sids else ""):
            seen.append(sorted(manager.get_participants(namespace, room)))
        seen.append(namespace in manager.get_namespaces())
        seen.append(None in rooms and sorted(rooms[None]._invm))
    return seen


def step(manager: Any, choice: int, eio_sid: str, sids: list[str], namespace: str, room: Any) -> Any:
    sid = sids[int(eio_sid[3:]) % len(sids)] if sids else "nobody"
    try:
        if choice < 4:
            return manager.connect(eio_sid, namespace)
        if choice == 4 and namespace in manager.rooms:
            manager.pre_disconnect(sid, namespace)
        if choice in (4, 5):
            return manager.disconnect(sid, namespace)
        if choice < 9:
            return manager.enter_room(sid, namespace, room)
        if choice < 11 and room == sid:
            return None  # its own room is not to be left: upstream lets it, and loses what is sent there
        if choice < 11:
            return manager.leave_room(sid, namespace, room)
        return manager.close_room(room, namespace)
    except (ValueError, KeyError) as error:
        return type(error)


def test_rooms_are_what_python_socketio_says_they_are() -> None:
    generator = random.Random(11)
    upstream, ours = made(Manager), made(FastManager)
    sids: list[str] = []
    for _ in range(1500):
        eio_sid = f"eio{generator.randrange(30)}"
        namespace, room = generator.choice(NAMESPACES), generator.choice([*ROOMS, *sids[-1:]])
        choice = generator.randrange(12)
        answers = [step(manager, choice, eio_sid, sids, namespace, room) for manager in (upstream, ours)]
        assert answers[0] == answers[1]
        if isinstance(answers[0], str) and answers[0] not in sids:
            sids.append(answers[0])
            del sids[:-20]
        assert state(upstream, sids) == state(ours, sids)


def test_the_room_of_a_client_is_found_whichever_way_it_is_looked_for() -> None:
    manager = made(FastManager)
    sid = manager.connect("eio1", "/")
    manager.enter_room(sid, "/", "red")
    rooms = manager.rooms["/"]
    assert rooms.get(sid) == rooms[sid] == {sid: "eio1"} and sid in rooms
    assert rooms.get("red") is rooms["red"] and rooms.get(None) is rooms[None]
    for name in ("nobody", 7):
        assert rooms.get(name) is None and rooms.get(name, 1) == 1 and name not in rooms


def test_nothing_is_left_when_all_are_gone() -> None:
    manager = made(FastManager)
    sids = [manager.connect(f"eio{number}", "/") for number in range(50)]
    for sid in sids:
        manager.enter_room(sid, "/", "red")
        manager.enter_room(sid, "/", "green")
    for sid in sids:
        manager.pre_disconnect(sid, "/")
        manager.disconnect(sid, "/")
    left = (manager.rooms, manager.memberships, manager.pending_connect, manager.pending_disconnect, manager.callbacks)
    assert left == ({}, {}, {}, {}, {})


def test_leaving_costs_the_rooms_of_that_client_not_all_rooms() -> None:
    class Counted(dict[Any, Any]):
        looked = 0

        def get(self, *args: Any) -> Any:
            Counted.looked += 1
            return super().get(*args)

    manager = made(FastManager)
    sids = [manager.connect(f"eio{number}", "/") for number in range(200)]
    for number, sid in enumerate(sids):
        manager.enter_room(sid, "/", f"room{number}")
    manager.rooms = Counted(manager.rooms)
    Counted.looked = 0
    manager.disconnect(sids[0], "/")
    assert Counted.looked < 10


@pytest.mark.parametrize("kind", [Manager, PubSubManager])
def test_a_manager_of_the_program_is_put_above_ours(kind: type) -> None:
    manager = fast(kind())
    assert isinstance(manager, FastManager) and isinstance(manager, kind)
    assert fast(manager) is manager
