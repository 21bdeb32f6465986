"""A metric against what was varied, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.analysis.rows import is_number, records
from csmkit.lab.analysis.statistics import hashable, summary_rows, text_figures
from csmkit.lab.plots.paper import GREY, Manner, legend_above, paper

if TYPE_CHECKING:
    from csmkit.lab.analysis.rows import Row, Rows
    from csmkit.lab.plots.paper import PaperFigure

WIDE = 50  # a parameter over more than this ratio, such as top-k, is drawn in decades
MOST_TICKS = 8
REAL_TIME = (1.0, "real time")
LIKE_ANYWHERE = (0.5, "like anywhere else")  # of a probability that a border is worse than another place
MOST_POINTS = 200  # texts that are shown each: more are a cloud, and make files of megabytes
FARTHEST = 2.0  # a line to compare with is drawn on the axes up to so many times their span away, else it is told


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
    share: bool = False,
    summary: Sequence[Row] | None = None,
    line: tuple[float, str] | None = None,
    decades: bool = False,
) -> PaperFigure:
    """The median of a metric over the trials at each value of a parameter, with its 95 % bootstrap interval as a bar.

    Args:
        rows: one a trial; a metric that is None or NaN was not measured.
        parameter: column that was varied: numbers on a true scale, or a logarithmic one where the largest is more than
            50 times the least; anything else as names in their order.
        metric: column that was measured.
        group: column that tells lines apart, at most six values.
        parameter_label: with its unit, in place of the one that follows from the column's name.
        metric_label: likewise.
        units: columns that the bootstrap draws, the text first, such as text and seed; each text is then a faint point.
            None draws trials as if each was independent.
        weight: column that makes it a weighted mean in place of the median, with units alone.
        share: the metric is a share of trials, with an exact interval, with units alone.
        summary: what `summary_rows` makes of the rows, where that is known already; None makes it.
        line: value to compare with, and its name; None is real time for ``rtf``, 0.5 for a probability, else none. One
            that is far from the data is told in words, so that the axis shows the data.
        decades: a logarithmic scale for the metric, which must be above 0.

    Raises:
        InputError: no rows, missing columns, nothing measured, or too many groups.
    """
    trials = records(rows, [parameter, metric, *([group] if group else [])])
    by = [*([group] if group else []), parameter]
    if summary is None:
        summary = summary_rows(trials, by, metric, units=units, weight=weight, share=share)
    drawn = [row for row in summary if row["median"] is not None]
    if not drawn:
        raise InputError(f"column {metric!r} was measured in none of {len(trials)} rows: choose another metric")
    places = _places([row[parameter] for row in drawn])
    scaled = all(is_number(row[parameter]) for row in drawn)
    lines: dict[Any, list[Row]] = {}
    for row in drawn:
        lines.setdefault(row[group] if group else metric, []).append(row)
    columns = (parameter, metric, units[0] if units else "", weight)
    with paper(2.3) as figure:
        axes = figure.subplots()
        offsets = _offsets(sorted(places.values()), len(lines), 0.08 if scaled else 0.15)
        for index, (name, points) in enumerate(lines.items()):
            at = [places[row[parameter] if scaled else str(row[parameter])] + offsets[index] for row in points]
            _draw(axes, at, points, Manner.of(index), str(name), joined=scaled)
            if units:
                _scatter(
                    axes, at, points, [row for row in trials if not group or hashable(row[group]) == name], columns
                )
        if len(places) <= MOST_TICKS or list(places) != list(places.values()):
            axes.set_xticks(list(places.values()), [f"{value:g}" if scaled else value for value in places])
        if not scaled:
            axes.set_xlim(-0.5, len(places) - 0.5)
        if decades:
            axes.set_yscale("log")
        _compare(axes, line or _line_of(metric))
        _count(axes, trials, units)
        axes.set_xlabel(parameter_label or axis_label(parameter, [row[parameter] for row in drawn]))
        axes.set_ylabel(metric_label or axis_label(metric))
        legend_above(figure, axes, axis_label(group, lines) if group else None)
    return figure


def _places(values: Sequence[Any]) -> dict[Any, float]:
    """Where each value stands on the axis: a number, or where not all are numbers what is written."""
    if not all(is_number(value) for value in values):
        return {name: float(place) for place, name in enumerate(dict.fromkeys(map(str, values)))}
    low, high = min(values), max(values)
    wide = low > 0 and high / low > WIDE
    return {value: math.log10(value) if wide else float(value) for value in sorted(set(values))}


def _offsets(places: Sequence[float], n_lines: int, share: float) -> list[float]:
    """Side steps that keep the bars of several lines apart: a share of the nearest distance."""
    step = share * min((right - left for left, right in pairwise(places)), default=1.0)
    return [step * (index - (n_lines - 1) / 2) for index in range(n_lines)]


def _draw(axes: Any, at: list[float], points: list[Row], manner: Manner, label: str, *, joined: bool) -> None:
    order = sorted(range(len(at)), key=at.__getitem__)
    rows = [points[index] for index in order]
    below, above = ([_reach(row, bound) for row in rows] for bound in ("low", "high"))
    axes.errorbar(
        [at[index] for index in order],
        [row["median"] for row in rows],
        yerr=(below, above),
        label=label,
        color=manner.color,
        linestyle=manner.linestyle if joined else "",  # there is nothing between two names
        marker=manner.marker,
        markerfacecolor="white",
        capsize=2,
        elinewidth=0.9,
    )


def _scatter(
    axes: Any, at: list[float], points: list[Row], trials: list[Row], columns: tuple[str, str, str, str | None]
) -> None:
    """The figure of each text as a faint point, behind: what the interval is made of."""
    parameter, metric, unit, weight = columns
    groups: dict[Any, list[Row]] = {}
    for row in trials:
        groups.setdefault(hashable(row[parameter]), []).append(row)
    for place, point in zip(at, points, strict=True):
        texts = text_figures(groups[point[parameter]], metric, unit, weight)[:MOST_POINTS]
        if len(texts) > 1:
            axes.plot([place] * len(texts), texts, ".", color=GREY, alpha=0.3, markersize=2.5, zorder=1)


def _count(axes: Any, trials: list[Row], units: Sequence[str]) -> None:
    """How many texts or trials the figure rests on, in its lower corner."""
    n = len({row[units[0]] for row in trials}) if units else len(trials)
    name = f"{units[0]}s" if units else "trials"
    place = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(f"{n} {name}", (0, 0), xytext=(3, 2), color=GREY, fontsize=6.5, **place)


def _reach(row: Row, bound: str) -> float:
    """How far the interval goes from the median; nothing where a single trial gives none."""
    return 0.0 if row[bound] is None else abs(row[bound] - row["median"])


def _line_of(metric: str) -> tuple[float, str] | None:
    """The value that a metric is compared with unless told otherwise."""
    return REAL_TIME if metric == "rtf" else LIKE_ANYWHERE if metric.endswith("_auc") else None


def _compare(axes: Any, line: tuple[float, str] | None) -> None:
    """A named line across, which the scale reaches; where that would flatten the data, its name and value alone."""
    if line is None:
        return
    value, name = line
    low, high = axes.get_ylim()
    if not low - FARTHEST * (high - low) <= value <= high + FARTHEST * (high - low):
        place, above = ((1, 1), -7) if value > high else ((1, 0), 2)
        axes.annotate(
            f"{name}: {value:g}, {'above' if value > high else 'below'} this axis",
            place,
            xytext=(0, above),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=GREY,
            fontsize=6.5,
        )
        return
    axes.axhline(value, color=GREY, linewidth=0.8, zorder=0)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate(name, (1, value), xytext=(0, 2), color=GREY, fontsize=6.5, **place)
