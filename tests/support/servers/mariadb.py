"""A MariaDB server of the tests' own."""

from collections.abc import Sequence

from tests.support.servers.daemon import Daemon, Program


class MariaDB(Daemon):
    """Serves `url`. It has no tables of privileges, so every user may do everything, without a password."""

    program = Program("mariadbd", "mariadb-server-core")

    def command(self) -> Sequence[str]:
        settings = {
            "datadir": self.folder,
            "tmpdir": self.folder,
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "max-connections": 300,
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-log-file-size": "8M",
            "innodb-buffer-pool-size": "16M",
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.executable), "--no-defaults", "--skip-grant-tables", "--skip-name-resolve", *words]

    def ready(self) -> bool:
        # Its port opens before it is ready; a client that came and left would be counted as an aborted one.
        return f"port: {self.port} " in self.log

    @property
    def url(self) -> str:
        return f"mysql://tests@127.0.0.1:{self.port}/"
