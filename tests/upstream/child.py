"""One process that runs one file of upstream's tests: patches first, as the command does, then has pytest run them.

    python tests/upstream/child.py PACKAGE FILE [--recheck]        (in the folder of the package's sources)

With --recheck the deselected tests run, and those that pass are the failures. Nothing of the package `tests` of this
repository is imported: upstream's has the same name.
"""

import sys
from pathlib import Path
from typing import Any

from streamserve.monkey import patch_all

patch_all(socketio=True)  # before pytest, which brings a lot along

import dialect  # noqa: E402, what follows is imported patched
import pytest  # noqa: E402
from table import read_table, suite_name  # noqa: E402


class Selection:
    """Leaves the deselected tests out, or runs them alone."""

    def __init__(self, suite: str, recheck: bool) -> None:
        self.deselected = {test: row.reason for row in read_table() if row.suite == suite for test in row.tests}
        self.recheck = recheck
        self.missing: list[str] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        names = [item.nodeid.split("::", 1)[1] for item in items]
        self.missing = sorted(set(self.deselected) - set(names))
        items[:] = [item for item, name in zip(items, names, strict=True) if (name in self.deselected) == self.recheck]
        if self.recheck:
            for item in items:
                item.add_marker(pytest.mark.xfail(strict=True, reason="deselected.toml has it"))

    def pytest_sessionfinish(self, session: Any) -> None:
        if self.missing:
            print(f"\ndeselected.toml names tests that are not there: {', '.join(self.missing)}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def main(package: str, file: str, *options: str) -> int:
    sys.path.insert(0, str(Path.cwd()))
    dialect.speak(package)
    words = (
        f"-q -ra --tb=short -c /dev/null --rootdir . -p no:cacheprovider -p no:logging --import-mode=importlib {file}"
    )
    return int(pytest.main(words.split(), plugins=[Selection(suite_name(package, file), "--recheck" in options)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
