"""A metric against what was varied, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.plots.labels import axis_label
from csmkit.lab.plots.paper import Manner, legend_above, paper
from csmkit.lab.rows import is_number, records
from csmkit.lab.statistics import summary_rows

if TYPE_CHECKING:
    from csmkit.lab.plots.paper import PaperFigure
    from csmkit.lab.rows import Row, Rows


def trade_off(
    rows: Rows,
    parameter: str,
    metric: str,
    group: str | None = None,
    *,
    parameter_label: str | None = None,
    metric_label: str | None = None,
    units: Sequence[str] = (),
    weight: str | None = None,
) -> PaperFigure:
    """The median of a metric over the trials at each value of a parameter, with its 95 % bootstrap interval as a bar.

    Args:
        rows: one a trial; a metric that is None or NaN was not measured.
        parameter: column that was varied: numbers on a true scale, anything else as names in their order.
        metric: column that was measured.
        group: column that tells lines apart, at most six values.
        parameter_label: with its unit, in place of the one that follows from the column's name.
        metric_label: likewise.
        units: columns that the bootstrap draws, such as text and seed; none draws trials as if each was independent.
        weight: column that makes it a weighted mean in place of the median, with units alone.

    Raises:
        InputError: no rows, missing columns, nothing measured, or too many groups.
    """
    trials = records(rows, [parameter, metric, *([group] if group else [])])
    summary = summary_rows(trials, [*([group] if group else []), parameter], metric, units=units, weight=weight)
    drawn = [row for row in summary if row["median"] is not None]
    if not drawn:
        raise InputError(f"column {metric!r} was measured in none of {len(trials)} rows: choose another metric")
    names = None if all(is_number(row[parameter]) for row in drawn) else _names(row[parameter] for row in drawn)
    lines: dict[Any, list[Row]] = {}
    for row in drawn:
        lines.setdefault(row[group] if group else metric, []).append(row)
    with paper(2.3) as figure:
        axes = figure.subplots()
        offsets = _offsets(drawn, parameter, names, len(lines))
        for index, (name, points) in enumerate(lines.items()):
            _draw(axes, points, parameter, names, offsets[index], Manner.of(index), str(name))
        if names is not None:
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel(parameter_label or axis_label(parameter, names or ()))
        axes.set_ylabel(metric_label or axis_label(metric))
        legend_above(figure, axes, axis_label(group, lines) if group else None)
    return figure


def _names(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


def _offsets(drawn: list[dict[str, Any]], parameter: str, names: list[str] | None, n_lines: int) -> list[float]:
    """Side steps that keep the bars of several lines apart: a share of the nearest distance."""
    places = range(len(names)) if names is not None else sorted({float(row[parameter]) for row in drawn})
    nearest = min((right - left for left, right in pairwise(places)), default=1.0)
    step = (0.08 if names is None else 0.15) * nearest
    return [step * (index - (n_lines - 1) / 2) for index in range(n_lines)]


def _draw(
    axes: Any,
    points: list[Row],
    parameter: str,
    names: list[str] | None,
    offset: float,
    manner: Manner,
    label: str,
) -> None:
    placed = [(names.index(str(row[parameter])) if names is not None else float(row[parameter]), row) for row in points]
    placed.sort(key=lambda pair: pair[0])
    at = [place + offset for place, _ in placed]
    medians = [row["median"] for _, row in placed]
    below, above = ([_reach(row, bound) for _, row in placed] for bound in ("low", "high"))
    axes.errorbar(
        at,
        medians,
        yerr=(below, above),
        label=label,
        color=manner.color,
        linestyle=manner.linestyle if names is None else "",  # there is nothing between two names
        marker=manner.marker,
        markerfacecolor="white",
        capsize=2,
        elinewidth=0.9,
    )


def _reach(row: Row, bound: str) -> float:
    """How far the interval goes from the median; nothing where a single trial gives none."""
    return 0.0 if row[bound] is None else abs(row[bound] - row["median"])
