"""disabled.toml: the tests of CPython's that do not run under patching, each with its reason.

python -m tests.stdlib.table        writes docs/stdlib-tests.md
"""

import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("disabled.toml")
PAGE = ROOT / "docs/stdlib-tests.md"

FILES = (
    "test_socket",
    "test_ssl",
    "test_threading",
    "test_selectors",
    "test_queue",
    "test_select",
    "test_httplib",
    "test_wsgiref",
)
"""Modules of the interpreter's `test` package, the slowest first."""

VERSIONS = ("3.11", "3.12", "3.13")

LIMIT = 20
"""Of these files fewer than this are disabled, of each version."""

THIS_VERSION = "{}.{}".format(*sys.version_info)


@dataclass(frozen=True)
class Row:
    """A test that does not run, and the versions of Python for which that holds."""

    name: str
    reason: str
    versions: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.name.split(".")[1]


@dataclass(frozen=True)
class Table:
    """What disabled.toml says.

    `disabled` tests fail because of patching. `unpatched` ones fail, hang or do not run on machines of this project
    whether patched or not.
    """

    disabled: tuple[Row, ...]
    unpatched: tuple[Row, ...]

    def of_version(self, version: str) -> "Table":
        def those(rows: Iterable[Row]) -> tuple[Row, ...]:
            return tuple(row for row in rows if version in row.versions)

        return Table(those(self.disabled), those(self.unpatched))


def read_table(path: Path = TABLE) -> Table:
    """Reads the table.

    Raises:
        ValueError: a row has no name or reason, names a file that is not run, or comes twice.
    """
    content = tomllib.loads(path.read_text())
    kinds = {kind: tuple(_row(row) for row in content.get(kind, [])) for kind in ("disabled", "unpatched")}
    names = [
        (row.name, version) for kind in ("disabled", "unpatched") for row in kinds[kind] for version in row.versions
    ]
    if twice := sorted({name for name, version in names if names.count((name, version)) > 1}):
        raise ValueError(f"{path}: more than one row for {', '.join(twice)}")
    return Table(**kinds)


def _row(content: dict[str, object]) -> Row:
    name, reason = str(content["name"]), str(content["reason"])
    versions = content.get("versions", VERSIONS)
    if not isinstance(versions, list | tuple) or not set(versions) <= set(VERSIONS):
        raise ValueError(f"{name}: versions={versions!r}, of which only {VERSIONS} are run")
    if len(name.split(".")) != 4 or name.split(".")[1] not in FILES:
        raise ValueError(f"{name!r} is no test of {', '.join(FILES)}: say test.FILE.CLASS.METHOD")
    if not reason.endswith("."):
        raise ValueError(f"{name}: the reason is no sentence: {reason!r}")
    return Row(name, reason, tuple(versions))


def render(table: Table) -> str:
    """The page docs/stdlib-tests.md."""
    counts = {version: table.of_version(version) for version in VERSIONS}
    lines = [
        "# CPython's own tests under patching",
        "",
        "<!-- Printed by `python -m tests.stdlib.table` from tests/stdlib/disabled.toml. -->",
        "",
        "`make test-stdlib` runs these files of the interpreter's `test` package, each in a process that first calls",
        "`streamserve.monkey.patch_all()`. It exits with 1 if a test fails, crashes, hangs or is missing. With",
        "`ARGS=--rerun` what failed by an assertion runs once more, at the end; a crash or a hang never does.",
        "`make test-stdlib ARGS=--recheck` runs the disabled tests instead, and exits with 1 if one of them passes.",
        "Resources (`-u network` and others) are off, as they are by default in CPython's runner.",
        "",
        "## Disabled tests",
        "",
        "| file | " + " | ".join(VERSIONS) + " |",
        "|---|" + "---|" * len(VERSIONS),
    ]
    for file in FILES:
        numbers = [sum(row.file == file for row in counts[version].disabled) for version in VERSIONS]
        lines.append(f"| {file} | " + " | ".join(map(str, numbers)) + " |")
    lines.append("| **all** | " + " | ".join(f"**{len(counts[version].disabled)}**" for version in VERSIONS) + " |")
    lines += ["", *_rows(table.disabled)]
    lines += ["", "## Tests that fail on this project's machines without patching too", "", *_rows(table.unpatched)]
    return "\n".join(lines) + "\n"


def _rows(rows: Iterable[Row]) -> list[str]:
    lines = [
        f"| `{row.name.removeprefix('test.')}` | {'all' if row.versions == VERSIONS else ', '.join(row.versions)}"
        f" | {row.reason} |"
        for row in rows
    ]
    return ["| test | Python | reason |", "|---|---|---|", *lines] if lines else ["None."]


if __name__ == "__main__":
    PAGE.write_text(render(read_table()))
