"""What the rows of a sweep say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csmkit.lab.report.choice import Choice, choose
from csmkit.lab.report.headlines import Headline, headlines, with_derived
from csmkit.lab.report.interactions import Interaction, interactions
from csmkit.lab.report.pairs import Comparison, compared, compared_rows, setting
from csmkit.lab.rows import is_number
from csmkit.lab.statistics import crossed_interval
from csmkit.lab.sweep.axes import AXES


@dataclass(frozen=True)
class Findings:
    """The analysis of a sweep.

    Attributes:
        rows: that succeeded, in the order of their settings.
        failed: rows with an error.
        axes: name of each axis that was varied to its values in order.
        baseline: value of each that the others are compared with.
        headlines: the columns.
        table: one row each combination of settings: the settings, ``n`` and an interval a column.
        comparisons: of each other value of an axis with its baseline.
        interactions: of each pair of axes.
        choice: which settings to take; None of a single one.
        against: of each combination with the same of a former sweep.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    axes: dict[str, list[Any]]
    baseline: dict[str, Any]
    headlines: list[Headline]
    table: list[dict[str, Any]]
    comparisons: list[Comparison]
    interactions: list[Interaction]
    choice: Choice | None
    against: list[Comparison] = field(default_factory=list)


def analyse(
    rows: Iterable[Mapping[str, Any]],
    baseline: Mapping[str, Any] | None = None,
    against: Iterable[Mapping[str, Any]] | None = None,
) -> Findings:
    """Sum up the rows of a sweep.

    Args:
        rows: one a trial, as `read_rows` has them.
        baseline: value of an axis to compare with; where nothing is said, its first.
        against: rows of a former sweep.
    """
    told = [with_derived(row) for row in rows]
    kept = [row for row in told if not row.get("error")]
    axes = {name: values for name in AXES if len(values := _values(kept, name)) > 1}
    kept.sort(key=lambda row: [axes[name].index(row[name]) for name in axes])
    metrics = str(told[0].get("metrics", "")).split(",") if told else []
    columns = headlines(metrics, kept)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in (baseline or {}).items()}
    base = {name: given[name] if given.get(name) in values else values[0] for name, values in axes.items()}
    former = [] if against is None else [row for row in map(with_derived, against) if not row.get("error")]
    return Findings(
        kept,
        [row for row in told if row.get("error")],
        axes,
        base,
        columns,
        _table(kept, list(axes), columns),
        [
            compared(kept, axes, name, value, base[name], item)
            for name in axes
            for item in columns
            for value in axes[name]
            if value != base[name]
        ],
        interactions(kept, axes, base, columns),
        choose(kept, axes, columns) if axes else None,
        _against(kept, former, list(axes), columns),
    )


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of an axis: numbers by size, then schedules, then names in the order they come."""
    found = list(dict.fromkeys(row[name] for row in rows if row.get(name) is not None))
    numbers = sorted(value for value in found if is_number(value))
    schedules = sorted(value for value in found if isinstance(value, tuple))
    known = ["tiny.en", "base.en", "small.en", "sound", "text"]
    names = [value for value in found if isinstance(value, str)]
    return [*numbers, *schedules, *sorted(names, key=lambda name: known.index(name) if name in known else len(known))]


def _table(rows: list[dict[str, Any]], axes: list[str], columns: list[Headline]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in axes), []).append(row)
    return [
        {
            **dict(zip(axes, key, strict=True)),
            "n": len(members),
            **{item.column: crossed_interval(members, item.column, weight=item.weight) for item in columns},
        }
        for key, members in groups.items()
    ]


def _against(
    rows: list[dict[str, Any]], former: list[dict[str, Any]], axes: list[str], columns: list[Headline]
) -> list[Comparison]:
    """Each combination of settings that both sweeps have, paired by text and seed."""
    if not former or not rows:
        return []
    shared = [name for name in AXES if all(name in row for row in (rows[0], former[0]))]
    keys = list(dict.fromkeys(tuple(row[name] for name in shared) for row in rows))
    common = [key for key in keys if any(tuple(row[name] for name in shared) == key for row in former)]
    return [
        compared_rows(
            [row for row in rows if tuple(row[name] for name in shared) == key],
            [row for row in former if tuple(row[name] for name in shared) == key],
            "run",
            (setting({name: value for name, value in zip(shared, key, strict=True) if name in axes}), "former"),
            item,
        )
        for item in columns
        for key in common
    ]
