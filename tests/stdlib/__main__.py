"""Runs CPython's own tests of sockets, threads, queues and what stands on them, under patching.

    python -m tests.stdlib [--recheck] [--rerun] [--under PACKAGE] [--tests PATTERN] [FILE...]        (make test-stdlib)

The tests come from the `test` package of the interpreter that runs this. disabled.toml says which do not run.
"""

import argparse
import fnmatch
import importlib.util
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.stdlib.process import FILE_SECONDS, ROOT, TEST_SECONDS, FileRun, Outcome, Setting, run_file
from tests.stdlib.table import FILES, LIMIT, THIS_VERSION, Row, Table, read_table

AT_ONCE = 2
RECHECK_SECONDS = 20.0
"""For a disabled test that is tried again: most of them fail at once, and those that hang take this long."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {' '.join(FILES)}; all by default")
    parser.add_argument("--recheck", action="store_true", help="run the disabled tests; fail if one of them passes")
    parser.add_argument(
        "--rerun", action="store_true", help="run once more what failed by an assertion; no crash, no hang"
    )
    parser.add_argument("--under", default="streamserve", help="whose monkey.patch_all() patches; '' for nobody's")
    parser.add_argument("--tests", metavar="PATTERN", help="only tests whose full name matches, as in *Timeout*")
    parser.add_argument("--all", action="store_true", help="the disabled tests too")
    parser.add_argument("--limit", type=float, default=TEST_SECONDS, metavar="SECONDS", help="for one test")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="show the N slowest tests")
    chosen = parser.parse_args()
    if unknown := set(chosen.files) - set(FILES):
        parser.error(f"not run here: {', '.join(sorted(unknown))}")
    chosen.files = chosen.files or list(FILES)
    return chosen


def run_one(file: str, setting: Setting, table: Table, options: argparse.Namespace) -> FileRun:
    """Runs a file without its disabled tests; with --rerun, once more what failed by an assertion, and that alone."""
    skip = [row.name for row in (() if options.all else table.disabled + table.unpatched)]
    only = None
    if options.tests:
        # Which tests there are is known only to a process that imports the file: this one runs none.
        found = run_file(file, setting, only=()).found
        only = fnmatch.filter(found, options.tests)
    result = run_file(file, setting, skip, only)
    result.found = [name for name in result.found if only is None or name in only]
    again = [name for name in result.found if name in result.outcomes and result.of(name).kind == "failed"]
    if again and options.rerun:
        second = run_file(file, setting, only=again)
        print(f"{file}: again, as an assertion failed: {', '.join(again)}", flush=True)
        result.outcomes |= {name: second.of(name) for name in again}
        result.broken = result.broken or second.broken
        result.seconds += second.seconds
    return result


def failed(outcome: Outcome) -> bool:
    return outcome.kind not in ("passed", "skipped")


def report(result: FileRun, table: Table, options: argparse.Namespace) -> list[str]:
    """Prints a file's line. Gives what is wrong with it."""
    out = set() if options.all else {row.name for row in table.disabled + table.unpatched}
    ran = [result.of(name) for name in result.found if name not in out]
    told = {name: result.of(name) for name in [*result.found, *result.outcomes] if name not in out}
    wrong = [f"{o.kind}: {name}\n{indent(o.text)}" for name, o in told.items() if failed(o)]
    if result.broken:
        wrong.append(f"broken: {result.file}: {result.broken}")
    skipped = sum(outcome.kind == "skipped" for outcome in ran)
    passed = sum(outcome.kind == "passed" for outcome in ran)
    disabled = sum(row.file == result.file for row in table.disabled)
    print(
        f"{result.file:<15} {len(ran):4} run {passed:5} passed {skipped:4} skipped {disabled:3} disabled "
        f"{len(wrong):3} failed {result.seconds:6.1f} s",
        flush=True,
    )
    for outcome in sorted(ran, key=lambda outcome: -outcome.seconds)[: options.slowest]:
        print(f"    {outcome.seconds:6.2f} s  {outcome.name}")
    return wrong


def indent(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines()[-12:])


def missing(rows: tuple[Row, ...], result: FileRun) -> list[str]:
    """Rows of the table that name no test of this version's."""
    return [
        f"disabled.toml: {row.name} does not exist in Python {THIS_VERSION}"
        for row in rows
        if row.file == result.file and result.found and row.name not in result.found
    ]


def recheck(file: str, setting: Setting, table: Table, options: argparse.Namespace) -> FileRun:
    """Runs only the disabled tests of a file."""
    return run_file(file, setting, only=[row.name for row in table.disabled if row.file == file])


def report_recheck(result: FileRun, table: Table, options: argparse.Namespace) -> list[str]:
    """Prints what became of the disabled tests. Gives those that pass."""
    rows = [row for row in table.disabled if row.file == result.file]
    for row in rows:
        outcome = result.of(row.name)
        print(f"{outcome.kind:<8} {row.name}: {outcome.text.rstrip().splitlines()[-1:]}", flush=True)
    return [
        f"disabled.toml: {row.name} {result.of(row.name).kind}: it needs no row"
        for row in rows
        if not failed(result.of(row.name))
    ]


def logs_folder(under: str) -> Path:
    folder = ROOT / "build/stdlib" / f"{THIS_VERSION}-{under or 'unpatched'}"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def main() -> int:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in its background like that, and children inherit it:
        # interrupt_main does nothing then.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    options = arguments()
    if importlib.util.find_spec("test.test_socket") is None:
        print(f"{sys.executable} comes without CPython's tests (Debian: libpython3-testsuite)")
        return 1
    table = read_table().of_version(THIS_VERSION)
    if len(table.disabled) >= LIMIT:
        print(f"{len(table.disabled)} tests are disabled; fewer than {LIMIT} may be")
        return 1
    start = time.monotonic()
    limit = RECHECK_SECONDS if options.recheck else options.limit
    setting = Setting(options.under, logs_folder(options.under), limit, FILE_SECONDS)
    work, tell = (recheck, report_recheck) if options.recheck else (run_one, report)
    files = sorted(options.files, key=FILES.index)
    wrong: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(lambda file: work(file, setting, table, options), files):
            wrong += tell(result, table, options)
            if not options.tests:
                wrong += missing(table.disabled + table.unpatched, result)
    for text in wrong:
        print("\n" + text)
    how = f"under {options.under}.monkey.patch_all()" if options.under else "unpatched"
    print(
        f"\nCPython {sys.version.split()[0]} {how}: {len(files)} files, {len(wrong)} failures, "
        f"{len(table.disabled)} tests disabled, {time.monotonic() - start:.0f} s"
        + (f"; logs: {os.path.relpath(setting.logs)}" if wrong else "")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
