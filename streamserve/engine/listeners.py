"""Client managers that wait for messages of other servers (Redis, Kafka, Kombu) do not hold up the loop.

Where sockets are patched their waiting lets others run. Elsewhere it is done by a native thread, which hands each
message over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from streamserve.loop.native_threads import start_new_thread
from streamserve.monkey.originals import is_module_patched
from streamserve.sync.simple_queue import SimpleQueue

__all__ = ["listen_beside_the_loop"]

_ENDED = object()


def listen_beside_the_loop(manager: Any) -> None:
    """Changes how a PubSubManager waits for messages."""
    listen = manager._listen
    manager._listen = lambda: _messages(listen)


def _messages(listen: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The messages of a listener.

    Raises:
        Exception: whatever the listener raises.
    """
    if is_module_patched("socket"):
        yield from listen()
        return
    arrived = SimpleQueue()
    start_new_thread(_listen_natively, (listen, arrived))
    while True:
        message, error = arrived.get()
        if error is not None:
            raise error
        if message is _ENDED:
            return
        yield message


def _listen_natively(listen: Callable[[], Iterator[Any]], arrived: SimpleQueue) -> None:
    try:
        for message in listen():
            arrived.put((message, None))
        arrived.put((_ENDED, None))
    except Exception as error:
        arrived.put((None, error))
