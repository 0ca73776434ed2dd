"""What runs give, and how several become one number."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One measurement of one subject in one round.

    Attributes:
        subject: The peer or library.
        round: From 0.
        value: In the unit of its case.
        details: What else was seen, for the JSON and the secondary columns. `slices_us`, where it is there, holds the
            values of the short runs that make up this one.
        problems: Why it does not count; empty when it does.
    """

    subject: str
    round: int
    value: float
    details: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """The valid samples of one subject.

    Attributes:
        median: Of the samples; NaN when none is valid.
        spread: (largest - smallest) / median.
        quiet: The lower quartile of all slices: the value in the quarter of the time in which the machine was least
            disturbed. Disturbance only ever adds.
        count: How many samples are valid.
    """

    subject: str
    median: float
    spread: float
    quiet: float
    count: int


def summarise(subject: str, samples: list[Sample]) -> Summary:
    """Reduce one subject's samples."""
    mine = [sample for sample in samples if sample.subject == subject and not sample.problems]
    values = [sample.value for sample in mine]
    if not values:
        nan = float("nan")
        return Summary(subject, nan, nan, nan, 0)
    median = statistics.median(values)
    spread = (max(values) - min(values)) / median if median else 0.0
    slices = [value for sample in mine for value in _slices(sample)]
    return Summary(subject, median, spread, quantile(slices, 0.25), len(values))


@dataclass(frozen=True)
class Paired:
    """How two subjects compare, slice by slice: a ratio, and the share by which chance may have moved it (95 %)."""

    ratio: float
    error: float


def paired(ours: str, theirs: str, samples: list[Sample]) -> Paired:
    """Compare slices that were taken in the same pass of the same round, and so minutes or seconds apart.

    Returns:
        The geometric mean of the ratios ours / theirs; NaN without a pair, and NaN for the error with fewer than three.
    """
    by_round = {(sample.subject, sample.round): _slices(sample) for sample in samples if not sample.problems}
    logs = [
        math.log(mine / other)
        for number in sorted({sample.round for sample in samples})
        for mine, other in zip(by_round.get((ours, number), []), by_round.get((theirs, number), []), strict=False)
        if mine > 0 and other > 0
    ]
    if not logs:
        return Paired(float("nan"), float("nan"))
    error = 1.96 * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) >= 3 else float("nan")
    return Paired(math.exp(statistics.mean(logs)), math.expm1(error))


def _slices(sample: Sample) -> list[float]:
    values: list[float] = sample.details.get("slices_us", [sample.value])
    return values


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie, interpolated linearly between neighbours."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def detail(subject: str, samples: list[Sample], key: str) -> float:
    """The median of one detail over the valid samples; NaN when there is none."""
    mine = [sample for sample in samples if sample.subject == subject and not sample.problems]
    values = [sample.details[key] for sample in mine if key in sample.details]
    return statistics.median(values) if values else float("nan")
