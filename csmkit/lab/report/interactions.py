"""Whether two settings act alone: does one change what the other does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from csmkit.lab.report.headlines import Headline
from csmkit.lab.report.pairs import Comparison, Rows, compared_rows
from csmkit.lab.statistics import UNITS, paired_rows


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


def interactions(
    rows: Rows, axes: Mapping[str, Sequence[Any]], base: Mapping[str, Any], columns: Sequence[Headline]
) -> list[Interaction]:
    """Those of each pair of axes, for each of their values that are no baselines; none for a single axis."""
    return [
        _interaction(rows, axes, base, (axis, value), (other, other_value), item)
        for axis, other in combinations(axes, 2)
        for item in columns
        for value in axes[axis]
        for other_value in axes[other]
        if value != base[axis] and other_value != base[other]
    ]


def _interaction(
    rows: Rows,
    axes: Mapping[str, Sequence[Any]],
    base: Mapping[str, Any],
    acting: tuple[str, Any],
    beside: tuple[str, Any],
    item: Headline,
) -> Interaction:
    (axis, value), (other, other_value) = acting, beside
    shared = [name for name in axes if name not in (axis, other)]

    def effect(there: Any) -> Rows:
        here = [row for row in rows if row[other] == there]
        pair = ([row for row in here if row[axis] == wanted] for wanted in (value, base[axis]))
        return paired_rows(*pair, item.column, units=[*UNITS, *shared], weight=item.weight)

    names = (other_value, base[other])
    found = compared_rows(effect(other_value), effect(base[other]), other, names, item, shared)
    return Interaction(axis, value, base[axis], found)
