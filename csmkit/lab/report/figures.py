"""The figures of a sweep: each headline over each axis."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csmkit.errors import InputError
from csmkit.lab import plots
from csmkit.lab.analysis.columns import in_words
from csmkit.lab.analysis.findings import Findings
from csmkit.lab.analysis.pairs import CLEAR, setting, shown
from csmkit.lab.analysis.rows import is_number, pareto_front
from csmkit.lab.analysis.statistics import UNITS
from csmkit.lab.sweep.axes import AXES
from csmkit.lab.sweep.runner import FIGURES

MOST_GROUPS = 6
FRONT_AIMS = {"ttfa_ms": "lower", "wer": "lower"}
LABEL_LETTERS = 34  # as many as the height of a figure holds
NUMBERED = ("speaker",)  # numbers that are names: nothing lies between them


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn.

    Attributes:
        path: path of the PNG; the PDF and the SVG are beside it.
        caption: what it shows, and where the settings are that it does not.
        alt: the same with its numbers, for those who do not see it.
    """

    path: Path
    caption: str
    alt: str = ""


def draw_figures(findings: Findings, folder: Path) -> list[Picture]:
    """Write a PDF, a PNG and an SVG of the differences and of each headline over each axis.

    Args:
        folder: folder of the results; the figures of a former report are removed.

    Returns:
        The figures. Where all trials agree there is nothing to see, and no figure.
    """
    for old in (folder / FIGURES).glob("*"):
        old.unlink()
    return [
        Picture(plots.save(figure, folder / FIGURES / name)[1], caption, f"{caption}{more}")
        for draw in (_forests, _fronts, _over_axes)
        for name, figure, caption, more in draw(findings)
    ]


Drawn = tuple[str, plots.PaperFigure, str, str]
"""Name of a file, the figure, its caption, and what the alternative text says more."""


def _forests(findings: Findings) -> Iterator[Drawn]:
    for axis in findings.axes:
        if (figure := draw_forest(findings, axis)) is not None:
            meaning = "in margins (grey band: does not matter); filled points are clear"
            caption = f"Paired differences by {in_words(axis)}, {meaning}"
            yield f"differences_by_{axis}", figure, caption, ". The numbers are in the tables of differences."


def _fronts(findings: Findings) -> Iterator[Drawn]:
    """Time to first audio against word errors, of each combination of settings."""
    rows = []
    for row in findings.table:
        if all(name in row and row[name].median is not None for name in FRONT_AIMS):
            found = {"setting": setting({axis: row[axis] for axis in findings.axes})}
            rows.append(found | row["ttfa_ms"].columns("ttfa_ms") | row["wer"].columns("wer"))
    if len(rows) > 2:
        caption = "Time to first audio against word errors, a point each setting; filled points are beaten by no other"
        best = "; ".join(str(row["setting"]) for row in pareto_front(rows, FRONT_AIMS))
        yield "first_audio_against_word_errors", plots.pareto(rows, FRONT_AIMS, "setting"), caption, f": {best}"


def _over_axes(findings: Findings) -> Iterator[Drawn]:
    for axis in findings.axes:
        held, group = _held(findings, axis), _group(findings, axis)
        names = [axis, *([group] if group else [])]
        places = f", {setting(held)}" if held else ""
        lines = f", a line for each {in_words(group)}" if group else ""
        for item in findings.headlines:
            rows = _shown_rows(findings.rows, findings, axis)
            if len({row.get(item.column) for row in rows} - {None}) > 1:
                label = f"{item.label[0].upper()}{item.label[1:]}"
                caption = f"{label}, {item.statistic}, by {in_words(axis)}{lines}{places}"
                points = [
                    f"{setting({name: row[name] for name in names})} {item.with_interval(row[item.column])}"
                    for row in _shown_rows(findings.table, findings, axis)
                ]
                figure = draw_figure(findings, axis, item.column)
                yield f"{item.column}_by_{axis}", figure, caption, f": {'; '.join(points)}"


def draw_figure(findings: Findings, axis: str, column: str) -> plots.PaperFigure:
    """One headline over one axis, with the next axis as lines.

    Other axes are held at their baseline: a median over both sides of a large difference would be a figure of neither.

    Args:
        axis: name of an axis of sweeps, varied or not.

    Raises:
        InputError: no such headline, or no such axis.
    """
    columns = {item.column: item for item in findings.headlines}
    for kind, name, known in (("headline", column, list(columns)), ("axis", axis, list(AXES))):
        if name not in known:
            raise InputError(f"no {kind} {name!r} in these rows: there is {', '.join(known) or 'none'}")
    rows, group, headline = _shown_rows(findings.rows, findings, axis), _group(findings, axis), columns[column]
    numbers = axis not in NUMBERED and all(is_number(row[axis]) for row in rows)
    named = [*([] if numbers else [axis]), *([group] if group else [])]
    known = _shown_rows(findings.table, findings, axis) if axis in findings.axes else []
    rows, table = (
        [row | {name: shown(row[name]) for name in named} for row in some if row.get(column) is not None]
        for some in (rows, known)
    )
    summary = [{**row, **vars(row[column])} for row in table] or None
    label = headline.label if headline.weight is None else f"{headline.label}, {headline.statistic}"
    label = textwrap.fill(label, LABEL_LETTERS)
    kind = {"weight": headline.weight, "share": headline.share}
    return plots.trade_off(rows, axis, column, group, metric_label=label, units=UNITS, summary=summary, **kind)


def draw_forest(findings: Findings, axis: str) -> plots.PaperFigure | None:
    """The differences along an axis, each in margins of its figure; None where no figure has both."""
    rows = [
        {
            "group": c.headline.label,
            "label": f"{shown(c.value)} against {shown(c.baseline)}",
            "difference": c.difference.median,
            "low": c.difference.low,
            "high": c.difference.high,
            "margin": c.headline.margin,
            "clear": c.verdict in CLEAR,
        }
        for c in findings.comparisons
        if c.axis == axis and c.headline.margin is not None and c.difference.low is not None
    ]
    return plots.forest(rows) if rows else None


def _shown_rows(rows: Sequence[dict[str, Any]], findings: Findings, axis: str) -> list[dict[str, Any]]:
    """Those of some rows that a figure shows: the other ones have another axis at another value than its baseline."""
    held = _held(findings, axis)
    return [row for row in rows if all(row[name] == value for name, value in held.items())]


def _group(findings: Findings, axis: str) -> str | None:
    """The axis whose values are lines: the next one, if it has few."""
    names = list(dict.fromkeys([*findings.axes, axis]))  # of one value only, where rows are missing
    place = names.index(axis)
    group = next(iter([*names[place + 1 :], *names[:place]]), None)
    return None if group is None or len(findings.axes[group]) > MOST_GROUPS else group


def _held(findings: Findings, axis: str) -> Mapping[str, Any]:
    shown_axes = (axis, _group(findings, axis))
    return {name: value for name, value in findings.baseline.items() if name not in shown_axes}
