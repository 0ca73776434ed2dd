"""A PostgreSQL server of the tests' own."""

import signal
import socket
import struct
from collections.abc import Sequence

from tests.support.servers.daemon import START_TIMEOUT, Daemon, Program

# A TLS request: the smallest question that a server answers without an account, by one byte.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Postgres(Daemon):
    """Serves `url`, whose user needs no password; its log has a line for every connection."""

    program = Program("postgres", "postgresql", ("/usr/local/bin", "/usr/bin", "/usr/lib/postgresql/*/bin"))
    stop_signal = signal.SIGINT  # "fast": does not wait for clients
    max_connections = 300

    def prepare(self) -> None:
        initdb = self.executable.with_name("initdb")
        options = ("--auth=trust", "--username=tests", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        self.run(initdb, f"--pgdata={self.folder / 'data'}", *options)

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_connections": self.max_connections,
            "log_connections": "on",
            "fsync": "off",  # what a power cut would lose, the tests do not miss
            "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.executable), "-D", str(self.folder / "data"), "-p", str(self.port), *words]

    def ready(self) -> bool:
        return super().ready() and "ready to accept connections" in self.log and self._answers()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT) as client:
            client.sendall(SSL_REQUEST)
            return client.recv(1) == b"N"

    @property
    def url(self) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def opened(self, application: str) -> int:
        """How many connections have ever been opened under this application_name."""
        return sum(
            "connection authorized:" in line and f"application_name={application}" in line.split()
            for line in self.log.splitlines()
        )
