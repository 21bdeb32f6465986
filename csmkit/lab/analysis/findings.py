"""What the rows of a sweep say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from csmkit.asr.directory import NAMES
from csmkit.lab.analysis.choice import Choice, choose
from csmkit.lab.analysis.columns import Column, headlines
from csmkit.lab.analysis.pairs import (
    Comparison,
    Interaction,
    compared,
    compared_rows,
    compared_with,
    corrected,
    interactions,
    setting,
)
from csmkit.lab.analysis.rows import Rows, grouped, hashable, is_number, measured, recogniser_name, records
from csmkit.lab.analysis.statistics import UNITS, crossed_interval
from csmkit.lab.sweep.axes import AXES
from csmkit.speech.streams import END_OF_SPEECH

LIKE_ANYWHERE = 0.5  # of a border drawn at random to be worse than another place
MOST_SNR_DB = 96.0  # 16-bit sound has no more: above it differences are those of rounding
LATE_MS = 5.0  # a chunk that is later than this made playback wait
_KEPT = (*UNITS, "repeat", "clip", "error", "error_type", "started", "n_words", "n_letters")


@dataclass(frozen=True)
class Findings:
    """The analysis of a sweep.

    Attributes:
        rows: the trials that succeeded, in the order of their settings.
        failed: rows with an error.
        axes: name of each axis that was varied to its values in order.
        baseline: value of each that the others are compared with.
        headlines: the columns that the report speaks of.
        table: one row each combination of settings: the settings, ``n`` and an interval a column.
        comparisons: one for each other value of an axis, against the axis's baseline.
        interactions: one for each pair of axes and of their values.
        choice: the settings to take; None where there is one setting.
        borders: each figure that is a probability against 0.5, for each codec.
        against: each combination of settings against the same of a former sweep.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    axes: dict[str, list[Any]]
    baseline: dict[str, Any]
    headlines: list[Column]
    table: list[dict[str, Any]]
    comparisons: list[Comparison]
    interactions: list[Interaction]
    choice: Choice | None
    borders: list[Comparison] = field(default_factory=list)
    against: list[Comparison] = field(default_factory=list)


def analyse(
    rows: Rows,
    baseline: Mapping[str, Any] | None = None,
    against: Iterable[Mapping[str, Any]] | None = None,
    *,
    figures: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
) -> Findings:
    """Sum up the rows of a sweep, or of a notebook's trials.

    Args:
        rows: one a trial, as `read_rows` has them or as trials make them.
        baseline: value of an axis to compare with; where nothing is said, its first.
        against: rows of a former sweep.
        figures: names of metrics or columns to speak of; None takes those that the rows name in ``metrics``.
        margins: smallest difference that matters of a column, in place of that of `csmkit.lab.analysis.columns`.

    Raises:
        InputError: no rows.
    """
    derived = [with_derived(row) for row in records(rows)]
    metrics = figures if figures is not None else str(derived[0].get("metrics", "")).split(",")
    columns = headlines(metrics, [row for row in derived if not row.get("error")], margins)
    needed = (*AXES, *_KEPT, *(item.column for item in columns))  # a third of a row
    derived = [{name: row[name] for name in needed if name in row} for row in derived]
    kept = [row for row in derived if not row.get("error")]
    axes = {name: values for name in AXES if len(values := _values(kept, name)) > 1}
    kept.sort(key=lambda row: [axes[name].index(row[name]) for name in axes])
    given = {name: hashable(value) for name, value in (baseline or {}).items()}
    if "whisper" in given:
        given["whisper"] = recogniser_name({"preset": records(rows)[0].get("preset"), "whisper": given["whisper"]})
    base = {name: given[name] if given.get(name) in values else values[0] for name, values in axes.items()}
    former = [] if against is None else [row for row in map(with_derived, against) if not row.get("error")]
    compared_all = [found for name in axes for found in compared(kept, axes, name, base[name], columns)]
    return Findings(
        kept,
        [row for row in derived if row.get("error")],
        axes,
        base,
        columns,
        _table(kept, list(axes), columns),
        corrected(compared_all),
        interactions(kept, axes, base, columns),
        choose(kept, axes, columns) if axes else None,
        _borders(kept, columns),
        corrected(_against(kept, former, list(axes), columns)),
    )


def with_derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as reports take it: schedules as tuples, and what follows from its other columns."""
    plain = {key: hashable(value) for key, value in row.items()}
    if "whisper" in row:
        plain["whisper"] = recogniser_name(row)
    if row.get("error"):
        return plain
    late, repeated, snr = (measured(row.get(name)) for name in ("max_underrun_ms", "repeated_frames_ratio", "snr_db"))
    plain["waited_ratio"] = None if late is None else float(late > LATE_MS)
    plain["repeated_ratio"] = None if repeated is None else float(repeated > 0)
    if "finish_reason" in row:
        plain["ended_ratio"] = float(row["finish_reason"] == END_OF_SPEECH)
    if snr is not None:
        plain["snr_db"] = min(snr, MOST_SNR_DB)
    return plain


def _borders(rows: list[dict[str, Any]], columns: list[Column]) -> list[Comparison]:
    """Whether borders of chunks are worse than other places, codec by codec: one question."""
    items = [item for item in columns if item.column.endswith("_auc")]
    groups = grouped(({"codec": "all", **row} for row in rows), ["codec"]) if items else {}
    pairs = product(groups.items(), items)
    return corrected([compared_with(group, "codec", codec, LIKE_ANYWHERE, item) for ((codec,), group), item in pairs])


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of an axis: numbers by size, then schedules, then names in the order they come."""
    found = list(dict.fromkeys(row[name] for row in rows if row.get(name) is not None))
    numbers = sorted(value for value in found if is_number(value))
    schedules = sorted(value for value in found if isinstance(value, tuple))
    known = [*(prefix + size for size in NAMES for prefix in ("", "pocket ")), "sound", "text"]
    names = [value for value in found if isinstance(value, str)]
    return [*numbers, *schedules, *sorted(names, key=lambda name: known.index(name) if name in known else len(known))]


def _table(rows: list[dict[str, Any]], axes: list[str], columns: list[Column]) -> list[dict[str, Any]]:
    table = []
    for key, members in grouped(rows, axes).items():
        figures = {c.column: crossed_interval(members, c.column, weight=c.weight, share=c.share) for c in columns}
        table.append({**dict(zip(axes, key, strict=True)), "n": len(members), **figures})
    return table


def _against(
    rows: list[dict[str, Any]], former: list[dict[str, Any]], axes: list[str], columns: list[Column]
) -> list[Comparison]:
    """Each combination of settings that both sweeps have, paired by text and seed."""
    if not former or not rows:
        return []
    shared = [name for name in AXES if all(name in row for row in (rows[0], former[0]))]
    before = grouped(former, shared)
    both = [(group, before[key]) for key, group in grouped(rows, shared).items() if key in before]
    names = [setting({name: here[0][name] for name in shared if name in axes}) for here, _ in both]
    return [
        compared_rows(here, there, "run", (name, "former"), item)
        for item in columns
        for name, (here, there) in zip(names, both, strict=True)
    ]
