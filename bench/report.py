"""Results as a table for the terminal and as JSON for everything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.goals import verdict
from bench.samples import Paired, Sample, detail, paired, summarise

OURS = "streamserve"


@dataclass(frozen=True)
class Result:
    """All samples of one case.

    Attributes:
        case: Its name; `title` and `unit` as the table's head shows them.
        subjects: What was to be measured, in order, with the version of each.
        samples: All that was measured, valid or not.
        unavailable: Subjects that could not be measured, and why.
    """

    case: str
    title: str
    unit: str
    subjects: dict[str, str]
    samples: list[Sample]
    unavailable: dict[str, str]


@dataclass(frozen=True)
class Column:
    """A secondary column: its heading, the detail it shows, a factor, and the digits after the point."""

    heading: str
    key: str
    factor: float = 1.0
    digits: int = 0


LOAD_COLUMNS = (
    Column("req/s", "requests_per_second"),
    Column("busy %", "busy", 100),
    Column("p50 ms", "p50_us", 0.001, 2),
    Column("p99 ms", "p99_us", 0.001, 2),
)
RSS_COLUMNS = (Column("RSS MB before", "rss_before", 1e-6, 1), Column("RSS MB after", "rss_after", 1e-6, 1))
COLUMNS = {
    "hello": LOAD_COLUMNS,
    "browser": LOAD_COLUMNS,
    "sleep": LOAD_COLUMNS,
    "tls13-1m": LOAD_COLUMNS[:2],
    "tls12-1m": LOAD_COLUMNS[:2],
    "tls13-1k": LOAD_COLUMNS[:2],
    "tls13-resumed": LOAD_COLUMNS[:2],
    **dict.fromkeys(
        ("ws-echo", "ws-receive", "ws-burst", "ws-broadcast", "ws-large", "sio-broadcast-tls"),
        (Column("busy %", "busy", 100),),
    ),
    **dict.fromkeys(("idle", "ws-idle"), RSS_COLUMNS),
    "many": (Column("us alone", "alone_us", 1, 2), Column("us crowded", "crowded_us", 1, 2)),
}


def table(result: Result) -> str:
    """The case as aligned text, then one line for everything that did not count or could not be measured."""
    columns = COLUMNS.get(result.case, ())
    head = ["", "version", result.unit, "spread", "quiet", "n", "ours/it", "paired"]
    head += [*(column.heading for column in columns), "goal"]
    rows = [head]
    for subject, version in result.subjects.items():
        if subject not in result.unavailable:
            rows.append(_row(result, subject, version, columns))
    lines = [f"{result.case}: {result.title}", *align(rows)]
    for subject, reason in result.unavailable.items():
        lines.append(f"  not measured: {subject}: {reason}")
    for sample in result.samples:
        lines += [f"  INVALID: {sample.subject}, round {sample.round + 1}: {text}" for text in sample.problems]
    return "\n".join(lines)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns to equal width: the first and the last to the left, numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in (0, last) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def number(value: float, digits: int) -> str:
    """A number, or a dash for NaN."""
    return "-" if value != value else f"{value:,.{digits}f}"


def write_json(path: Path, machine: dict[str, str], options: dict[str, object], results: list[Result]) -> None:
    """Write the machine, the options and every sample; a value that could not be taken is null."""
    cases = []
    for result in results:
        case = asdict(result)
        case["summaries"] = [asdict(summarise(name, result.samples)) for name in result.subjects]
        case["paired"] = {name: asdict(paired(OURS, name, result.samples)) for name in result.subjects}
        cases.append(case)
    document = {"machine": machine, "options": options, "cases": cases}
    path.write_text(json.dumps(_without_nan(document), indent=1, default=str) + "\n")


def failed(results: list[Result]) -> bool:
    """Whether any sample was invalid."""
    return any(sample.problems for result in results for sample in result.samples)


def _row(result: Result, subject: str, version: str, columns: Sequence[Column]) -> list[str]:
    summary, ours = summarise(subject, result.samples), summarise(OURS, result.samples)
    ratio = ours.median / (summary.median or float("nan"))
    pairs = paired(OURS, subject, result.samples)
    digits = 0 if summary.median >= 1000 else 2
    cells = [subject, version, number(summary.median, digits), number(100 * summary.spread, 0) + "%"]
    cells += [number(summary.quiet, digits), str(summary.count), number(ratio, 2), _with_error(pairs)]
    for column in columns:
        cells.append(number(column.factor * detail(subject, result.samples, column.key), column.digits))
    return [*cells, verdict(result.case, subject, summary.median, ratio, ours.median - summary.median)]


def _with_error(pairs: Paired) -> str:
    if pairs.error != pairs.error:
        return number(pairs.ratio, 2)
    return f"{pairs.ratio:.2f} +-{100 * pairs.error:.0f}%"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
