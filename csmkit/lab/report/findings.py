"""What the rows of a sweep say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csmkit.lab.report.headlines import Headline, headlines, with_derived
from csmkit.lab.rows import is_number
from csmkit.lab.statistics import LEAST_TRIALS, LEAST_UNITS, UNITS, Interval, crossed_interval, paired_rows
from csmkit.lab.sweep.axes import AXES

LOWER, HIGHER, NOT_SHOWN, TOO_FEW = "lower", "higher", "not shown", "too few"


@dataclass(frozen=True)
class Comparison:
    """One figure at one setting against another, over pairs that share text, seed and all other settings.

    Attributes:
        headline: the figure.
        axis: what differs; "run" where a former sweep is compared with.
        value: of the axis.
        baseline: the other value.
        difference: value minus baseline; ``n`` counts pairs.
    """

    headline: Headline
    axis: str
    value: Any
    baseline: Any
    difference: Interval

    @property
    def verdict(self) -> str:
        """Lower or higher where the whole interval is; not shown where it holds 0; too few where there is none."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return TOO_FEW
        return LOWER if high < 0 else HIGHER if low > 0 else NOT_SHOWN


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
        against: of each combination with the same of a former sweep.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    axes: dict[str, list[Any]]
    baseline: dict[str, Any]
    headlines: list[Headline]
    table: list[dict[str, Any]]
    comparisons: list[Comparison]
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
        [found for name in axes for found in _compared(kept, axes, base, name, columns)],
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


def _compared(
    rows: list[dict[str, Any]],
    axes: Mapping[str, list[Any]],
    base: Mapping[str, Any],
    axis: str,
    columns: list[Headline],
) -> list[Comparison]:
    shared = [*UNITS, *(name for name in axes if name != axis)]
    others = [row for row in rows if row[axis] == base[axis]]
    return [
        _comparison(item, axis, value, base[axis], [row for row in rows if row[axis] == value], others, shared)
        for item in columns
        for value in axes[axis]
        if value != base[axis]
    ]


def _comparison(
    item: Headline, axis: str, value: Any, base: Any, rows: Any, others: Any, shared: Sequence[str]
) -> Comparison:
    pairs = paired_rows(rows, others, item.column, units=shared, weight=item.weight)
    return Comparison(item, axis, value, base, crossed_interval(pairs, item.column, weight=item.weight))


def _against(
    rows: list[dict[str, Any]], former: list[dict[str, Any]], axes: list[str], columns: list[Headline]
) -> list[Comparison]:
    """Each combination of settings that both sweeps have, paired by text and seed."""
    if not former:
        return []
    shared = [name for name in AXES if all(name in row for row in (rows[0], former[0]))]
    keys = list(dict.fromkeys(tuple(row[name] for name in shared) for row in rows))
    common = [key for key in keys if any(tuple(row[name] for name in shared) == key for row in former)]
    return [
        _comparison(
            item,
            "run",
            ", ".join(f"{name} {shown(value)}" for name, value in zip(shared, key, strict=True) if name in axes)
            or "all",
            "former",
            [row for row in rows if tuple(row[name] for name in shared) == key],
            [row for row in former if tuple(row[name] for name in shared) == key],
            UNITS,
        )
        for item in columns
        for key in common
    ]


def shown(value: Any) -> str:
    """A setting as tables have it: a schedule as "1-2-4-6"."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if is_number(value) else str(value)


def sentences(findings: Findings) -> dict[str, list[str]]:
    """The comparisons in words: what the data shows, what it does not, and what there were too few trials for."""
    told: dict[str, list[str]] = {"shown": [], "not shown": [], "too few": []}
    for axis, base in findings.baseline.items():
        for item in findings.headlines:
            found = [c for c in findings.comparisons if c.axis == axis and c.headline == item]
            clear = [c for c in found if c.verdict in (LOWER, HIGHER)]
            told["shown"] += [_sentence(c) for c in clear]
            for verdict, place in ((NOT_SHOWN, "not shown"), (TOO_FEW, "too few")):
                open_values = [shown(c.value) for c in found if c.verdict == verdict]
                if open_values:
                    n_pairs = min(c.difference.n for c in found if c.verdict == verdict)
                    named = f"{axis} {' or '.join(open_values)} from {shown(base)}"
                    told[place].append(f"{item.label}: no difference of {named} ({n_pairs} pairs or more)")
    told["too few"] = [
        text.replace("no difference", "nothing can be said of a difference")
        + f": at least {LEAST_TRIALS} pairs of at least {LEAST_UNITS} texts and {LEAST_UNITS} seeds are needed"
        for text in told["too few"]
    ]
    return told


def _sentence(found: Comparison) -> str:
    item, gap = found.headline, found.difference
    assert gap.median is not None and gap.low is not None and gap.high is not None
    bounds = sorted(abs(bound) for bound in (gap.low, gap.high))
    return (
        f"{item.label}: {found.verdict} at {found.axis} {shown(found.value)} than at {shown(found.baseline)} "
        f"by {item.text(abs(gap.median))} [{item.text(bounds[0])}, {item.text(bounds[1])}], {gap.n} pairs"
    )


def interval_rows(findings: Findings) -> list[dict[str, Any]]:
    """The table as text: a row each combination of settings, a figure with its interval in each column."""
    return [
        {
            **{name: shown(row[name]) for name in findings.axes},
            "trials": row["n"],
            **{item.label: item.with_interval(row[item.column]) for item in findings.headlines},
        }
        for row in findings.table
    ]


def difference_table(findings: Findings, axis: str) -> list[dict[str, Any]]:
    """The comparisons along one axis, short: a row a figure, and in a column for each value the difference there."""
    table: dict[str, dict[str, Any]] = {}
    for found in findings.comparisons:
        if found.axis == axis:
            row = table.setdefault(found.headline.label, {"figure": found.headline.label})
            row[f"{shown(found.value)} against {shown(found.baseline)}"] = found.headline.with_interval(
                found.difference, signed=True
            )
    return list(table.values())
