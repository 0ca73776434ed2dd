"""How samples become one number."""

from __future__ import annotations

import math

import pytest

from bench.samples import Sample, detail, paired, quantile, summarise


def test_median_and_spread_leave_out_invalid_samples() -> None:
    samples = [Sample("a", 0, 10.0), Sample("a", 1, 12.0), Sample("a", 2, 11.0), Sample("a", 3, 99.0, {}, ("wrong",))]
    summary = summarise("a", [*samples, Sample("b", 0, 1.0)])
    assert (summary.median, summary.count) == (11.0, 3)
    assert summary.spread == pytest.approx(2 / 11)


def test_without_a_valid_sample_there_is_no_number() -> None:
    summary = summarise("a", [Sample("a", 0, 5.0, {}, ("wrong",))])
    assert math.isnan(summary.median) and summary.count == 0


def test_quiet_is_the_lower_quartile_of_all_slices() -> None:
    samples = [Sample("a", 0, 3.0, {"slices_us": [1.0, 5.0]}), Sample("a", 1, 3.0, {"slices_us": [2.0, 3.0, 4.0]})]
    assert summarise("a", samples).quiet == 2.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (0.25, 1.75)])
def test_quantile_interpolates_between_neighbours(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(expected)


def test_detail_is_the_median_over_valid_samples_that_have_it() -> None:
    samples = [Sample("a", 0, 1.0, {"x": 2}), Sample("a", 1, 1.0, {}), Sample("a", 2, 1.0, {"x": 9}, ("wrong",))]
    assert detail("a", samples, "x") == 2
    assert math.isnan(detail("a", samples, "y"))


def test_slices_of_one_pass_are_compared_with_each_other() -> None:
    ours = [Sample("us", 0, 1.0, {"slices_us": [1.0, 4.0]}), Sample("us", 1, 1.0, {"slices_us": [8.0]})]
    theirs = [Sample("it", 0, 1.0, {"slices_us": [2.0, 8.0]}), Sample("it", 1, 1.0, {"slices_us": [16.0]})]
    pairs = paired("us", "it", ours + theirs)
    assert pairs.ratio == pytest.approx(0.5)
    assert pairs.error == pytest.approx(0.0)


def test_a_round_that_is_invalid_on_one_side_is_no_pair() -> None:
    samples = [Sample("us", 0, 1.0), Sample("it", 0, 4.0), Sample("us", 1, 9.0), Sample("it", 1, 1.0, {}, ("wrong",))]
    pairs = paired("us", "it", samples)
    assert pairs.ratio == pytest.approx(0.25) and math.isnan(pairs.error)
    assert math.isnan(paired("us", "nobody", samples).ratio)
