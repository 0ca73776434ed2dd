"""One process that runs one file of CPython's tests: patches, then imports, then tells each outcome at once.

    python -m tests.stdlib.child JOB        (JOB: a JSON file, written by process.py)

Nothing but what the interpreter needs to come here is imported before patching, as under the `streamserve` command.
Outcomes are appended to a file, a JSON line each, by system calls that are never patched: a test that hangs or
kills the process leaves behind what was told before it.
"""

import importlib
import json
import os
import sys
import types

JSON = dict[str, object]


def patch(package: str) -> None:
    """Has `package` patch the standard library; "" leaves it as it is."""
    if package:
        importlib.import_module(package + ".monkey").patch_all()


class Events:
    """The file to which outcomes are told."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.process = os.getpid()

    def tell(self, **event: object) -> None:
        # A test that forks and comes back from the fork would tell everything twice.
        if os.getpid() == self.process:
            os.write(self.descriptor, json.dumps(event).encode() + b"\n")


def prepare(limit: float) -> None:
    """Does what regrtest does before a file, as far as it decides which tests run and how.

    Resources (network, cpu, walltime and others) are off, as they are without `-u`.
    """
    import faulthandler
    import random

    from test import support

    faulthandler.enable(all_threads=True)
    support.use_resources = ()
    support.verbose = False
    support.record_original_stdout(sys.stdout)
    # regrtest --timeout sets these from its limit for a file; here the machine may be busy with another one.
    support.LOOPBACK_TIMEOUT = max(support.LOOPBACK_TIMEOUT, limit / 6)
    support.SHORT_TIMEOUT = max(support.SHORT_TIMEOUT, limit / 2)
    random.seed(20240101)


def hand_over(module: types.ModuleType) -> None:
    """Gives the tests that take a fresh copy of `queue`, which is not patched, what `import queue` gives."""
    patched = importlib.import_module("queue")
    for copy in vars(module).values():
        # One copy is made without the compiled module, to test Python code: that one is left alone.
        if not isinstance(copy, types.ModuleType) or copy.__name__ != "queue" or copy is patched:
            continue
        if copy.SimpleQueue.__module__ == "_queue":
            copy.SimpleQueue, copy.Empty = patched.SimpleQueue, patched.Empty


def run(job: JSON, events: Events, module: types.ModuleType) -> None:
    """Runs the tests of the module that the job has, and tells all of them first."""
    import faulthandler
    import unittest

    from tests.stdlib.outcome import Outcomes

    def cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
        return [case for part in suite for case in (cases(part) if isinstance(part, unittest.TestSuite) else [part])]

    loader = unittest.TestLoader()
    suite = loader.loadTestsFromModule(module)
    if loader.errors:
        raise ImportError("\n".join(loader.errors))
    found = cases(suite)
    events.tell(event="found", tests=[case.id() for case in found])
    only, skip = job["only"], frozenset(job["skip"])
    chosen = [case for case in found if case.id() not in skip and (only is None or case.id() in only)]
    # Tests of a class stay together, so that the class is set up once.
    unittest.TestSuite(chosen).run(Outcomes(events, float(job["limit"])))
    faulthandler.cancel_dump_traceback_later()


def main(path: str) -> None:
    with open(path) as file:
        job = json.load(file)
    events = Events(job["events"])
    patch(job["under"])
    # What patching says first is in the log; now each test has its lines there.
    prepare(job["limit"])
    from test.support import os_helper

    with os_helper.temp_cwd(f"stdlib_{job['file']}_{os.getpid()}"):
        module = importlib.import_module("test." + job["file"])
        hand_over(module)
        run(job, events, module)
    events.tell(event="end")
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1])
