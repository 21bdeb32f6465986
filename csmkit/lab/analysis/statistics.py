"""How sure a figure is: the one place where intervals and p-values are made.

Trials of the same text, or of the same seed, are not independent. Where rows name what was drawn, such as ``text`` and
``seed``, the bootstrap draws those with replacement and takes the trials at their crossings (Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 2007), so that intervals hold for other texts and seeds, not for more runs of
the same. Trials are first reduced to one value a text and seed, so repeats and further settings cost nothing.

Below 12 texts such intervals are too narrow (docs/statistics.md has the table), so there are none. Fewer than three
seeds are not drawn: the interval then holds for other texts under these seeds.

Shares of trials have exact intervals in place of the bootstrap, which knows nothing of an event that it has not seen:
Clopper and Pearson (Biometrika 1934), with the number of *texts* as the sample size, as Korn and Graubard (Survey
Methodology 1998) do for clustered samples; that is exact if all trials of a text agree, and cautious otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.analysis.rows import Row, Rows, grouped, measured, records
from csmkit.plugins import library

RESAMPLES = 2_000
LEVEL = 0.95
UNITS = ("text", "seed")  # what a sweep draws, and what its intervals are to hold for
LEAST_TEXTS, LEAST_SEEDS = 12, 3
MANY_CELLS = 2_000
NEAR_MIDDLE = 0.1  # share of the cells on each side of the middle among which each draw's median is looked for first
BLOCK = 2_000_000  # counts of resampled cells in memory at once, 4 MB each array


@dataclass(frozen=True)
class Interval:
    """A median, mean or share and where it may lie.

    Attributes:
        median: the median of the values, or their mean or share; None without any value.
        low: lower bound of 95 %; None where the values cannot say how far they vary.
        high: upper bound; None likewise.
    """

    median: float | None
    low: float | None
    high: float | None
    n: int

    def columns(self, name: str) -> dict[str, float | None]:
        """The figure as a column, and its bounds as columns that end in ``_low`` and ``_high``."""
        return {name: self.median, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Cells:
    """Rows reduced to one value for each combination of units.

    Attributes:
        values: ``(cells,)``, the median of a cell's rows, or their mean by weight.
        weights: ``(cells,)``, the sum of the weights; None where the figure is a median.
        places: index ``(cells,)`` of the value of each unit, one array a unit.
    """

    values: np.ndarray
    weights: np.ndarray | None
    places: tuple[np.ndarray, ...]
    n_rows: int

    @property
    def n_texts(self) -> int:
        """Number of values of the first unit, which is the text where rows name it."""
        return int(self.places[0].max()) + 1 if self.places and len(self.values) else 0

    def figure(self, share: bool = False) -> float:
        """The median, or the mean by weight, or of a share the mean over texts."""
        if share:
            return float(self.of_texts().mean())
        if self.weights is None:
            return float(np.median(self.values))
        total = float(self.weights.sum())
        return float((self.weights * self.values).sum() / total) if total else 0.0

    def of_texts(self) -> np.ndarray:
        """``(texts,)`` the mean of each text's cells."""
        return np.bincount(self.places[0], self.values) / np.bincount(self.places[0])


def median_interval(values: Iterable[float | None]) -> Interval:
    """The median with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one an independent trial, such as a seed; None and NaN were not measured and are left out.

    Raises:
        InputError: an infinite value.
    """
    numbers = np.array([number for number in map(measured, values) if number is not None])
    if not np.isfinite(numbers).all():
        raise InputError("values hold infinity: leave such trials out, or use a metric with a bound")
    if len(numbers) < 2:
        return Interval(float(numbers[0]) if len(numbers) else None, None, None, len(numbers))
    drawn = np.random.default_rng(0).choice(numbers, (RESAMPLES, len(numbers)))
    return Interval(float(np.median(numbers)), *percentile_bounds(np.median(drawn, axis=1), LEVEL), len(numbers))


def crossed_interval(
    rows: Sequence[Row],
    value: str,
    *,
    units: Sequence[str] = UNITS,
    weight: str | None = None,
    share: bool = False,
    resamples: int = RESAMPLES,
) -> Interval:
    """The figure of a column with its 95 % interval over the units, see the module's docstring.

    Args:
        rows: one a trial; those where the value is None or NaN are left out.
        units: columns that name what was drawn, the text first. Rows that share all of them are one value.
        weight: column that makes the figure a weighted mean, such as words for an error rate; None is the median.
        share: the value is in [0, 1] and the figure is its mean over texts, with an exact interval.

    Returns:
        The interval, whose ``median`` is that mean where there is a weight or a share. Without bounds below 12 texts.
        A mean whose values are all 0 or all 1 has the exact bounds of a share, as its bootstrap would have no width.
    """
    cells = reduced(rows, value, units=units, weight=weight, mean=share)
    if not len(cells.values):
        return Interval(None, None, None, 0)
    figure = cells.figure(share)
    if cells.n_texts < LEAST_TEXTS:
        return Interval(figure, None, None, cells.n_rows)
    equal = weight is not None and figure in (0, 1) and np.ptp(cells.values) == 0
    exact = share or equal
    bounds = share_bounds(figure, cells.n_texts) if exact else percentile_bounds(drawn_figures(cells, resamples), LEVEL)
    return Interval(figure, *bounds, cells.n_rows)


def central(rows: Iterable[Row], value: str, *, weight: str | None = None, share: bool = False) -> float | None:
    """The figure of `crossed_interval` alone; None where nothing was measured."""
    cells = reduced(rows, value, weight=weight, mean=share)
    return cells.figure(share) if len(cells.values) else None


def share_bounds(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact bounds of a share (Clopper and Pearson 1934).

    Args:
        share: the observed share, in [0, 1]; ``share * n`` need not be whole.
    """
    beta, outside, k = scipy_stats().beta, (1 - level) / 2, share * n
    low = float(beta.ppf(outside, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - outside, k + 1, n - k)) if k < n else 1.0
    return low, high


def most_unseen(n: int) -> float:
    """The largest share that something may have that happened in none of ``n`` texts, one-sided at 95 %."""
    return 1 - (1 - LEVEL) ** (1 / n)


def reduced(
    rows: Iterable[Row], value: str, *, units: Sequence[str] = UNITS, weight: str | None = None, mean: bool = False
) -> Cells:
    """Rows as `Cells`: one value for each combination of units, so that what follows is no larger than texts × seeds.

    Args:
        units: columns; none makes each row a cell.
        mean: take the mean of a cell's rows, without weights.
    """
    known = [row for row in rows if measured(row[value]) is not None]
    numbers = np.array([float(row[value]) for row in known])
    weights = None if weight is None else np.array([float(row[weight]) for row in known])
    if not units:
        return Cells(numbers, weights, (), len(known))
    keys = [tuple([row[unit] for unit in units]) for row in known]
    cell, places = _indices(keys), tuple(map(_indices, zip(*dict.fromkeys(keys), strict=True)))
    first = np.unique(cell, return_index=True)[1]
    if len(first) == len(known):
        return Cells(numbers, weights, places, len(known))
    if weights is None and not mean:
        return Cells(_cell_medians(numbers, cell), None, places, len(known))
    totals = np.bincount(cell, weights)
    sums = np.bincount(cell, numbers if weights is None else numbers * weights)
    means = np.divide(sums, totals, out=numbers[first], where=totals > 0)
    return Cells(means, None if weights is None else totals, places, len(known))


def _indices(names: Iterable[Any]) -> np.ndarray:
    """``(names,)`` the number of each name; they are counted from 0 in the order in which they first occur."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _cell_medians(numbers: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """``(cells,)`` the median of each cell's numbers."""
    ordered = numbers[np.lexsort((numbers, cell))]
    sizes = np.bincount(cell)
    starts = np.cumsum(sizes) - sizes
    return (ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2


def drawn_figures(cells: Cells, resamples: int = RESAMPLES) -> np.ndarray:
    """``(draws,)`` the figure of each draw of texts and seeds, of which there should be `LEAST_TEXTS` texts.

    Of more than 2000 cells half as many draws are taken: their interval is narrow, and its ends no less sure. A draw
    that meets no cell at all, which happens where some text has not each seed, is left out.
    """
    sizes = tuple(int(place.max()) + 1 for place in cells.places)
    counts = _counts(sizes, resamples if len(cells.values) <= MANY_CELLS else max(1, resamples // 2))
    if cells.weights is None:
        return _medians(cells, counts)
    total = _sums(cells.places, counts, cells.weights)
    summed = _sums(cells.places, counts, cells.weights * cells.values)
    met = _sums(cells.places, counts) > 0
    return np.divide(summed, total, out=np.zeros(len(total)), where=total > 0)[met]


@lru_cache(maxsize=4)
def _counts(sizes: tuple[int, ...], draws: int) -> list[np.ndarray]:
    """Of each unit, how often each of its values is drawn, ``(draws, values)``; 1 where there are too few to draw.

    The figures of a sweep share their numbers of texts and seeds, so that these draws are made once.
    """
    random = np.random.default_rng(0)
    return [
        random.multinomial(size, np.full(size, 1 / size), draws).astype(np.uint16)
        if size >= LEAST_SEEDS
        else np.ones((draws, size), np.uint16)
        for size in sizes
    ]


def _sums(places: Sequence[np.ndarray], counts: Sequence[np.ndarray], values: np.ndarray | None = None) -> np.ndarray:
    """``(draws,)`` the sum of the cells' values in each draw, or the number of cells, as a product of small tables."""
    table = np.zeros([count.shape[1] for count in counts])
    np.add.at(table, tuple(places), 1.0 if values is None else values)
    draws = len(counts[0])
    partial = (counts[0] @ table.reshape(len(table), -1)).reshape(draws, *table.shape[1:])
    for count in counts[1:]:
        partial = np.einsum("da,da...->d...", count, partial)
    return partial


def _medians(cells: Cells, counts: Sequence[np.ndarray]) -> np.ndarray:
    """Of each draw, the median of its cells. Cells far from the middle are not looked at one by one, only counted."""
    order = np.argsort(cells.values, kind="stable")
    values, places = cells.values[order], [place[order] for place in cells.places]
    total = _sums(places, counts)
    counts, total = [count[total > 0] for count in counts], total[total > 0]
    ranks = ((total - 1) // 2, total // 2)
    reach = NEAR_MIDDLE
    while True:
        first, last = (int(len(values) * min(1, max(0, 0.5 + side))) for side in (-reach, reach))
        before, until = (_sums([place[:end] for place in places], counts) for end in (first, last))
        if reach >= 0.5 or ((before <= ranks[0]) & (ranks[1] < until)).all():
            break
        reach *= 2
    near = [place[first:last] for place in places]
    places_of_middle = _positions(near, counts, [(rank - before).astype(np.int64) for rank in ranks])
    return values[first + places_of_middle].mean(axis=0)


def _positions(places: Sequence[np.ndarray], counts: Sequence[np.ndarray], ranks: Sequence[np.ndarray]) -> np.ndarray:
    """``(ranks, draws)`` which cell has each rank, from 0, where a cell takes as many ranks as it is drawn."""
    found = []
    n_cells = len(places[0])
    step = max(1, BLOCK // n_cells)
    for start in range(0, len(counts[0]), step):
        block = slice(start, start + step)
        times = np.ones((1, 1), np.uint16)
        for place, count in zip(places, counts, strict=True):
            times = times * count[block].take(place, axis=1)
        # One sum over all draws rises from draw to draw, so that one search finds the place in each.
        counted = np.cumsum(times.reshape(-1), dtype=np.int64)
        begins = np.concatenate([[0], counted[n_cells - 1 :: n_cells][:-1]])
        offsets = n_cells * np.arange(len(begins))
        found.append([np.searchsorted(counted, begins + rank[block] + 1) - offsets for rank in ranks])
    return np.concatenate(found, axis=1)


def percentile_bounds(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def scipy_stats() -> Any:
    return library("scipy.stats", "eval")


def summary_rows(
    rows: Rows,
    by: str | Iterable[str],
    value: str,
    *,
    units: Sequence[str] = (),
    weight: str | None = None,
    share: bool = False,
) -> list[dict[str, Any]]:
    """The ``by`` columns, ``median``, ``low``, ``high`` and ``n`` of each combination, in the order they first occur.

    Args:
        units: columns that the bootstrap draws, see `crossed_interval`; none draws trials as if each was independent.

    Raises:
        InputError: no rows, a missing column, a value that is no number, or a weight or share without units.
    """
    if (weight or share) and not units:
        raise InputError(f"weight={weight!r}, share={share}: name the units, the columns that were drawn, text first")
    columns = [by] if isinstance(by, str) else list(by)
    table = []
    for key, members in grouped(records(rows, [*columns, value, *units]), columns).items():
        if units:
            interval = crossed_interval(members, value, units=units, weight=weight, share=share)
        else:
            interval = median_interval(row[value] for row in members)
        table.append({**dict(zip(columns, key, strict=True)), **vars(interval)})
    return table
