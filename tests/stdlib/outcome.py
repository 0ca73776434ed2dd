"""What became of each test of CPython's, told as it is known. Imported after patching, in the child alone."""

import faulthandler
import time
import traceback
import unittest
from types import TracebackType
from typing import Protocol

Error = tuple[type[BaseException], BaseException, TracebackType]

RANKS = ("passed", "skipped", "failed", "raised")
"""Outcomes of the parts of a test, the worst last."""


class Teller(Protocol):
    def tell(self, **event: object) -> None: ...


class Outcomes(unittest.TestResult):
    """A result that keeps nothing, and a limit of time for each test.

    A test has one outcome, the worst of its parts: "passed", "skipped", "failed" (by an assertion) or "raised". That of
    a set-up of a class or a module has the name of that class or module.

    Args:
        limit: seconds for one test; past it the stacks of all threads go to the log and the process ends.
    """

    def __init__(self, events: Teller, limit: float) -> None:
        super().__init__()
        self.events = events
        self.limit = limit
        self.worst: tuple[str, str] = ("passed", "")
        self.started: float | None = None

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.worst = ("passed", "")
        self.started = time.perf_counter()
        print(f"---- {test.id()}", flush=True)
        self.events.tell(event="start", test=test.id())
        faulthandler.dump_traceback_later(self.limit, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        if self.started is None:
            return  # CPython 3.12.1 does not start a test that it skips, and told already that it does
        seconds = time.perf_counter() - self.started
        self.started = None
        self._tell(test.id(), *self.worst, seconds)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._add(test, "skipped", reason)

    def addError(self, test: unittest.TestCase, err: Error) -> None:
        super().addError(test, err)
        self._add(test, "raised", _text(err))

    def addFailure(self, test: unittest.TestCase, err: Error) -> None:
        super().addFailure(test, err)
        self._add(test, "failed", _text(err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Error | None) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            by_assertion = issubclass(err[0], test.failureException)
            self._add(test, "failed" if by_assertion else "raised", f"{subtest.id()}\n{_text(err)}")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._add(test, "failed", "passes, and is expected to fail")

    def _add(self, test: unittest.TestCase, outcome: str, text: str) -> None:
        if outcome in ("failed", "raised"):
            print(text, flush=True)
        if self.started is None:
            # Of a class or module: "setUpClass (test.test_ssl.SomeTests)".
            self._tell(test.id().rpartition("(")[2].rstrip(")"), outcome, text, 0.0)
        elif RANKS.index(outcome) > RANKS.index(self.worst[0]):
            self.worst = (outcome, text)

    def _tell(self, name: str, outcome: str, text: str, seconds: float) -> None:
        self.events.tell(event="outcome", test=name, outcome=outcome, text=text, seconds=round(seconds, 3))


def _text(error: Error) -> str:
    return "".join(traceback.format_exception(*error))
