"""One figure at two settings, trial by trial: what differs, how sure that is, and whether it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from csmkit.lab.analysis.headlines import Headline
from csmkit.lab.analysis.rows import is_number
from csmkit.lab.analysis.significance import Difference, holm, paired_difference, paired_rows
from csmkit.lab.analysis.statistics import LEVEL, UNITS
from csmkit.lab.sweep.axes import acts

LOWER, HIGHER, SAME, EQUAL, NOT_SHOWN, TOO_FEW = "lower", "higher", "the same", "no difference", "not shown", "too few"
CLEAR = (LOWER, HIGHER)
ROUNDING = 1e-9  # relative: a difference of exactly the margin is not above it, whatever its last digit

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """One figure at one setting against another, over pairs that share text, seed and all other settings.

    Attributes:
        headline: the figure.
        axis: what differs; "run" where a former sweep is compared with, "setting" where all of them may differ.
        value: of the axis.
        baseline: the other value.
        difference: value minus baseline; ``n`` counts pairs.
        p: p-value corrected for all comparisons of the same question; None is the uncorrected one.
    """

    headline: Headline
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
        axis: that acts.
        value: of it.
        baseline: of it; what it does is the figure at the value minus that at the baseline.
        beside: that of the other axis, whose ``difference`` is the one of these effects, over fours of trials that
            share text, seed and all other settings.
    """

    axis: str
    value: Any
    baseline: Any
    beside: Comparison


def compared(rows: Rows, axes: Iterable[str], axis: str, value: Any, base: Any, item: Headline) -> Comparison:
    """One value of an axis against another.

    Args:
        rows: of a sweep, with tuples for schedules.
        axes: names of all that were varied.
        axis: the one that differs.
        value: of it.
        base: the value that is subtracted.
        item: the figure.
    """
    here, there = ([row for row in rows if row[axis] == wanted and acts(axis, row)] for wanted in (value, base))
    return compared_rows(here, there, axis, (value, base), item, [name for name in axes if name != axis])


def compared_rows(
    rows: Rows, others: Rows, axis: str, names: tuple[Any, Any], item: Headline, shared: Sequence[str] = ()
) -> Comparison:
    """As `compared`, of rows that are sorted out already; ``shared`` are columns of a pair beside text and seed."""
    pairs = paired_rows(rows, others, item.column, units=[*UNITS, *shared], weight=item.weight)
    return Comparison(item, axis, *names, _difference(pairs, item))


def compared_with(rows: Rows, axis: str, value: Any, wanted: float, item: Headline) -> Comparison:
    """A figure against a fixed value, such as 0.5 of a probability."""
    known = [row for row in rows if row.get(item.column) is not None]
    pairs = [{**row, item.column: row[item.column] - wanted} for row in known]
    return Comparison(item, axis, value, wanted, _difference(pairs, item))


def _difference(pairs: Rows, item: Headline) -> Difference:
    return paired_difference(pairs, item.column, weight=item.weight, share=item.share)


def corrected(found: Sequence[Comparison], times: float = 1.0) -> list[Comparison]:
    """The comparisons of one question, their p-values corrected by Holm's method.

    Args:
        found: all that were looked at.
        times: how often as many could have been looked at, where these were picked out by the data.
    """
    p_values = [None if item.difference.p is None else min(1.0, item.difference.p * times) for item in found]
    return [replace(item, p=p) for item, p in zip(found, holm(p_values), strict=True)]


def interactions(
    rows: Rows, axes: Mapping[str, Sequence[Any]], base: Mapping[str, Any], columns: Sequence[Headline]
) -> list[Interaction]:
    """Those of each pair of axes, for each of their values that are no baselines; none for a single axis.

    Whether settings act alone is one question: the p-values are corrected for all of them.
    """
    places = [
        (axis, value, other, other_value, item)
        for axis, other in combinations(axes, 2)
        for item in columns
        for value in axes[axis]
        for other_value in axes[other]
        if value != base[axis] and other_value != base[other]
    ]
    found = corrected([_effect_of_effect(rows, axes, base, *place) for place in places])
    return [
        Interaction(axis, value, base[axis], beside) for (axis, value, *_), beside in zip(places, found, strict=True)
    ]


def _effect_of_effect(
    rows: Rows,
    axes: Mapping[str, Sequence[Any]],
    base: Mapping[str, Any],
    axis: str,
    value: Any,
    other: str,
    other_value: Any,
    item: Headline,
) -> Comparison:
    shared = [name for name in axes if name not in (axis, other)]

    def effect(there: Any) -> Rows:
        here = [row for row in rows if row[other] == there]
        pair = ([row for row in here if row[axis] == wanted] for wanted in (value, base[axis]))
        return paired_rows(*pair, item.column, units=[*UNITS, *shared], weight=item.weight)

    return compared_rows(effect(other_value), effect(base[other]), other, (other_value, base[other]), item, shared)


def shown(value: Any) -> str:
    """A setting as tables have it: a schedule as "1-2-4-6"."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if is_number(value) else str(value)


def setting(values: Mapping[str, Any]) -> str:
    """A combination of settings in words, such as "chunk_frames 6, codec streaming"."""
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items()) or "all"
