"""redis-py with its blocking pool.

The gate is a list: a visitor waits until it has an element and leaves it there for the next.
"""

import contextlib
import uuid
from itertools import count
from typing import Any

import redis

# By default both are five seconds, whatever the command waits for and however busy the machine is.
PATIENT = {"socket_timeout": None, "socket_connect_timeout": None}


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"promises-{uuid.uuid4().hex}"
        self._gates = count(1)
        self._gatekeeper = redis.Redis.from_url(url, single_connection_client=True, **PATIENT)
        self._opened_before = self._count_opened()

    def pool(self, size: int) -> Any:
        return Pool(self, size)

    # ---- what is done on a connection

    def identity(self, connection: Any) -> int:
        return int(connection.execute_command("CLIENT ID"))

    def nap(self, connection: Any, seconds: float) -> None:
        connection.blpop([f"{self.name}:never"], timeout=seconds)

    def pass_gate(self, connection: Any, gate: str) -> None:
        connection.blmove(gate, gate, 60)

    @contextlib.contextmanager
    def transaction(self, connection: Any) -> Any:
        """The rows are sent with EXEC; until then WATCH keeps the connection."""
        with connection.pipeline() as pipe:
            pipe.watch(f"{self.name}:version")
            pipe.rows = []
            yield pipe
            pipe.multi()
            pipe.rpush(f"{self.name}:written", *pipe.rows)
            pipe.execute()

    def add_row(self, pipe: Any, number: int) -> None:
        pipe.rows.append(number)

    # ---- what the gatekeeper does

    def close_gate(self) -> str:
        return f"{self.name}:gate-{next(self._gates)}"

    def open_gate(self, gate: str) -> None:
        self._gatekeeper.rpush(gate, "open")

    def waiting(self, gate: str) -> int:
        """How many commands stand before the gate, by the server's word."""
        blocked = [client for client in self._clients() if "b" in client["flags"]]
        return len(blocked)

    def connections(self) -> set[int]:
        return {int(client["id"]) for client in self._clients()}

    def count_rows(self) -> int:
        return int(self._gatekeeper.llen(f"{self.name}:written"))

    def opened(self) -> int:
        """How many connections pools have ever opened."""
        return self._count_opened() - self._opened_before

    def _clients(self) -> list[dict[str, str]]:
        return [client for client in self._gatekeeper.client_list() if client["name"] == self.name]

    def _count_opened(self) -> int:
        return int(self._gatekeeper.info("stats")["total_connections_received"])


class Pool:
    def __init__(self, client: Client, size: int) -> None:
        self.client = client
        options = {"max_connections": size, "timeout": 60, "client_name": client.name}
        self._pool = redis.BlockingConnectionPool.from_url(client.url, **options, **PATIENT)

    def connection(self) -> Any:
        """A client, which takes a connection of the pool for each command, and for a pipeline."""
        return redis.Redis(connection_pool=self._pool)

    def close(self) -> None:
        self._pool.disconnect()
