"""How sure a median is: the one place where intervals are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.rows import measured, records

if TYPE_CHECKING:
    from csmkit.lab.rows import Rows

RESAMPLES = 2_000
LEVEL = 0.95


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


def summary_rows(rows: Rows, by: str | Iterable[str], value: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """One row for each combination of ``by`` that occurs, in the order they first occur.

    Args:
        rows: one a trial.
        by: column or columns to group on.
        value: column to summarise.
        seed: of the bootstrap.

    Returns:
        Rows of the ``by`` columns, ``median``, ``low``, ``high`` and ``n``.

    Raises:
        InputError: no rows, a missing column, or a value that is no number.
    """
    columns = [by] if isinstance(by, str) else list(by)
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in records(rows, [*columns, value]):
        groups.setdefault(tuple(_hashable(row[column]) for column in columns), []).append(row[value])
    return [
        {**dict(zip(columns, key, strict=True)), **vars(median_interval(values, seed=seed))}
        for key, values in groups.items()
    ]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a chunk schedule read from JSON
