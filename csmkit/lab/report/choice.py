"""Which setting to take, by one rule for all sweeps, and where the rows do not say.

Settings are weighed figure by figure, the most important first: speech must end, be understood, be in time, and be
early. At each figure those are left out that are clearly worse than the best of those still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csmkit.lab.report.headlines import Headline
from csmkit.lab.report.pairs import HIGHER, LOWER, TOO_FEW, Comparison, Rows, compared_rows, setting
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
    """What is left of the settings: each a combination of values, as one axis may change what another does.

    Attributes:
        settings: none of which is clearly worse than another by the figures that were weighed.
        worse: what was left out: each setting against the best of those that were there, in the order of the figures.
        too_few: whether there were too few trials to leave any out.
    """

    settings: list[str]
    worse: list[Comparison]
    too_few: bool


def choose(rows: Rows, axes: Iterable[str], columns: Sequence[Headline]) -> Choice:
    """Weigh the settings of a sweep."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(setting({name: row[name] for name in axes}), []).append(row)
    worse, too_few, known = [], False, {item.column: item for item in columns}
    for column, better in IMPORTANCE.items():
        if column not in known or len(groups) < 2:
            continue
        found = _against_the_best(groups, known[column], better)
        too_few = too_few or any(item.verdict == TOO_FEW for item in found)
        clear = {item.value: item for item in found if item.verdict == (LOWER if better == MORE else HIGHER)}
        worse += clear.values()
        groups = {name: group for name, group in groups.items() if name not in clear}
    return Choice(list(groups), worse, too_few)


def _against_the_best(groups: Mapping[str, Rows], item: Headline, better: int) -> list[Comparison]:
    """Each setting that was measured but the best one, compared with it."""
    figures = {name: central(group, item.column, weight=item.weight) for name, group in groups.items()}
    measured = {name: figure for name, figure in figures.items() if figure is not None}
    if not measured:
        return []
    best = max(measured, key=lambda name: better * measured[name])
    return [
        compared_rows(groups[name], groups[best], "setting", (name, best), item) for name in measured if name != best
    ]
