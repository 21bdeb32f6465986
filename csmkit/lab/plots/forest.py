"""Differences beside each other, each in units of what matters."""

from __future__ import annotations

from typing import Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.analysis.rows import Row, Rows, grouped, records
from csmkit.lab.plots.paper import COLOURS, GREY, PaperFigure, paper

FARTHEST = 4.0  # margins: what lies beyond is an arrow at the edge
ROW_INCHES = 0.16


def forest(rows: Rows) -> PaperFigure:
    """Paired differences with their 95 % intervals, divided by the margin of their figure, in groups.

    The grey band is the margin: what lies within does not matter. Filled points are clear after correction.

    Args:
        rows: one a difference, from the top: ``group``, ``label``, ``difference``, ``low``, ``high``, ``margin`` above
            0, and whether it is ``clear``. ``low`` and ``high`` may be None.
    """
    found = records(rows, ["group", "label", "difference", "low", "high", "margin", "clear"])
    if any(not row["margin"] or row["margin"] <= 0 for row in found):
        raise InputError("a row has no margin above 0: give the smallest difference that matters of each figure")
    groups = {name: members for (name,), members in grouped(found, ["group"]).items()}
    n_lines = len(found) + len(groups)
    with paper(0.55 + ROW_INCHES * n_lines) as figure:
        axes = figure.subplots()
        axes.axvspan(-1, 1, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.8)
        labels: list[str] = []
        for name, members in groups.items():
            labels.append(name)
            for row in members:
                _draw(axes, len(labels), row)
                labels.append(str(row["label"]))
        axes.set_yticks(range(n_lines), labels)
        for label, name in zip(axes.get_yticklabels(), labels, strict=True):
            label.set_fontweight("bold" if name in groups else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(n_lines - 0.5, -0.5)
        axes.set_xlim(-FARTHEST - 0.3, FARTHEST + 0.3)
        axes.set_xlabel("difference, in margins")
    return figure


def _draw(axes: Any, line: int, row: Row) -> None:
    at, low, high = (None if row[name] is None else row[name] / row["margin"] for name in ("difference", "low", "high"))
    if at is None:
        return
    color = COLOURS[0] if row["clear"] else GREY
    if low is not None and high is not None:
        axes.plot(np.clip((low, high), -FARTHEST, FARTHEST), [line, line], color=color, linewidth=1)
        for far, arrow, edge in ((low < -FARTHEST, "<", -FARTHEST), (high > FARTHEST, ">", FARTHEST)):
            if far:
                axes.plot(edge, line, arrow, color=color, markersize=3.5)
    inside = color if row["clear"] else "white"
    axes.plot(np.clip(at, -FARTHEST, FARTHEST), line, "o", color=color, markerfacecolor=inside, markersize=4)
