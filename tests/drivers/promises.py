"""What every driver must do under patching, as a script: promises.py CLIENT PROMISE URL.

It prints what it saw as one JSON object; `test_promises.py` starts it and judges. Nothing here depends on how fast the
machine is: queries stop at a gate, a lock in the server, and the server is asked how many stand before it.
"""

import faulthandler
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from streamserve import GreenletExit, joinall, killall, sleep, spawn

GREENLETS = 50
POOL = 5
NAP = 1.0  # seconds of the slow query
PATIENCE = 60.0  # seconds until the script gives up and shows where it stands

Report = dict[str, Any]


def until(condition: Callable[[], bool]) -> None:
    """Waits for the condition; the greenlets that it waits for run meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            faulthandler.dump_traceback()
            sys.exit("what was waited for never came")
        sleep(0.005)


def overlap(client: Any) -> Report:
    """Slow queries of many greenlets are in the server at once, and take the time of one."""
    pool = client.pool(GREENLETS)
    gate = client.close_gate()
    visitors = [spawn(use, pool, client.pass_gate, gate) for _ in range(GREENLETS)]
    until(lambda: client.waiting(gate) == GREENLETS)
    client.open_gate(gate)
    joinall(visitors, raise_error=True)

    start = time.monotonic()
    joinall([spawn(use, pool, client.nap, NAP) for _ in range(GREENLETS)], raise_error=True)
    return {"seconds": time.monotonic() - start}


def pool_limit(client: Any) -> Report:
    """Many greenlets share few connections."""
    pool = client.pool(POOL)
    gate = client.close_gate()
    visitors = [spawn(use, pool, client.pass_gate, gate) for _ in range(GREENLETS)]
    until(lambda: client.waiting(gate) == POOL)
    found = len(client.connections())
    client.open_gate(gate)
    joinall(visitors, raise_error=True)
    identities = {visitor.value for visitor in visitors}
    pool.close()
    return {"served": len(visitors), "open": found, "used": len(identities), "opened": client.opened()}


def transactions(client: Any) -> Report:
    """A transaction keeps its connection, and its rows to itself, while others switch in."""
    pool = client.pool(POOL)
    meeting = threading.Barrier(POOL + 1)

    def write(number: int) -> list[int]:
        with pool.connection() as connection, client.transaction(connection) as transaction:
            before = client.identity(transaction)
            client.add_row(transaction, number)
            meeting.wait()  # everyone has written
            meeting.wait()  # the rows were counted
            client.add_row(transaction, number)
            return [before, client.identity(transaction)]

    writers = [spawn(write, number) for number in range(POOL)]
    others = [spawn(use, pool, client.nap, 0.01) for _ in range(GREENLETS)]
    meeting.wait()
    seen_before = client.count_rows()
    meeting.wait()
    joinall(writers + others, raise_error=True)
    pairs = [writer.value for writer in writers]
    return {
        "changed": [pair for pair in pairs if pair[0] != pair[1]],
        "connections": len({pair[0] for pair in pairs}),
        "seen before": seen_before,
        "seen after": client.count_rows(),
    }


def kills(client: Any) -> Report:
    """A greenlet that is killed in a query gives its connection back or closes it."""
    return kill_some(client, POOL)


def kills_in_line(client: Any) -> Report:
    """So does one that is killed while it waits for a connection, though it has none yet."""
    return kill_some(client, 2 * POOL)


def kill_some(client: Any, number: int) -> Report:
    pool = client.pool(POOL)
    first = client.close_gate()
    victims = [spawn(use, pool, client.pass_gate, first) for _ in range(number)]
    until(lambda: client.waiting(first) == POOL)
    killall(victims)
    client.open_gate(first)

    second = client.close_gate()
    visitors = [spawn(use, pool, client.pass_gate, second) for _ in range(2 * POOL)]
    until(lambda: client.waiting(second) == POOL)
    until(lambda: len(client.connections()) == POOL)  # those of the victims are gone
    client.open_gate(second)
    joinall(visitors, raise_error=True)
    pool.close()
    until(lambda: len(client.connections()) == 0)
    return {"killed": sum(isinstance(victim.value, GreenletExit) for victim in victims), "served": len(visitors)}


def use(pool: Any, action: Callable[..., None], *arguments: Any) -> int:
    """Takes a connection, does something with it, and returns the server's number of the connection."""
    with pool.connection() as connection:
        action(connection, *arguments)
        return int(pool.client.identity(connection))


PROMISES = {promise.__name__: promise for promise in (overlap, pool_limit, transactions, kills, kills_in_line)}


def main(name: str, promise: str, url: str) -> None:
    faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)  # a driver that blocks stops everything
    module = importlib.import_module(f"tests.drivers.clients.{name}")
    client = module.Client(url)
    print(json.dumps(PROMISES[promise](client)))


if __name__ == "__main__":
    main(*sys.argv[1:])
