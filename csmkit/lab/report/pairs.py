"""One figure at two settings, trial by trial: what differs, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csmkit.lab.report.headlines import Headline
from csmkit.lab.rows import is_number
from csmkit.lab.statistics import UNITS, Interval, crossed_interval, paired_rows
from csmkit.lab.sweep.axes import acts

LOWER, HIGHER, SAME, NOT_SHOWN, TOO_FEW = "lower", "higher", "the same", "not shown", "too few"

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
        same: whether it is nought in every single pair.
    """

    headline: Headline
    axis: str
    value: Any
    baseline: Any
    difference: Interval
    same: bool = False

    @property
    def verdict(self) -> str:
        """Lower or higher where the whole interval is; too few where there is none.

        Where it holds 0, the same if no pair differs at all, else not shown: it may be there and too small for this
        many texts and seeds.
        """
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return TOO_FEW
        if self.same:
            return SAME
        return LOWER if high < 0 else HIGHER if low > 0 else NOT_SHOWN


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
    difference = crossed_interval(pairs, item.column, weight=item.weight)
    return Comparison(item, axis, *names, difference, all(pair[item.column] == 0 for pair in pairs))


def shown(value: Any) -> str:
    """A setting as tables have it: a schedule as "1-2-4-6"."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if is_number(value) else str(value)


def setting(values: Mapping[str, Any]) -> str:
    """A combination of settings in words, such as "chunk_frames 6, codec streaming"."""
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items()) or "all"
