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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.errors import InputError, MissingDependencyError
from csmkit.lab.analysis.rows import measured, records

if TYPE_CHECKING:
    from csmkit.lab.analysis.rows import Rows

RESAMPLES = 2_000
LEVEL = 0.95
UNITS = ("text", "seed")  # what a sweep draws, and what its intervals are to hold for
LEAST_TEXTS, LEAST_SEEDS = 12, 3
MANY_CELLS = 2_000
BLOCK = 2_000_000  # counts of resampled cells in memory at once, 4 MB each array


@dataclass(frozen=True)
class Interval:
    """A median, mean or share and where it may lie.

    Attributes:
        median: of the values, or their mean or share; None without any.
        low: lower bound of 95 %; None where the values cannot say how far they vary.
        high: upper bound; None likewise.
        n: number of values that were measured.
    """

    median: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Cells:
    """Rows reduced to one value for each combination of units.

    Attributes:
        values: ``(cells,)``, the median of a cell's rows, or their mean by weight.
        weights: ``(cells,)``, the sum of the weights; None where the figure is a median.
        places: of each unit, the index ``(cells,)`` of its value.
        n_rows: number of rows that were measured.
    """

    values: np.ndarray
    weights: np.ndarray | None
    places: tuple[np.ndarray, ...]
    n_rows: int

    @property
    def n_texts(self) -> int:
        """Number of values of the first unit, which is the text where rows name it."""
        return int(self.places[0].max()) + 1 if self.places and len(self.values) else 0

    def figure(self) -> float:
        """The median, or the mean by weight."""
        if self.weights is None:
            return float(np.median(self.values))
        total = float(self.weights.sum())
        return float((self.weights * self.values).sum() / total) if total else 0.0

    def of_texts(self) -> np.ndarray:
        """``(texts,)`` the mean of each text's cells."""
        return np.bincount(self.places[0], self.values) / np.bincount(self.places[0])


def median_interval(
    values: Iterable[float | None], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The median with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one an independent trial, such as a seed; None and NaN were not measured and are left out.
        level: share of intervals that hold the true median, in (0, 1).
        resamples: how often as many values are drawn with replacement.
        seed: of the drawing; the same gives the same interval.

    Raises:
        InputError: a level or number of resamples out of range, or an infinite value.
    """
    if not 0 < level < 1:
        raise InputError(f"level={level!r}: give a share between 0 and 1, such as 0.95")
    if resamples < 1:
        raise InputError(f"resamples={resamples!r}: give a whole number of at least 1, such as 2000")
    numbers = np.array([number for number in map(measured, values) if number is not None])
    if not np.isfinite(numbers).all():
        raise InputError("values hold infinity: leave such trials out, or use a metric with a bound")
    if len(numbers) < 2:
        return Interval(float(numbers[0]) if len(numbers) else None, None, None, len(numbers))
    drawn = np.random.default_rng(seed).choice(numbers, (resamples, len(numbers)))
    outside = 50 * (1 - level)
    low, high = np.percentile(np.median(drawn, axis=1), [outside, 100 - outside])
    return Interval(float(np.median(numbers)), float(low), float(high), len(numbers))


def crossed_interval(
    rows: Sequence[Mapping[str, Any]],
    value: str,
    *,
    units: Sequence[str] = UNITS,
    weight: str | None = None,
    share: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The figure of a column with its 95 % interval over the units, see the module's docstring.

    Args:
        rows: one a trial; those where the value is None or NaN are left out.
        value: column.
        units: columns that name what was drawn, the text first. Rows that share all of them are one value.
        weight: column that makes the figure a weighted mean, such as words for an error rate; None is the median.
        share: the value is in [0, 1] and the figure is its mean over texts, with an exact interval.
        resamples: how often the units are drawn.
        seed: of the drawing.

    Returns:
        The interval, whose ``median`` is that mean where there is a weight or a share. Without bounds below 12 texts.
        A mean whose values are all 0 or all 1 has the exact bounds of a share, as its bootstrap would have no width.
    """
    cells = reduced(rows, value, units=units, weight=weight, mean=share)
    if not len(cells.values):
        return Interval(None, None, None, 0)
    if share:
        figure = float(cells.of_texts().mean())
        low, high = share_bounds(figure, cells.n_texts) if cells.n_texts >= LEAST_TEXTS else (None, None)
        return Interval(figure, low, high, cells.n_rows)
    figure = cells.figure()
    drawn = drawn_figures(cells, resamples, seed)
    if drawn is None:
        return Interval(figure, None, None, cells.n_rows)
    if weight is not None and figure in (0, 1) and np.ptp(cells.values) == 0:
        low, high = share_bounds(figure, cells.n_texts)
        return Interval(figure, low, high, cells.n_rows)
    low, high = percentile_bounds(drawn, LEVEL)
    return Interval(figure, low, high, cells.n_rows)


def central(
    rows: Iterable[Mapping[str, Any]], value: str, *, weight: str | None = None, share: bool = False
) -> float | None:
    """The figure of `crossed_interval` alone; None where nothing was measured."""
    cells = reduced(rows, value, weight=weight, mean=share)
    if not len(cells.values):
        return None
    return float(cells.of_texts().mean()) if share else cells.figure()


def share_bounds(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact bounds of a share (Clopper and Pearson 1934).

    Args:
        share: that was observed, in [0, 1]; ``share * n`` need not be whole.
        n: number of independent observations.
        level: of the interval.
    """
    beta, outside, k = scipy_stats().beta, (1 - level) / 2, share * n
    low = float(beta.ppf(outside, k, n - k + 1)) if k > 0 else 0.0
    high = float(beta.ppf(1 - outside, k + 1, n - k)) if k < n else 1.0
    return low, high


def most_unseen(n: int) -> float:
    """The largest share that something may have that happened in none of ``n`` texts, one-sided at 95 %."""
    return 1 - (1 - LEVEL) ** (1 / n)


def text_figures(rows: Iterable[Mapping[str, Any]], value: str, unit: str, weight: str | None = None) -> np.ndarray:
    """``(texts,)`` the figure of each text alone: the median of its rows, or their mean by weight."""
    return reduced(rows, value, units=(unit,), weight=weight).values


def reduced(
    rows: Iterable[Mapping[str, Any]],
    value: str,
    *,
    units: Sequence[str] = UNITS,
    weight: str | None = None,
    mean: bool = False,
) -> Cells:
    """Rows as `Cells`: one value for each combination of units, so that what follows is no larger than texts × seeds.

    Args:
        rows: one a trial; those where the value is None or NaN are left out.
        value: column.
        units: columns; none makes each row a cell.
        weight: column of the weights of a mean; None takes the median of a cell's rows.
        mean: take the mean of a cell's rows, without weights.
    """
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    n_rows = 0
    for index, row in enumerate(rows):
        number = measured(row[value])
        if number is None:
            continue
        n_rows += 1
        key = tuple(row[unit] for unit in units) if units else (index,)
        found.setdefault(key, []).append((number, 1.0 if weight is None else float(row[weight])))
    values = np.empty(len(found))
    weights = np.ones(len(found))
    for index, members in enumerate(found.values()):
        if len(members) == 1:
            values[index], weights[index] = members[0]
        elif weight is None and not mean:
            values[index] = np.median([number for number, _ in members])
        else:
            weights[index] = sum(heaviness for _, heaviness in members)
            total = sum(number * heaviness for number, heaviness in members)
            values[index] = total / weights[index] if weights[index] else 0.0
    places = tuple(_indices([key[place] for key in found]) for place in range(len(units)))
    return Cells(values, None if weight is None else weights, places, n_rows)


def _indices(names: Iterable[Any]) -> np.ndarray:
    known: dict[Any, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def drawn_figures(cells: Cells, resamples: int, seed: int) -> np.ndarray | None:
    """``(resamples,)`` the figure of each draw; None where there are too few texts to draw from.

    Of more than 2000 cells half as many draws are taken: their interval is narrow, and its ends no less sure.
    """
    if not cells.places or cells.n_texts < LEAST_TEXTS:
        return None
    order = np.argsort(cells.values, kind="stable")
    weights = None if cells.weights is None else cells.weights[order]
    by_value = Cells(cells.values[order], weights, tuple(place[order] for place in cells.places), cells.n_rows)
    draws = resamples if len(order) <= MANY_CELLS else max(1, resamples // 2)
    return np.concatenate([_figures(by_value, times) for times in _times(by_value.places, draws, seed)])


def _times(places: Sequence[np.ndarray], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each cell counts in each draw, ``(draws, cells)`` uint16, in blocks that bound the memory."""
    random = np.random.default_rng(seed)
    counts = []
    for place in places:
        n_values = int(place.max()) + 1
        if n_values >= LEAST_SEEDS:
            drawn = random.multinomial(n_values, np.full(n_values, 1 / n_values), resamples)
            counts.append((place, drawn.astype(np.uint16)))
    step = max(1, BLOCK // len(places[0]))
    for start in range(0, resamples, step):
        times = np.ones((1, 1), np.uint16)
        for place, drawn in counts:
            times = times * drawn[start : start + step].take(place, axis=1)
        if len(counts) > 1:  # where some text has not each seed, a draw may meet no trial at all
            times = times[times.any(axis=1)]
        yield times


def _figures(cells: Cells, times: np.ndarray) -> np.ndarray:
    """Of each draw, the median of the cells that count ``(draws, cells)`` times, or their mean by weight.

    Args:
        cells: in the order of their values.
        times: how often each counts; at least one in each draw.
    """
    if cells.weights is not None:
        total = times @ cells.weights
        summed = times @ (cells.weights * cells.values)
        return np.divide(summed, total, out=np.zeros(len(times)), where=total > 0)
    # One sum over all draws rises from draw to draw, so that one search finds the middle of each.
    n_draws, n_cells = times.shape
    counted = np.cumsum(times.reshape(-1), dtype=np.int64)
    ends = counted[n_cells - 1 :: n_cells]
    before = np.concatenate([[0], ends[:-1]])
    n_values = ends - before
    middle = [np.searchsorted(counted, before + place + 1) for place in ((n_values - 1) // 2, n_values // 2)]
    return cells.values[np.array(middle) - n_cells * np.arange(n_draws)].mean(axis=0)


def percentile_bounds(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def scipy_stats() -> Any:
    try:
        import scipy.stats
    except ImportError as error:
        raise MissingDependencyError.for_extra("scipy", "eval") from error
    return scipy.stats


def summary_rows(
    rows: Rows,
    by: str | Iterable[str],
    value: str,
    *,
    units: Sequence[str] = (),
    weight: str | None = None,
    share: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each combination of ``by`` that occurs, in the order they first occur.

    Args:
        rows: one a trial.
        by: column or columns to group on.
        value: column to summarise.
        units: columns that the bootstrap draws, see `crossed_interval`; none draws trials as if each was independent.
        weight: column that makes the figure a weighted mean, with units alone.
        share: the figure is a share, with units alone.
        seed: of the bootstrap.

    Returns:
        Rows of the ``by`` columns, ``median``, ``low``, ``high`` and ``n``.

    Raises:
        InputError: no rows, a missing column, or a value that is no number.
    """
    columns = [by] if isinstance(by, str) else list(by)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in records(rows, [*columns, value, *units]):
        groups.setdefault(tuple(hashable(row[column]) for column in columns), []).append(row)
    table = []
    for key, members in groups.items():
        if units:
            interval = crossed_interval(members, value, units=units, weight=weight, share=share, seed=seed)
        else:
            interval = median_interval([row[value] for row in members], seed=seed)
        table.append({**dict(zip(columns, key, strict=True)), **vars(interval)})
    return table


def hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a chunk schedule read from JSON
