"""How sure a figure is: the one place where intervals are made.

Trials of the same text, or of the same seed, are not independent. Where rows name what was drawn, such as ``text`` and
``seed``, the bootstrap draws those with replacement and takes the trials at their crossings (Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 2007), so that intervals hold for other texts and seeds, not for more runs of
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.rows import measured, records

if TYPE_CHECKING:
    from csmkit.lab.rows import Rows

RESAMPLES = 2_000
LEVEL = 0.95
UNITS = ("text", "seed")  # what a sweep draws, and what its intervals are to hold for
LEAST_UNITS, LEAST_TRIALS = 3, 9  # of each kind, and in all: less says nothing about other texts and seeds


@dataclass(frozen=True)
class Interval:
    """A median and where it may lie.

    Attributes:
        median: of the values; None without any.
        low: lower bound; None for less than two values, which say nothing about how far they vary.
        high: upper bound; None likewise.
        n: values that were measured.
    """

    median: float | None
    low: float | None
    high: float | None
    n: int


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
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The figure of a column with its 95 % interval over the units, see the module's docstring.

    Args:
        rows: one a trial; those where the value is None or NaN are left out.
        value: column.
        units: columns that name what was drawn. Rows that share all of them, such as repeats, are drawn together.
        weight: column that makes the figure a weighted mean, such as words for an error rate; None is the median.
        resamples: how often the units are drawn.
        seed: of the drawing.

    Returns:
        The interval, whose ``median`` is that mean where there is a weight. Without bounds if any unit has less than
        three values, or all trials are fewer than nine: one text or one seed tells nothing about others.
    """
    kept, values, weights = _measured_rows(rows, value, weight)
    if not kept:
        return Interval(None, None, None, 0)
    figure = _figures(values, np.ones((1, len(values)), int), weights)[0]
    places = [np.unique([str(row[unit]) for row in kept], return_inverse=True)[1] for unit in units]
    if len(kept) < LEAST_TRIALS or any(place.max() + 1 < LEAST_UNITS for place in places):
        return Interval(float(figure), None, None, len(kept))
    random = np.random.default_rng(seed)
    times = np.ones((resamples, len(values)), int)
    for place in places:
        n_units = place.max() + 1
        times *= random.multinomial(n_units, np.full(n_units, 1 / n_units), resamples)[:, place]
    drawn = _figures(values, times[times.any(axis=1)], weights)
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(figure), float(low), float(high), len(kept))


def central(rows: Iterable[Mapping[str, Any]], value: str, *, weight: str | None = None) -> float | None:
    """The figure of `crossed_interval` alone: the median, or the mean by a weight; None where nothing was measured."""
    kept, values, weights = _measured_rows(rows, value, weight)
    return float(_figures(values, np.ones((1, len(values)), int), weights)[0]) if kept else None


def _measured_rows(
    rows: Iterable[Mapping[str, Any]], value: str, weight: str | None
) -> tuple[list[Mapping[str, Any]], np.ndarray, np.ndarray | None]:
    """The rows with a value, their values, and their weights."""
    kept = [row for row in rows if measured(row[value]) is not None]
    values = np.array([float(row[value]) for row in kept])
    return kept, values, None if weight is None else np.array([float(row[weight]) for row in kept])


def _figures(values: np.ndarray, times: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Of each draw, the median of ``(trials,)`` values that count ``(draws, trials)`` times, or their weighted mean."""
    if weights is not None:
        total = times @ weights
        return np.divide(times @ (weights * values), total, out=np.zeros(len(times)), where=total > 0)
    order = np.argsort(values)
    counted = np.cumsum(times[:, order], axis=1)
    n_values = counted[:, -1:]
    middle = [(counted > place).argmax(axis=1) for place in ((n_values - 1) // 2, n_values // 2)]
    return values[order][middle].mean(axis=0)


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
            cells.setdefault(tuple(_hashable(row[unit]) for unit in units), []).append(row)
    return {key: (float(np.median([row[value] for row in cell])), cell[0]) for key, cell in cells.items()}


def summary_rows(
    rows: Rows,
    by: str | Iterable[str],
    value: str,
    *,
    units: Sequence[str] = (),
    weight: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each combination of ``by`` that occurs, in the order they first occur.

    Args:
        rows: one a trial.
        by: column or columns to group on.
        value: column to summarise.
        units: columns that the bootstrap draws, see `crossed_interval`; none draws trials as if each was independent.
        weight: column that makes the figure a weighted mean, with units alone.
        seed: of the bootstrap.

    Returns:
        Rows of the ``by`` columns, ``median``, ``low``, ``high`` and ``n``.

    Raises:
        InputError: no rows, a missing column, or a value that is no number.
    """
    columns = [by] if isinstance(by, str) else list(by)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in records(rows, [*columns, value, *units]):
        groups.setdefault(tuple(_hashable(row[column]) for column in columns), []).append(row)
    table = []
    for key, members in groups.items():
        if units:
            interval = crossed_interval(members, value, units=units, weight=weight, seed=seed)
        else:
            interval = median_interval([row[value] for row in members], seed=seed)
        table.append({**dict(zip(columns, key, strict=True)), **vars(interval)})
    return table


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a chunk schedule read from JSON
