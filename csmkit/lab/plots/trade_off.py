"""A metric against what was varied, and two metrics against each other, with how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.analysis.rows import Row, Rows, grouped, is_number, pareto_front, records
from csmkit.lab.analysis.statistics import Cells, reduced, summary_rows
from csmkit.lab.plots.paper import COLOURS, GREY, MARKERS, Manner, PaperFigure, legend_above, note, paper

WIDE = 50  # a parameter over more than this ratio, such as top-k, is drawn in decades
MOST_TICKS = 8
REAL_TIME = (1.0, "real time")
LIKE_ANYWHERE = (0.5, "like anywhere else")  # of a probability that a border is worse than another place
MOST_POINTS = 200  # texts that are shown each: more are a cloud, and make files of megabytes
MOST_NAMED = 6  # points of the front that the legend names
FARTHEST = 2.0  # spans of the axes: a line to compare with that is farther away is named in words instead


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
        group: column that tells lines apart, at most six values.
        parameter_label: label of the axis, with its unit, in place of the one that follows from the column's name.
        units: columns that the bootstrap draws, the text first, such as text and seed; each text is then a faint point.
            None draws trials as if each was independent.
        weight: column that makes it a weighted mean in place of the median, with units alone.
        share: the metric is a share of trials, with an exact interval, with units alone.
        summary: what `summary_rows` makes of the rows, where that is known already; None makes it.
        line: value to compare with, and its name; None is real time for ``rtf``, 0.5 for a probability, else none. One
            that is far from the data is stated in words, so that the axis shows the data.
        decades: a logarithmic scale for the metric, which must be above 0.
    """
    by = [group] if group else []
    trials = records(rows, [parameter, metric, *by])
    if summary is None:
        summary = summary_rows(trials, [*by, parameter], metric, units=units, weight=weight, share=share)
    drawn = [row for row in summary if row["median"] is not None]
    if not drawn:
        raise InputError(f"column {metric!r} was measured in none of {len(trials)} rows: choose another metric")
    places = _places([row[parameter] for row in drawn])
    lines, known = grouped(drawn, by), grouped(trials, [*by, parameter])
    with paper(2.3) as figure:
        axes = figure.subplots()
        for index, (names, points) in enumerate(lines.items()):
            offset = _offset(places, index, len(lines))
            at = [places[row[parameter]] + offset for row in points]
            _draw(axes, at, points, Manner.of(index), str(*names or [metric]), joined=_on_scale(places))
            if units:
                for place, row in zip(at, points, strict=True):
                    of_texts = reduced(known[*names, row[parameter]], metric, units=units[:1], weight=weight)
                    _scatter(axes, place, of_texts)
        _label_places(axes, places)
        if decades:
            axes.set_yscale("log")
        if line := line or (REAL_TIME if metric == "rtf" else LIKE_ANYWHERE if metric.endswith("_auc") else None):
            _compare(axes, *line)
        counted = f"{len({row[units[0]] for row in trials})} {units[0]}s" if units else f"{len(trials)} trials"
        note(axes, counted, (1, 1), 4)
        axes.set_xlabel(parameter_label or axis_label(parameter, places))
        axes.set_ylabel(metric_label or axis_label(metric))
        legend_above(figure, axes, axis_label(group, [name for (name,) in lines]) if group else None)
    return figure


def _on_scale(values: Iterable[Any]) -> bool:
    """Whether all values are numbers; others stand side by side."""
    return all(is_number(value) for value in values)


def _places(values: Sequence[Any]) -> dict[Any, float]:
    """Where each value stands on the axis: a number, or where not all are numbers, its position among them."""
    if not _on_scale(values):
        return {value: float(place) for place, value in enumerate(dict.fromkeys(values))}
    low, high = min(values), max(values)
    wide = low > 0 and high / low > WIDE
    return {value: math.log10(value) if wide else float(value) for value in sorted(set(values))}


def _label_places(axes: Any, places: dict[Any, float]) -> None:
    """Ticks at the values, where these are few, or no plain numbers."""
    on_scale = _on_scale(places)
    if len(places) <= MOST_TICKS or list(places) != list(places.values()):
        axes.set_xticks(list(places.values()), [f"{value:g}" if on_scale else str(value) for value in places])
    if not on_scale:
        axes.set_xlim(-0.5, len(places) - 0.5)


def _offset(places: dict[Any, float], index: int, n_lines: int) -> float:
    """Side step that keeps the bars of several lines apart: a share of the smallest distance between two places."""
    step = min((right - left for left, right in pairwise(sorted(places.values()))), default=1.0)
    return (0.08 if _on_scale(places) else 0.15) * step * (index - (n_lines - 1) / 2)


def _draw(axes: Any, at: list[float], points: list[Row], manner: Manner, label: str, *, joined: bool) -> None:
    at, rows = zip(*sorted(zip(at, points, strict=True), key=itemgetter(0)), strict=True)
    bars = [[_reach(row, bound) for row in rows] for bound in ("low", "high")]
    look = {"color": manner.color, "marker": manner.marker, "markerfacecolor": "white", "capsize": 2, "elinewidth": 0.9}
    look["linestyle"] = manner.linestyle if joined else ""  # there is nothing between two names
    axes.errorbar(at, [row["median"] for row in rows], bars, label=label, **look)


def _scatter(axes: Any, place: float, texts: Cells) -> None:
    """The figure of each text as a faint point, behind: what the interval is made of."""
    if len(texts.values) > 1:
        shown = texts.values[:MOST_POINTS]
        axes.plot([place] * len(shown), shown, ".", color=GREY, alpha=0.3, markersize=2.5, zorder=1)


def _reach(row: Row, bound: str) -> float:
    """How far the interval goes from the median; nothing where a single trial gives none."""
    return 0.0 if row[bound] is None else abs(row[bound] - row["median"])


def _compare(axes: Any, value: float, name: str) -> None:
    """A named line across, which the scale reaches; where that would flatten the data, its name and value alone."""
    low, high = axes.get_ylim()
    if low - FARTHEST * (high - low) <= value <= high + FARTHEST * (high - low):
        axes.axhline(value, color=GREY, linewidth=0.8, zorder=0)
        note(axes, name, (1, value), xycoords=("axes fraction", "data"))
    elif value > high:
        note(axes, f"{name}: {value:g}, above this axis", (1, 1), -7)
    else:
        note(axes, f"{name}: {value:g}, below this axis", (1, 0))


def pareto(rows: Iterable[Row], aims: Mapping[str, str], label: str | None = None) -> PaperFigure:
    """Each setting as a point, with its intervals where they are known, and the front as a line of steps.

    Args:
        rows: one a setting, with the two aims, and ``<aim>_low`` and ``<aim>_high`` for a bar.
        aims: two columns, the first along the axis below, each to "lower" or "higher".
        label: column that names a setting: the legend names the points of the front, at most six; None names none.
    """
    if len(aims) != 2:
        raise InputError(f"{len(aims)} aims: give two, such as {{'ttfa_ms': 'lower', 'wer': 'lower'}}")
    across, up = aims
    found = [row for row in records(rows, [across, up]) if row[across] is not None and row[up] is not None]
    if not found:
        raise InputError(f"no row has both {across!r} and {up!r}: choose other aims")
    front = pareto_front(found, aims)
    with paper(2.6) as figure:
        axes = figure.subplots()
        for row in [*front, *(row for row in found if row not in front)]:
            look = _look_of(front.index(row) if row in front else None, str(row[label]) if label else None)
            _draw_setting(axes, row, across, up, look)
        where = "post" if aims[across] == "lower" else "pre"
        axes.step([row[across] for row in front], [row[up] for row in front], where=where, color=COLOURS[0], zorder=1)
        axes.set_xlabel(axis_label(across))
        axes.set_ylabel(axis_label(up))
        axes.margins(0.12)
        legend_above(figure, axes, columns=1, least=1)
    return figure


def _look_of(place: int | None, label: str | None) -> dict[str, Any]:
    """How a point is drawn: hollow and grey, or filled where it has a place on the front, and in the legend by name."""
    if place is None:
        return {"color": GREY, "marker": "o", "markerfacecolor": "white"}
    if label is None or place >= MOST_NAMED:
        return {"color": COLOURS[0], "marker": "o"}
    return {"color": COLOURS[place], "marker": MARKERS[place], "label": label}


def _draw_setting(axes: Any, row: Row, across: str, up: str, look: Mapping[str, Any]) -> None:
    bars: dict[str, Sequence[Sequence[float]]] = {}
    for name, key in ((across, "xerr"), (up, "yerr")):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if low is not None and high is not None:
            bars[key] = [[max(0.0, row[name] - low)], [max(0.0, high - row[name])]]
    axes.errorbar(row[across], row[up], linestyle="", elinewidth=0.6, **look, **bars)
