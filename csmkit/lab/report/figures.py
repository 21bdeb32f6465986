"""The figures of a sweep: each headline over each axis."""

from __future__ import annotations

import textwrap
from pathlib import Path

from csmkit.errors import InputError
from csmkit.lab import plots
from csmkit.lab.report.findings import Findings, shown
from csmkit.lab.rows import is_number
from csmkit.lab.statistics import UNITS
from csmkit.lab.sweep.axes import AXES
from csmkit.lab.sweep.runner import FIGURES

MOST_GROUPS = 6
LABEL_LETTERS = 34  # as many as the height of a figure holds


def draw_figures(findings: Findings, folder: Path) -> list[Path]:
    """Write a PDF and a PNG of each headline over each axis, with the next axis as lines.

    Args:
        findings: of the sweep.
        folder: of the results.

    Returns:
        The PNGs. Figures of a former report are gone.
    """
    for old in (folder / FIGURES).glob("*"):
        old.unlink()
    return [
        plots.save(draw_figure(findings, axis, column), folder / FIGURES / f"{column}_by_{axis}")[1]
        for axis in findings.axes
        for column in (item.column for item in findings.headlines)
        if len({row.get(column) for row in findings.rows}) > 1  # nothing to see where all trials agree
    ]


def draw_figure(findings: Findings, axis: str, column: str) -> plots.PaperFigure:
    """One headline over one axis, with the next axis as lines.

    Args:
        findings: of the sweep.
        axis: that was varied, or was to be.
        column: of a headline.

    Raises:
        InputError: no such headline, or no such axis.
    """
    columns = [item.column for item in findings.headlines]
    for kind, name, known in (("headline", column, columns), ("axis", axis, list(AXES))):
        if name not in known:
            raise InputError(f"no {kind} {name!r} in these rows: there is {', '.join(known) or 'none'}")
    names = list(dict.fromkeys([*findings.axes, axis]))  # of one value only, where rows are missing
    group = next(iter([*names[names.index(axis) + 1 :], *names[: names.index(axis)]]), None)
    if group is not None and len(findings.axes[group]) > MOST_GROUPS:
        group = None
    numbers = all(is_number(row[axis]) for row in findings.rows)
    rows = [row if numbers else row | {axis: shown(row[axis])} for row in findings.rows if row.get(column) is not None]
    if group is not None:
        rows = [row | {group: shown(row[group])} for row in rows]
    (headline,) = (item for item in findings.headlines if item.column == column)
    label = headline.label if headline.weight is None else f"{headline.label}, {headline.statistic}"
    label = textwrap.fill(label, LABEL_LETTERS)
    return plots.trade_off(rows, axis, column, group, metric_label=label, units=UNITS, weight=headline.weight)
