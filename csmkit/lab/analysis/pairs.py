"""One figure at two settings, trial by trial: what differs, how sure that is, and whether it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from statistics import median
from typing import Any

import numpy as np

from csmkit.lab.analysis.columns import Column, in_words
from csmkit.lab.analysis.rows import Row, grouped, is_number, measured
from csmkit.lab.analysis.statistics import (
    LEAST_TEXTS,
    LEVEL,
    UNITS,
    Interval,
    drawn_figures,
    percentile_bounds,
    reduced,
    scipy_stats,
    share_bounds,
)
from csmkit.lab.sweep.axes import acts

LOWER, HIGHER, SAME, EQUAL, NOT_SHOWN, TOO_FEW = "lower", "higher", "the same", "no difference", "not shown", "too few"
CLEAR = (LOWER, HIGHER)
ROUNDING = 1e-9  # relative: a difference of exactly the margin is not above it, whatever its last digit

Rows = Sequence[Row]


@dataclass(frozen=True)
class Difference(Interval):
    """A difference between two settings, over pairs of trials that share text, seed and all other settings.

    Attributes:
        inner_low: lower bound of 90 %: with ``inner_high`` two one-sided tests of 5 % each (Schuirmann 1987).
        inner_high: upper bound of 90 %.
        p: two-sided p-value of no difference, before any correction; None where there are no bounds.
        n_texts: number of texts.
        same: whether each single pair is equal.
    """

    inner_low: float | None = None
    inner_high: float | None = None
    p: float | None = None
    n_texts: int = 0
    same: bool = False


@dataclass(frozen=True)
class Comparison:
    """One figure at one setting against another, over pairs that share text, seed and all other settings.

    Attributes:
        headline: the figure that is compared.
        axis: what differs; "run" where a former sweep is compared with, "setting" where all of them may differ.
        value: the value of the axis that is judged.
        baseline: the other value.
        difference: value minus baseline; ``n`` counts pairs.
        p: p-value corrected for all comparisons of the same question; None is the uncorrected one.
    """

    headline: Column
    axis: str
    value: Any
    baseline: Any
    difference: Difference
    p: float | None = None

    @property
    def verdict(self) -> str:
        """What may be said.

        ``too few`` texts for an interval; ``the same`` in every single pair; ``lower`` or ``higher`` where the whole
        interval is and the corrected p-value is below 0.05; ``no difference`` where the interval of 90 % is within the
        margin on both sides; else ``not shown``: it may be there and too small for this many texts.
        """
        gap = self.difference
        if gap.low is None or gap.high is None or gap.inner_low is None or gap.inner_high is None:
            return TOO_FEW
        if gap.same:
            return SAME
        p = gap.p if self.p is None else self.p
        if p is not None and p < 1 - LEVEL and (gap.high < 0 or gap.low > 0):
            return LOWER if gap.high < 0 else HIGHER
        margin = self.headline.margin
        return EQUAL if margin is not None and -margin < gap.inner_low and gap.inner_high < margin else NOT_SHOWN

    @property
    def matters(self) -> bool:
        """Whether the difference is clear and larger than the margin of its figure."""
        margin, size = self.headline.margin, self.difference.median
        if self.verdict not in CLEAR or margin is None or size is None:
            return False
        return abs(size) > margin * (1 + ROUNDING)

    @property
    def at_most(self) -> float | None:
        """How large the difference may be on either side, each side at 95 %; None for too few texts."""
        bounds = (self.difference.inner_low, self.difference.inner_high)
        return max((abs(bound) for bound in bounds if bound is not None), default=None)


@dataclass(frozen=True)
class Interaction:
    """What one axis does to a figure at one value of another axis, against what it does at that one's baseline.

    Attributes:
        axis: the axis whose effect is looked at.
        value: the value of that axis.
        baseline: the value it is compared with: the effect is the figure at ``value`` minus that at ``baseline``.
        beside: comparison of the effect at two values of the other axis; its ``difference`` is one of effects, over
            fours of trials that share text, seed and all other settings.
    """

    axis: str
    value: Any
    baseline: Any
    beside: Comparison


def compared(
    rows: Rows, axes: Mapping[str, Sequence[Any]], axis: str, base: Any, columns: Iterable[Column]
) -> list[Comparison]:
    """Each other value of an axis against ``base``, figure by figure."""
    groups = grouped([row for row in rows if acts(axis, row)], [axis])
    shared = [name for name in axes if name != axis]
    return [
        compared_rows(groups.get((value,), []), groups.get((base,), []), axis, (value, base), item, shared)
        for item in columns
        for value in axes[axis]
        if value != base
    ]


def compared_rows(
    rows: Rows, others: Rows, axis: str, names: tuple[Any, Any], item: Column, shared: Sequence[str] = ()
) -> Comparison:
    """As `compared`, of rows that are sorted out already; ``shared`` are columns of a pair beside text and seed."""
    pairs = paired_rows(rows, others, item.column, units=[*UNITS, *shared], weight=item.weight)
    return Comparison(item, axis, *names, paired_difference(pairs, item.column, weight=item.weight, share=item.share))


def compared_with(rows: Rows, axis: str, value: Any, wanted: float, item: Column) -> Comparison:
    """A figure against a fixed value, such as 0.5 of a probability."""
    known = [row for row in rows if row.get(item.column) is not None]
    pairs = [{**row, item.column: row[item.column] - wanted} for row in known]
    difference = paired_difference(pairs, item.column, weight=item.weight, share=item.share)
    return Comparison(item, axis, value, wanted, difference)


def corrected(found: Sequence[Comparison], times: float = 1.0) -> list[Comparison]:
    """The comparisons of one question, their p-values corrected by Holm's method.

    Args:
        times: how often as many could have been looked at, where these were picked out by the data.
    """
    p_values = [None if item.difference.p is None else min(1.0, item.difference.p * times) for item in found]
    return [replace(item, p=p) for item, p in zip(found, holm(p_values), strict=True)]


def interactions(
    rows: Rows, axes: Mapping[str, Sequence[Any]], base: Mapping[str, Any], columns: Sequence[Column]
) -> list[Interaction]:
    """Those of each pair of axes, for each of their values that are no baselines; none for a single axis.

    Whether settings act alone is one question: the p-values are corrected for all of them.
    """
    found = []
    for axis, other in combinations(axes, 2):
        groups = grouped(rows, [axis, other])
        shared = [name for name in axes if name not in (axis, other)]
        for item, value, far in product(columns, axes[axis], axes[other]):
            if value != base[axis] and far != base[other]:
                effects = []
                for there in (far, base[other]):
                    here, before = groups.get((value, there), []), groups.get((base[axis], there), [])
                    pairs = paired_rows(here, before, item.column, units=[*UNITS, *shared], weight=item.weight)
                    effects.append(pairs)
                beside = compared_rows(*effects, other, (far, base[other]), item, shared)
                found.append(Interaction(axis, value, base[axis], beside))
    besides = corrected([item.beside for item in found])
    return [replace(item, beside=beside) for item, beside in zip(found, besides, strict=True)]


def shown(value: Any) -> str:
    """A setting as tables have it: a schedule as "1-2-4-6"."""
    if isinstance(value, tuple | list):
        return "-".join(map(str, value))
    return f"{value:g}" if is_number(value) else str(value)


def setting(values: Mapping[str, Any]) -> str:
    """A combination of settings in words, such as "chunk size 6, codec streaming"."""
    return ", ".join(f"{in_words(name)} {shown(value)}" for name, value in values.items()) or "all"


def paired_rows(
    rows: Iterable[Row], others: Iterable[Row], value: str, *, units: Sequence[str] = UNITS, weight: str | None = None
) -> list[dict[str, Any]]:
    """The difference of a column between trials that share all units: one row a pair, of the units and ``value``.

    Repeats of a trial are averaged by their median first. What is not measured in both has no pair.
    The value of ``others`` is subtracted.
    """
    here, there = (
        grouped([row for row in given if measured(row.get(value)) is not None], units) for given in (rows, others)
    )
    kept = [*units, *([weight] if weight else [])]
    return [
        {value: _median(group, value) - _median(there[key], value), **{name: group[0][name] for name in kept}}
        for key, group in here.items()
        if key in there
    ]


def _median(rows: Rows, column: str) -> float:
    return median(float(row[column]) for row in rows)


def paired_difference(pairs: Rows, value: str, *, weight: str | None = None, share: bool = False) -> Difference:
    """The difference that `paired_rows` made, with its interval, its bounds for a test of equivalence, and its p-value.

    The p-value of a median or mean is that of Student's t with the bootstrap's standard error and one degree of freedom
    less than there are texts; where the error is 0, and of a share, it is that of the exact sign test over texts.
    The interval of a share takes the texts with more and those with less apart, each with exact bounds at half the
    error (Bonferroni).

    Args:
        share: the difference is one of shares, in [-1, 1].
    """
    cells = reduced(pairs, value, weight=weight, mean=share)
    if not len(cells.values):
        return Difference(None, None, None, 0)
    texts, figure = cells.of_texts(), cells.figure(share)
    known = {"n_texts": cells.n_texts, "same": bool((np.abs(cells.values) < ROUNDING).all())}
    if cells.n_texts < LEAST_TEXTS:
        return Difference(figure, None, None, cells.n_rows, **known)
    if share or (known["same"] and weight is not None):  # the bootstrap of equal pairs would have no width
        bounds, p = partial(_share_difference_bounds, texts), 1.0 if known["same"] else sign_test(texts)
    else:
        drawn = drawn_figures(cells)
        bounds, error = partial(percentile_bounds, drawn), float(drawn.std(ddof=1))
        p = sign_test(texts) if error < 1e-12 else 2 * scipy_stats().t.sf(abs(figure / error), cells.n_texts - 1)
    outer, inner = bounds(LEVEL), bounds(1 - 2 * (1 - LEVEL))
    return Difference(figure, *outer, cells.n_rows, *inner, p=float(p), **known)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for how many there are (Holm, Scandinavian Journal of Statistics 1979); None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def smallest_difference(spread: float, n_texts: int, n_comparisons: int = 1, power: float = 0.8) -> float:
    """The true difference that is found with a given power.

    Args:
        spread: standard deviation of the paired differences between texts, in the figure's unit.
        n_texts: number of texts, at least 2.
        n_comparisons: how many are corrected for; the first of Holm's steps is taken, the hardest.
        power: probability to find it.
    """
    t = scipy_stats().t(n_texts - 1)
    return float((t.ppf(1 - (1 - LEVEL) / (2 * n_comparisons)) + t.ppf(power)) * spread / np.sqrt(n_texts))


def _share_difference_bounds(texts: np.ndarray, level: float) -> tuple[float, float]:
    """Bounds of the mean difference of ``(texts,)`` shares, those above and those below 0 each bounded exactly."""
    half = 1 - (1 - level) / 2
    more, less = (share_bounds(float(np.maximum(side, 0).mean()), len(texts), half) for side in (texts, -texts))
    return more[0] - less[1], more[1] - less[0]


def sign_test(texts: np.ndarray) -> float:
    """Two-sided p-value of as many texts above 0 as below; of ties nothing is known."""
    above, below = int((texts > 0).sum()), int((texts < 0).sum())
    return float(scipy_stats().binomtest(above, above + below).pvalue) if above + below else 1.0
