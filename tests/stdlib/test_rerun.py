"""With --rerun, a test of CPython's that failed by an assertion runs once more; one that crashed or hung does not."""

import argparse
import unittest
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.stdlib import __main__ as runner
from tests.stdlib import outcome
from tests.stdlib.process import FileRun, Outcome, Setting
from tests.stdlib.table import Table

TESTS = [f"test.test_queue.Some.{kind}" for kind in ("failed", "raised", "hung", "crashed", "passed")]


@pytest.mark.parametrize("asked", [True, False])
def test_only_what_failed_by_an_assertion_runs_again(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []

    def run_file(file: str, setting: Setting, skip: Any = (), only: Any = None) -> FileRun:
        again = bool(runs)
        runs.append(only or TESTS)
        kinds = {name: "passed" if again else name.rpartition(".")[2] for name in runs[-1]}
        return FileRun(file, list(TESTS), {name: Outcome(name, kind, "", 0.0) for name, kind in kinds.items()})

    monkeypatch.setattr(runner, "run_file", run_file)
    options = argparse.Namespace(all=False, tests=None, rerun=asked)
    result = runner.run_one("test_queue", Setting("", Path()), Table((), ()), options)
    assert runs == [TESTS, ["test.test_queue.Some.failed"]][: 1 + asked]
    kinds = [result.of(name).kind for name in TESTS]
    assert kinds == ["passed" if asked else "failed", "raised", "hung", "crashed", "passed"]


class Some(unittest.TestCase):
    __test__ = False  # not one of pytest's: it fails

    def test_assertion(self) -> None:
        self.assertEqual(1, 2)

    def test_error(self) -> None:
        raise TimeoutError

    def test_parts(self) -> None:
        with self.subTest():
            self.assertEqual(1, 2)
        with self.subTest():
            raise TimeoutError


class Told(dict[str, str]):
    def tell(self, **event: Any) -> None:
        if event["event"] == "outcome":
            self[event["test"].rpartition(".")[2]] = event["outcome"]


def test_an_assertion_and_another_error_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "faulthandler", Mock())  # it has one limit of time, that of the test which runs this
    told = Told()
    unittest.TestSuite(map(Some, ("test_assertion", "test_error", "test_parts"))).run(outcome.Outcomes(told, 600))
    assert told == {"test_assertion": "failed", "test_error": "raised", "test_parts": "raised"}
