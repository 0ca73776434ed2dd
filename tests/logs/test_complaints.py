"""A flood of failures is no flood of lines."""

from typing import Any

import pytest

from streamserve.logs.complaints import Complaints


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("streamserve.logs.complaints.monotonic", lambda: now[0])
    return now


def test_one_line_a_second_says_how_many_were_left_out(clock: list[float], caplog: Any) -> None:
    complaints = Complaints()
    for _ in range(5):
        complaints.note("it failed")
    clock[0] += 0.9
    complaints.note("it failed")
    clock[0] += 0.2
    complaints.note("it failed again")
    clock[0] += 1.0
    complaints.note("and again")
    assert [record.getMessage() for record in caplog.records] == [
        "it failed",
        "it failed again (and 5 more since the last such line)",
        "and again",
    ]
    assert complaints.count == 8
