"""The figures of a sweep: each headline over each axis."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csmkit.lab import plots
from csmkit.lab.report.findings import Findings
from csmkit.lab.report.headlines import Headline
from csmkit.lab.report.pairs import shown
from csmkit.lab.rows import is_number
from csmkit.lab.statistics import UNITS
from csmkit.lab.sweep.runner import FIGURES

MOST_GROUPS = 6
LABEL_LETTERS = 34  # as many as the height of a figure holds
NUMBERED = ("speaker",)  # numbers that are names: nothing lies between them


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn.

    Attributes:
        path: of its PNG; the PDF is beside it.
        caption: what it shows, and where the settings are that it does not.
    """

    path: Path
    caption: str


def draw_figures(findings: Findings, folder: Path) -> list[Picture]:
    """Write a PDF and a PNG of each headline over each axis, with the next axis as lines.

    Other axes are held at their baseline: a median over both sides of a large difference would be a figure of neither.

    Args:
        findings: of the sweep.
        folder: of the results.

    Returns:
        The figures. Those of a former report are gone.
    """
    for old in (folder / FIGURES).glob("*"):
        old.unlink()
    drawn = [
        _drawn(findings, axis, item, folder / FIGURES / f"{item.column}_by_{axis}")
        for axis in findings.axes
        for item in findings.headlines
    ]
    return [picture for picture in drawn if picture is not None]


def _drawn(findings: Findings, axis: str, item: Headline, path: Path) -> Picture | None:
    names = list(findings.axes)
    group = next(iter([*names[names.index(axis) + 1 :], *names[: names.index(axis)]]), None)
    if group is not None and len(findings.axes[group]) > MOST_GROUPS:
        group = None
    held = {name: value for name, value in findings.baseline.items() if name not in (axis, group)}
    rows = [row for row in findings.rows if all(row[name] == value for name, value in held.items())]
    if len({row.get(item.column) for row in rows} - {None}) < 2:  # nothing to see where all trials agree
        return None
    places = "".join(f", {name} {shown(value)}" for name, value in held.items())
    figure = _figure(rows, axis, group, item)
    return Picture(plots.save(figure, path)[1], path.name.replace("_", " ") + places)


def _figure(rows: list[dict[str, Any]], axis: str, group: str | None, item: Headline) -> plots.PaperFigure:
    numbers = axis not in NUMBERED and all(is_number(row[axis]) for row in rows)
    rows = [
        row | ({} if numbers else {axis: shown(row[axis])}) | ({group: shown(row[group])} if group else {})
        for row in rows
        if row.get(item.column) is not None
    ]
    label = item.label if item.weight is None else f"{item.label}, {item.statistic}"
    label = textwrap.fill(label, LABEL_LETTERS)
    return plots.trade_off(rows, axis, item.column, group, metric_label=label, units=UNITS, weight=item.weight)
