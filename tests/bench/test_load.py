"""What makes a run of wrk invalid."""

from __future__ import annotations

import pytest

from bench.load import Load, parse_report, problems

REPORT = (
    "Running 1s test\n"
    'REPORT {"requests": 100, "microseconds": 1000000, "bytes": 8000, "p50_us": 10, "p99_us": 20, '
    '"errors": {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}}\n'
)


def load(requests: int = 100, size: int = 8000, **errors: int) -> Load:
    return Load(requests, 1.0, size, 10, 20, errors)


def test_the_report_of_the_script_is_read() -> None:
    errors = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)
    assert parse_report(REPORT) == load(**errors)


def test_a_run_without_report_is_an_error_that_quotes_wrk() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse_report("", "unable to connect to 127.0.0.1")


def test_responses_of_the_right_length_are_valid() -> None:
    assert problems(load(), connections=4, answer_length=80) == []


def test_bytes_of_answers_cut_off_by_the_end_are_valid() -> None:
    assert problems(load(size=8000 + 4 * 80), connections=4, answer_length=80) == []


@pytest.mark.parametrize("size", [7999, 8000 + 4 * 80 + 1])
def test_responses_of_another_length_are_found(size: int) -> None:
    assert problems(load(size=size), connections=4, answer_length=80)


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_each_kind_of_error_makes_a_run_invalid(kind: str) -> None:
    assert problems(load(**{kind: 1}), connections=4, answer_length=80) == [f"wrk counted 1 {kind} errors"]


def test_no_response_makes_a_run_invalid() -> None:
    assert "no response at all" in problems(load(requests=0, size=0), connections=4, answer_length=80)
