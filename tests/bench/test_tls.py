"""`python -m bench tls`: a sample counts only if the right bytes came under the right cipher."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import tls
from bench.goals import RATIOS

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


def test_the_goals_are_those_of_cases() -> None:
    assert {case for case, subject in RATIOS if subject == "nginx"} <= set(tls.CASES)
