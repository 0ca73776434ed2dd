"""A Redis server of the tests' own."""

import socket
from collections.abc import Sequence

from tests.support.servers.daemon import START_TIMEOUT, Daemon, Program


class Redis(Daemon):
    """Serves `url`, all in memory."""

    program = Program("redis-server", "redis-server")

    def command(self) -> Sequence[str]:
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "1000")
        return [str(self.executable), "--port", str(self.port), "--dir", str(self.folder), *options]

    def ready(self) -> bool:
        return super().ready() and self._answers()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64) == b"+PONG\r\n"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
