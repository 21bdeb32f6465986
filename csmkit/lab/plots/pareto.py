"""Two aims against each other, and the settings that no other one beats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.analysis.columns import axis_label
from csmkit.lab.analysis.rows import pareto_front, records
from csmkit.lab.plots.paper import COLOURS, GREY, MARKERS, legend_above, paper

if TYPE_CHECKING:
    from csmkit.lab.plots.paper import PaperFigure

MOST_NAMED = 6  # points of the front that the legend names


def pareto(rows: Iterable[Mapping[str, Any]], aims: Mapping[str, str], label: str | None = None) -> PaperFigure:
    """Each setting as a point, with its intervals where they are known, and the front as a line of steps.

    Args:
        rows: one a setting, with the two aims, and ``<aim>_low`` and ``<aim>_high`` for a bar.
        aims: two columns, the first along the axis below, each to "lower" or "higher".
        label: column that names a setting: the legend names the points of the front, at most six; None names none.

    Raises:
        InputError: not two aims, no rows, a missing column, or no row with both aims.
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
        for row in found:
            look = _look(front.index(row) if row in front else None, str(row[label]) if label else None)
            _draw(axes, row, across, up, look)
        where = "post" if aims[across] == "lower" else "pre"
        axes.step([row[across] for row in front], [row[up] for row in front], where=where, color=COLOURS[0], zorder=1)
        axes.set_xlabel(axis_label(across))
        axes.set_ylabel(axis_label(up))
        axes.margins(0.12)
        legend_above(figure, axes, columns=1, least=1)
    return figure


def _look(place: int | None, label: str | None) -> dict[str, Any]:
    """How a point is drawn: hollow and grey, or filled where it has a place on the front, and in the legend by name."""
    if place is None:
        return {"color": GREY, "marker": "o", "markerfacecolor": "white"}
    if label is None or place >= MOST_NAMED:
        return {"color": COLOURS[0], "marker": "o"}
    return {"color": COLOURS[place], "marker": MARKERS[place], "label": label}


def _draw(axes: Any, row: Mapping[str, Any], across: str, up: str, look: Mapping[str, Any]) -> None:
    bars: dict[str, Sequence[Sequence[float]]] = {}
    for name, key in ((across, "xerr"), (up, "yerr")):
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if low is not None and high is not None:
            bars[key] = [[max(0.0, row[name] - low)], [max(0.0, high - row[name])]]
    axes.errorbar(row[across], row[up], linestyle="", elinewidth=0.6, **look, **bars)
