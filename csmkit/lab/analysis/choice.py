"""Which setting to choose: the one rule of notebooks, reports and the log.

Settings are weighed figure by figure, the most important first: speech must end, be understood, be in time, and be
early. At each figure those are left out that are clearly worse than the best of those still there, by more than the
figure's margin. "Clearly" is corrected for the number of figures and for all pairs of settings, as the data picked the
best one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from csmkit.lab.analysis.columns import Column
from csmkit.lab.analysis.pairs import LOWER, TOO_FEW, Comparison, Rows, compared_rows, corrected, setting
from csmkit.lab.analysis.rows import grouped
from csmkit.lab.analysis.statistics import central

MORE, LESS = 1, -1
IMPORTANCE = {  # whether more or less is better; a figure that is not here, such as loudness, is not weighed
    "ended_ratio": MORE,
    "wer": LESS,
    "cer": LESS,
    "repeated_ratio": LESS,
    "waited_ratio": LESS,
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
    """The settings that remain. Each is a combination of values, as one axis may change the effect of another.

    Attributes:
        settings: the settings that remain: by the weighed figures none is clearly worse than another.
        worse: the settings that were left out, each against the best one of its figure, in the order of the figures.
        too_few: whether there were too few texts to leave any out.
    """

    settings: list[str]
    worse: list[Comparison]
    too_few: bool


def choose(rows: Rows, axes: Iterable[str], columns: Sequence[Column]) -> Choice:
    """Weigh the settings of a sweep by those columns that have a margin."""
    names = list(axes)
    groups = {setting(dict(zip(names, key, strict=True))): group for key, group in grouped(rows, names).items()}
    known = {item.column: item for item in columns if item.margin is not None}
    weighed = {column: better for column, better in IMPORTANCE.items() if column in known}
    worse, too_few = [], False
    for column, better in weighed.items():
        if len(groups) < 2:
            break
        found = _against_the_best(groups, known[column], better, len(weighed))
        too_few = too_few or any(item.verdict == TOO_FEW for item in found)
        wrong_side = [item for item in found if item.matters and (item.verdict == LOWER) == (better == MORE)]
        worse += wrong_side
        for item in wrong_side:
            del groups[item.value]
    return Choice(list(groups), worse, too_few)


def _against_the_best(groups: Mapping[str, Rows], item: Column, better: int, n_figures: int) -> list[Comparison]:
    """Each setting that was measured but the best one, compared with it."""
    figures = {name: central(rows, item.column, weight=item.weight, share=item.share) for name, rows in groups.items()}
    known = {name: better * figure for name, figure in figures.items() if figure is not None}
    if not known:
        return []
    best = max(known, key=known.__getitem__)
    others = [name for name in known if name != best]
    found = [compared_rows(groups[name], groups[best], "setting", (name, best), item) for name in others]
    return corrected(found, n_figures * len(known) / 2)  # of k settings there are k / 2 times as many pairs
