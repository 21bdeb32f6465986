"""The figures of a sweep: each headline over each axis."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csmkit.errors import InputError
from csmkit.lab import plots
from csmkit.lab.analysis.findings import Findings
from csmkit.lab.analysis.headlines import Headline
from csmkit.lab.analysis.pairs import shown
from csmkit.lab.analysis.rows import is_number
from csmkit.lab.analysis.statistics import UNITS
from csmkit.lab.sweep.axes import AXES
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
    """Write a PDF and a PNG of each headline over each axis, as `draw_figure` draws them.

    Args:
        findings: of the sweep.
        folder: of the results.

    Returns:
        The figures. Those of a former report are gone; where all trials agree there is nothing to see.
    """
    for old in (folder / FIGURES).glob("*"):
        old.unlink()
    return [
        _saved(findings, axis, item.column, folder / FIGURES / f"{item.column}_by_{axis}")
        for axis in findings.axes
        for item in findings.headlines
        if len({row.get(item.column) for row in _rows(findings, axis)} - {None}) > 1
    ]


def draw_figure(findings: Findings, axis: str, column: str) -> plots.PaperFigure:
    """One headline over one axis, with the next axis as lines.

    Other axes are held at their baseline: a median over both sides of a large difference would be a figure of neither.

    Args:
        findings: of the sweep.
        axis: that was varied, or was to be.
        column: of a headline.

    Raises:
        InputError: no such headline, or no such axis.
    """
    columns = {item.column: item for item in findings.headlines}
    for kind, name, known in (("headline", column, list(columns)), ("axis", axis, list(AXES))):
        if name not in known:
            raise InputError(f"no {kind} {name!r} in these rows: there is {', '.join(known) or 'none'}")
    rows, group, headline = _rows(findings, axis), _group(findings, axis), columns[column]
    numbers = axis not in NUMBERED and all(is_number(row[axis]) for row in rows)
    rows = [
        row | ({} if numbers else {axis: shown(row[axis])}) | ({group: shown(row[group])} if group else {})
        for row in rows
        if row.get(column) is not None
    ]
    label = textwrap.fill(_label(headline), LABEL_LETTERS)
    return plots.trade_off(rows, axis, column, group, metric_label=label, units=UNITS, weight=headline.weight)


def _saved(findings: Findings, axis: str, column: str, path: Path) -> Picture:
    places = "".join(f", {name} {shown(value)}" for name, value in _held(findings, axis).items())
    written = plots.save(draw_figure(findings, axis, column), path)[1]
    return Picture(written, path.name.replace("_", " ") + places)


def _group(findings: Findings, axis: str) -> str | None:
    """The axis whose values are lines: the next one, if it has few."""
    names = list(dict.fromkeys([*findings.axes, axis]))  # of one value only, where rows are missing
    group = next(iter([*names[names.index(axis) + 1 :], *names[: names.index(axis)]]), None)
    return None if group is None or len(findings.axes[group]) > MOST_GROUPS else group


def _held(findings: Findings, axis: str) -> Mapping[str, Any]:
    shown_axes = (axis, _group(findings, axis))
    return {name: value for name, value in findings.baseline.items() if name not in shown_axes}


def _rows(findings: Findings, axis: str) -> list[dict[str, Any]]:
    held = _held(findings, axis)
    return [row for row in findings.rows if all(row[name] == value for name, value in held.items())]


def _label(headline: Headline) -> str:
    return headline.label if headline.weight is None else f"{headline.label}, {headline.statistic}"
