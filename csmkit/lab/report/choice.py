"""Which value of an axis to take, by one rule for all sweeps, and where the rows do not say.

Values are weighed figure by figure, the most important first: speech must end, be understood, be in time, and be early.
At each figure those values are left out that are clearly worse than the best of those still there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csmkit.lab.report.headlines import Headline
from csmkit.lab.report.pairs import HIGHER, LOWER, TOO_FEW, Comparison, Rows, compared
from csmkit.lab.statistics import central

MORE, LESS = 1, -1
IMPORTANCE = {  # what is better of each figure; one that is not here, such as loudness, has no better side
    "ended_ratio": MORE,
    "wer": LESS,
    "cer": LESS,
    "repeated_frames_ratio": LESS,
    "max_underrun_ms": LESS,
    "ttfa_ms": LESS,
    "final_after_ms": LESS,
    "rtf": LESS,
    "seam_click_auc": LESS,
    "seam_dip_auc": LESS,
    "snr_db": MORE,
}


@dataclass(frozen=True)
class Choice:
    """What is left of the values of an axis.

    Attributes:
        axis: that was varied.
        values: none of which is clearly worse than another by the figures that were weighed.
        worse: what was left out: each value against the best of those that were there, in the order of the figures.
        too_few: whether there were too few trials to leave any out.
    """

    axis: str
    values: list[Any]
    worse: list[Comparison]
    too_few: bool


def choose(rows: Rows, axes: Mapping[str, Sequence[Any]], axis: str, columns: Sequence[Headline]) -> Choice:
    """Weigh the values of an axis over all settings of the others."""
    left, worse, too_few = list(axes[axis]), [], False
    known = {item.column: item for item in columns}
    for column, better in IMPORTANCE.items():
        if column not in known or len(left) == 1:
            continue
        found = _against_the_best(rows, axes, axis, left, known[column], better)
        too_few = too_few or any(item.verdict == TOO_FEW for item in found)
        clear = [item for item in found if item.verdict == (LOWER if better == MORE else HIGHER)]
        worse += clear
        left = [value for value in left if value not in [item.value for item in clear]]
    return Choice(axis, left, worse, too_few)


def _against_the_best(
    rows: Rows, axes: Mapping[str, Sequence[Any]], axis: str, left: Sequence[Any], item: Headline, better: int
) -> list[Comparison]:
    """Each value that was measured but the best one, compared with it."""
    figures = {v: central([row for row in rows if row[axis] == v], item.column, weight=item.weight) for v in left}
    measured = {value: figure for value, figure in figures.items() if figure is not None}
    if not measured:
        return []
    best = max(measured, key=lambda value: better * measured[value])
    return [compared(rows, axes, axis, value, best, item) for value in measured if value != best]
