"""Which tests of the packages above the engine run on it, and deselected.toml: which of those do not, and why."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("deselected.toml")

SUITES = {
    "Flask-SocketIO": ("test_socketio.py",),
    "python-socketio": (
        "tests/common/test_server.py",
        "tests/common/test_manager.py",
        "tests/common/test_pubsub_manager.py",
        "tests/common/test_namespace.py",
        "tests/common/test_middleware.py",
        "tests/common/test_packet.py",
        "tests/common/test_msgpack_packet.py",
        "tests/common/test_admin.py",
    ),
    "python-engineio": (
        "tests/common/test_server.py",
        "tests/common/test_middleware.py",
        "tests/common/test_packet.py",
        "tests/common/test_payload.py",
    ),
}
"""Package → files of its sources. Not here: clients and asyncio, which are upstream's still; RedisManager, which that
suite mocks Redis for (tests/apps has a real one); python-engineio's test_socket.py, of a class that is not used."""


@dataclass(frozen=True)
class Row:
    """Tests that do not run, for one reason."""

    suite: str
    tests: tuple[str, ...]
    reason: str


def read_table(path: Path = TABLE) -> list[Row]:
    """Reads the table.

    Raises:
        ValueError: a row names no suite or test, gives no reason, or a test comes twice.
    """
    rows = [
        Row(str(row["suite"]), tuple(row["tests"]), str(row["reason"]))
        for row in tomllib.loads(path.read_text()).get("deselected", [])
    ]
    known = {suite_name(package, file) for package, files in SUITES.items() for file in files}
    for row in rows:
        if row.suite not in known:
            raise ValueError(f"{row.suite!r} is none of {', '.join(sorted(known))}")
        if not row.tests or not row.reason.endswith("."):
            raise ValueError(f"{row.suite}: a row has tests and a sentence as reason: {row}")
    names = [(row.suite, test) for row in rows for test in row.tests]
    if twice := sorted({test for suite, test in names if names.count((suite, test)) > 1}):
        raise ValueError(f"more than one row for {', '.join(twice)}")
    return rows


def suite_name(package: str, file: str) -> str:
    """What the table calls a file: python-socketio/test_server."""
    return f"{package}/{Path(file).stem}"
