"""The table and the JSON of a result."""

from __future__ import annotations

import json
from pathlib import Path

from bench.report import Result, align, failed, table, write_json
from bench.samples import Sample


def result(*samples: Sample) -> Result:
    versions = {"streamserve": "0.1", "fastwsgi": "0.0.9", "bjoern": "3.2.2"}
    return Result("hello", "hello world", "us", versions, list(samples), {"bjoern": "no compiler"})


OURS = Sample("streamserve", 0, 6.0, {"busy": 0.99})
PEER = Sample("fastwsgi", 0, 8.0, {"busy": 0.98})
BROKEN = Sample("fastwsgi", 1, float("nan"), {}, ("wrk counted 3 read errors",))


def test_a_row_holds_median_ratio_and_goal() -> None:
    row = next(line for line in table(result(OURS, PEER)).splitlines() if "fastwsgi" in line)
    assert row.split()[:4] == ["fastwsgi", "0.0.9", "8.00", "0%"]
    assert "0.75" in row and row.endswith("<= 1: met")


def test_a_missed_goal_is_called_missed() -> None:
    slow = Sample("streamserve", 0, 9.0)
    assert "<= 1: MISSED" in table(result(slow, PEER))


def test_what_is_missing_or_invalid_is_said() -> None:
    text = table(result(OURS, PEER, BROKEN))
    assert "not measured: bjoern: no compiler" in text
    assert "INVALID: fastwsgi, round 2: wrk counted 3 read errors" in text
    assert failed([result(OURS, BROKEN)]) and not failed([result(OURS, PEER)])


def test_without_ours_there_is_neither_ratio_nor_goal() -> None:
    assert "met" not in table(result(PEER)) and "MISSED" not in table(result(PEER))


def test_columns_are_aligned() -> None:
    assert align([["", "n", "note"], ["long name", "1", "x"], ["b", "1000", ""]]) == [
        "                n  note",
        "  long name     1  x",
        "  b          1000",
    ]


def test_json_holds_every_sample_and_null_for_what_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"processor": "p"}, {"rounds": 1, "python": Path("x")}, [result(OURS, PEER, BROKEN)])
    document = json.loads(path.read_text())
    samples = document["cases"][0]["samples"]
    assert [sample["value"] for sample in samples] == [6.0, 8.0, None]
    assert samples[2]["problems"] == ["wrk counted 3 read errors"]
    assert document["machine"] == {"processor": "p"} and document["options"]["python"] == "x"
