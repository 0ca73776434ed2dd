"""`python -m bench tls`: a sample counts only if the right bytes came under the right cipher."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import tls, tls_broadcast
from bench.goals import DIFFERENCES, RATIOS, verdict

CORE = min(os.sched_getaffinity(0))
programs = pytest.mark.skipif(
    not all(map(shutil.which, ("openssl", "taskset", "setpriv"))), reason="openssl, taskset or setpriv is missing"
)


def sample(tmp_path: Path, case: tls.Case, digest: str = "") -> tls.Sample:
    made = tls._make_files(tmp_path, case)
    place = tls.Place(tmp_path, 1, CORE, CORE, Path(sys.executable))
    return tls._sample("streamserve", case, place, 0, digest or made)


@programs
def test_measures_responses() -> None:
    result = tls.measure("tls13-1k", 1, 1, Path(sys.executable), CORE, CORE)
    mine = next(sample for sample in result.samples if sample.subject == "streamserve")
    assert mine.problems == ()
    assert mine.value > 0 and mine.details["requests"] > 0


@programs
def test_another_cipher_makes_a_sample_invalid(tmp_path: Path) -> None:
    case = replace(tls.CASES["tls12-1m"], length=1000, cipher="ECDHE-RSA-AES256-GCM-SHA384")
    assert "ECDHE-RSA-AES128-GCM-SHA256, not" in sample(tmp_path, case).problems[0]


@programs
def test_another_body_makes_a_sample_invalid(tmp_path: Path) -> None:
    assert "not the one" in sample(tmp_path, tls.CASES["tls13-1k"], "0" * 64).problems[0]


@programs
def test_resumed_handshakes_are_counted(tmp_path: Path) -> None:
    counted = sample(tmp_path, tls.CASES["tls13-resumed"])
    assert counted.problems == ()
    assert counted.value > 0 and counted.details["requests"] > 0


@programs
def test_a_broadcast_is_compared_with_one_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    case = replace(tls_broadcast.CASE, order="broadcast 2 100", messages=8, connections=4)
    monkeypatch.setattr(tls_broadcast, "CASE", case)
    result = tls.measure(tls_broadcast.NAME, 1, 1, Path(sys.executable), CORE, CORE)
    assert [(sample.subject, sample.problems) for sample in result.samples] == [("streamserve", ()), ("plain", ())]
    assert all(0 < sample.value < 1e6 for sample in result.samples)


def test_a_goal_may_be_a_difference() -> None:
    assert verdict(tls_broadcast.NAME, "plain", 4.0, 1.5, 2.4) == "+2.40 <= +2.5: met"
    assert verdict(tls_broadcast.NAME, "plain", 4.0, 1.5, 2.6).endswith("MISSED")


def test_the_goals_are_those_of_cases() -> None:
    assert {case for case, subject in RATIOS if subject in ("nginx", "uvicorn")} <= set(tls.CASES)
    assert {case for case, _ in DIFFERENCES} <= set(tls.NAMES)
