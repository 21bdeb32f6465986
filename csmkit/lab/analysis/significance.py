"""How sure a difference is: pairs of trials, tests, and corrections for how many were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csmkit.lab.analysis.rows import measured
from csmkit.lab.analysis.statistics import (
    LEAST_TEXTS,
    LEVEL,
    RESAMPLES,
    UNITS,
    Interval,
    drawn_figures,
    hashable,
    percentile_bounds,
    reduced,
    scipy_stats,
    share_bounds,
)

SAME = 1e-9  # differences below it are rounding


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


def paired_rows(
    rows: Iterable[Mapping[str, Any]],
    others: Iterable[Mapping[str, Any]],
    value: str,
    *,
    units: Sequence[str] = UNITS,
    weight: str | None = None,
) -> list[dict[str, Any]]:
    """The difference of a column between trials that share all units: one row a pair, of the units and ``value``.

    Repeats of a trial are averaged by their median first. What is not measured in both has no pair.

    Args:
        rows: of one setting.
        others: of the one it is compared with; their value is subtracted.
        value: column.
        units: columns that are shared.
        weight: column that is kept beside them.
    """
    first, second = (_by_units(given, value, units) for given in (rows, others))
    return [
        {
            **{unit: first[key][1][unit] for unit in units},
            value: first[key][0] - second[key][0],
            **({weight: first[key][1][weight]} if weight else {}),
        }
        for key in first
        if key in second
    ]


def _by_units(
    rows: Iterable[Mapping[str, Any]], value: str, units: Sequence[str]
) -> dict[tuple[Any, ...], tuple[float, Mapping[str, Any]]]:
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if measured(row.get(value)) is not None:
            cells.setdefault(tuple(hashable(row[unit]) for unit in units), []).append(row)
    return {
        key: (float(cell[0][value]) if len(cell) == 1 else float(np.median([row[value] for row in cell])), cell[0])
        for key, cell in cells.items()
    }


def paired_difference(
    pairs: Sequence[Mapping[str, Any]],
    value: str,
    *,
    weight: str | None = None,
    share: bool = False,
    units: Sequence[str] = UNITS,
    seed: int = 0,
) -> Difference:
    """The difference that `paired_rows` made, with its interval, its bounds for a test of equivalence, and its p-value.

    The p-value of a median or mean is that of Student's t with the bootstrap's standard error and one degree of freedom
    less than there are texts; where the error is 0, and of a share, it is that of the exact sign test over texts.
    The interval of a share takes the texts with more and those with less apart, each with exact bounds at half the
    error (Bonferroni).

    Args:
        pairs: one a pair, whose ``value`` is the difference.
        value: column.
        weight: column that makes the figure a weighted mean; None is the median.
        share: the difference is one of shares, in [-1, 1].
        units: as for `crossed_interval`.
        seed: of the drawing.
    """
    cells = reduced(pairs, value, units=units, weight=weight, mean=share)
    if not len(cells.values):
        return Difference(None, None, None, 0)
    texts = cells.of_texts() if cells.places else cells.values
    figure = float(texts.mean()) if share else cells.figure()
    known = {"n_texts": cells.n_texts, "same": bool((np.abs(cells.values) < SAME).all())}
    drawn = None if share else drawn_figures(cells, RESAMPLES, seed)
    if cells.n_texts < LEAST_TEXTS or (drawn is None and not share):
        return Difference(figure, None, None, cells.n_rows, **known)
    if drawn is None:
        outer, inner = (_share_difference_bounds(texts, level) for level in (LEVEL, 1 - 2 * (1 - LEVEL)))
        return Difference(figure, *outer, cells.n_rows, *inner, p=_sign_test(texts), **known)
    if known["same"] and weight is not None:  # the bootstrap would have no width: nothing is known of unseen texts
        outer, inner = (_share_difference_bounds(texts, level) for level in (LEVEL, 1 - 2 * (1 - LEVEL)))
        return Difference(figure, *outer, cells.n_rows, *inner, p=1.0, **known)
    outer, inner = (percentile_bounds(drawn, level) for level in (LEVEL, 1 - 2 * (1 - LEVEL)))
    error = float(drawn.std(ddof=1))
    p = _sign_test(texts) if error < 1e-12 else _t_test(figure / error, cells.n_texts - 1)
    return Difference(figure, *outer, cells.n_rows, *inner, p=p, **known)


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


def _sign_test(texts: np.ndarray) -> float:
    """Two-sided p-value of as many texts above 0 as below; of ties nothing is known."""
    above, below = int((texts > 0).sum()), int((texts < 0).sum())
    return float(scipy_stats().binomtest(above, above + below).pvalue) if above + below else 1.0


def _t_test(t: float, degrees: int) -> float:
    return float(2 * scipy_stats().t.sf(abs(t), degrees))
