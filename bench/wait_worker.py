"""One measurement of what greenlets wait with, in a fresh process: `python -m bench.wait_worker LIBRARY CASE`.

LIBRARY is `gevent` or `streamserve`. It prints one JSON object: `value` (CPU nanoseconds per operation, user and
system, or a ratio), `count`, the operations that were seen to have happened, and `expected`.
"""

from __future__ import annotations

import importlib
import json
import os
import socket as plain_socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

MODULES = {
    "gevent": {
        "event": "gevent.event",
        "lock": "gevent.lock",
        "queue": "gevent.queue",
        "pool": "gevent.pool",
        "socket": "gevent.socket",
        "monkey": "gevent.monkey",
    },
    "streamserve": {
        "event": "streamserve.sync.event",
        "lock": "streamserve.sync.lock",
        "queue": "streamserve.sync.queue",
        "pool": "streamserve.pool.group",
        "socket": "streamserve.green.socket",
        "monkey": "streamserve.monkey",
    },
}
MESSAGE = b"x" * 64
ROUND_TRIPS = 100_000
HAND_OVERS = 200_000
MAPPED, MAPS, POOL = 1_000, 100, 100
UNCONTENDED = 500_000
READY_BATCH, READY_BATCHES = 100, 2_000
LOOK_UPS = 200_000
REDIS_GREENLETS, REDIS_GETS, REDIS_CONNECTIONS = 100, 300, 20

Measured = tuple[float, int, int]


class Library:
    """The parts of one library by their common names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.top: Any = importlib.import_module(name)

    def part(self, name: str) -> Any:
        return importlib.import_module(MODULES[self.name][name])


def _timed(body: Callable[[int], int], count: int) -> Measured:
    """CPU nanoseconds per operation after a tenth of them as warm-up; `body` returns how many it saw happen."""
    body(count // 10)
    before = time.process_time_ns()
    seen = body(count)
    return (time.process_time_ns() - before) / count, seen, count


def _two_sided(library: Library, left: Callable[[int], int], right: Callable[[int], int]) -> Callable[[int], int]:
    """A body that runs both functions in greenlets of their own; what the right one saw counts."""

    def body(count: int) -> int:
        greenlets = [library.top.spawn(left, count), library.top.spawn(right, count)]
        library.top.joinall(greenlets, raise_error=True)
        return int(greenlets[1].value)

    return body


# ---- sockets


def _socketpair(library: Library, timeout: float | None) -> Measured:
    near, far = library.part("socket").socketpair()
    for side in (near, far):
        side.settimeout(timeout)

    def asks(count: int) -> int:
        for _ in range(count):
            near.sendall(MESSAGE)
            if len(near.recv(4096)) != len(MESSAGE):
                break
        return count

    def answers(count: int) -> int:
        seen = 0
        for _ in range(count):
            data = far.recv(4096)
            seen += data == MESSAGE
            far.sendall(data)
        return seen

    return _timed(_two_sided(library, asks, answers), ROUND_TRIPS)


def socketpair(library: Library) -> Measured:
    """A message there and back between two greenlets."""
    return _socketpair(library, None)


def socketpair_timeout(library: Library) -> Measured:
    """The same on sockets that have a timeout."""
    return _socketpair(library, 5.0)


def _ready(library: Library, one_way: Callable[[Any, Any], int]) -> Measured:
    """The cost over the plain socket's, by batches that alternate: the median of the ratios."""
    pairs = [library.part("socket").socketpair(), plain_socket.socketpair()]
    for side in (*pairs[0], *pairs[1]):
        side.settimeout(None)
    ratios = []
    for number in range(READY_BATCHES):
        green, plain = (one_way(*pair) for pair in (pairs if number % 2 else pairs[::-1]))
        if not number % 2:
            green, plain = plain, green
        ratios.append(green / plain)
    return statistics.median(ratios), READY_BATCHES, READY_BATCHES


def recv_ready(library: Library) -> Measured:
    """recv of a whole message that is there already, in a greenlet."""

    def batch(near: Any, far: Any) -> int:
        near_send, far_recv = near.send, far.recv
        for _ in range(READY_BATCH):
            near_send(MESSAGE)
        before = time.process_time_ns()
        for _ in range(READY_BATCH):
            far_recv(len(MESSAGE))
        return time.process_time_ns() - before

    greenlet = library.top.spawn(_ready, library, batch)
    greenlet.join()
    measured: Measured = greenlet.value
    return measured


def send_ready(library: Library) -> Measured:
    """send of a message for which there is room, in a greenlet."""

    def batch(near: Any, far: Any) -> int:
        near_send = near.send
        before = time.process_time_ns()
        for _ in range(READY_BATCH):
            near_send(MESSAGE)
        spent = time.process_time_ns() - before
        left = READY_BATCH * len(MESSAGE)
        while left:
            left -= len(far.recv(left))
        return spent

    greenlet = library.top.spawn(_ready, library, batch)
    greenlet.join()
    measured: Measured = greenlet.value
    return measured


def getaddrinfo(library: Library) -> Measured:
    """A numeric host, for a stream."""
    look_up = library.part("socket").getaddrinfo

    def body(count: int) -> int:
        seen = 0
        for _ in range(count):
            seen += len(look_up("127.0.0.1", 80, 0, plain_socket.SOCK_STREAM))
        return seen

    value, seen, expected = _timed(body, LOOK_UPS // (1 if library.name == "streamserve" else 10))
    return value / 1000, seen, expected


# ---- hand-overs


def event(library: Library) -> Measured:
    """One greenlet sets an Event that another waits for, and the other way round; per hand-over."""
    there, back = library.part("event").Event(), library.part("event").Event()

    def pings(count: int) -> int:
        for _ in range(count // 2):
            there.set()
            back.wait()
            back.clear()
        return count

    def pongs(count: int) -> int:
        seen = 0
        for _ in range(count // 2):
            seen += 2 * bool(there.wait())
            there.clear()
            back.set()
        return seen

    return _timed(_two_sided(library, pings, pongs), HAND_OVERS)


def queue(library: Library) -> Measured:
    """One greenlet puts what another waits for, and the other way round; per hand-over."""
    there, back = library.part("queue").Queue(), library.part("queue").Queue()

    def pings(count: int) -> int:
        for number in range(count // 2):
            there.put(number)
            back.get()
        return count

    def pongs(count: int) -> int:
        seen = 0
        for number in range(count // 2):
            seen += 2 * (there.get() == number)
            back.put(number)
        return seen

    return _timed(_two_sided(library, pings, pongs), HAND_OVERS)


def pool_map(library: Library) -> Measured:
    """Pool.map of a Python function; per item."""
    pool = library.part("pool").Pool(POOL)

    def double(number: int) -> int:
        return 2 * number

    def body(count: int) -> int:
        expected = list(range(0, 2 * MAPPED, 2))
        return sum(MAPPED * (pool.map(double, range(MAPPED)) == expected) for _ in range(count // MAPPED))

    return _timed(body, MAPPED * MAPS)


# ---- nothing to wait for


def _uncontended(enter: Callable[[], Any], leave: Callable[[], Any]) -> Measured:
    def body(count: int) -> int:
        for _ in range(count):
            enter()
            leave()
        return count

    return _timed(body, UNCONTENDED)


def semaphore(library: Library) -> Measured:
    """acquire and release of a Semaphore that nobody holds."""
    lock = library.part("lock").Semaphore()
    return _uncontended(lock.acquire, lock.release)


def rlock(library: Library) -> Measured:
    """acquire and release of an RLock that nobody holds."""
    lock = library.part("lock").RLock()
    return _uncontended(lock.acquire, lock.release)


def queue_free(library: Library) -> Measured:
    """put and get of a Queue that nobody waits for."""
    queue = library.part("queue").Queue()
    put, get = queue.put, queue.get

    def body(count: int) -> int:
        seen = 0
        for number in range(count):
            put(number)
            seen += get() == number
        return seen

    return _timed(body, UNCONTENDED)


# ---- a driver


def redis(library: Library) -> Measured:
    """GET by redis-py, patched, from a hundred greenlets over twenty connections."""
    library.part("monkey").patch_all()
    import redis

    pool = redis.BlockingConnectionPool(
        host="127.0.0.1", port=int(os.environ["REDIS_PORT"]), max_connections=REDIS_CONNECTIONS, timeout=None
    )
    client = redis.Redis(connection_pool=pool)
    client.set("key", "value")

    def gets(count: int) -> int:
        return sum(client.get("key") == b"value" for _ in range(count))

    def body(count: int) -> int:
        greenlets = [library.top.spawn(gets, count // REDIS_GREENLETS) for _ in range(REDIS_GREENLETS)]
        library.top.joinall(greenlets, raise_error=True)
        return sum(greenlet.value for greenlet in greenlets)

    return _timed(body, REDIS_GREENLETS * REDIS_GETS)


CASES: dict[str, Callable[[Library], Measured]] = {
    "socketpair": socketpair,
    "socketpair-timeout": socketpair_timeout,
    "event": event,
    "queue": queue,
    "pool-map": pool_map,
    "redis": redis,
    "recv-ready": recv_ready,
    "send-ready": send_ready,
    "getaddrinfo": getaddrinfo,
    "semaphore": semaphore,
    "rlock": rlock,
    "queue-free": queue_free,
}


def main() -> None:
    """Measure and print; the process ends at once."""
    value, count, expected = CASES[sys.argv[2]](Library(sys.argv[1]))
    print(json.dumps({"value": value, "count": count, "expected": expected}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
