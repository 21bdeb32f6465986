"""Trials beside each other: the same but for one thing, the best and the worst, and how much seeds differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.analysis.rows import measured, records
from csmkit.lab.metrics.codes import variety

if TYPE_CHECKING:
    from csmkit.lab.analysis.rows import Row, Rows
    from csmkit.lab.trials.trial import Trial


def differences(
    rows: Rows, over: str, baseline: Any, columns: Sequence[str], pair: Sequence[str] = ("text", "seed")
) -> list[dict[str, Any]]:
    """What changes against a baseline, trial by trial, so that texts and seeds do not blur it.

    Args:
        rows: one a trial.
        over: column that was varied, such as ``whisper``.
        baseline: its value that the others are compared with, such as None for no recogniser.
        columns: figures to subtract.
        pair: columns that make two trials the same but for ``over``.

    Returns:
        A row for each trial that is not of the baseline: ``pair``, ``over``, and ``<column>`` as its difference from
        the baseline's, None where one of the two was not measured.

    Raises:
        InputError: no rows, a missing column, or a trial without its baseline.
    """
    found = records(rows, [over, *pair, *columns])
    of_baseline = {_key(row, pair): row for row in found if row[over] == baseline}
    result = []
    for row in found:
        if row[over] == baseline:
            continue
        if _key(row, pair) not in of_baseline:
            raise InputError(f"no trial with {over}={baseline!r} for {_key(row, pair)}: run the baseline on it too")
        other = of_baseline[_key(row, pair)]
        changed = {column: _minus(row[column], other[column]) for column in columns}
        result.append({**{name: row[name] for name in pair}, over: row[over], **changed})
    return result


def beside_controls(rows: Rows, figure: str = "seam_click", unit: str = "z") -> list[dict[str, Any]]:
    """Each row twice, once with what was measured at the borders of its chunks and once with their control.

    Args:
        rows: trials with ``codec`` and the columns of `csmkit.lab.metrics.seams.seam_metrics`.
        figure: of a border: ``seam_click``, ``seam_dip`` or ``seam_step``.
        unit: that its columns end in.

    Returns:
        Rows whose ``place`` is such as "streaming, borders" or "streaming, elsewhere", and whose ``<figure>_<unit>`` is
        what was measured there.

    Raises:
        InputError: no rows, or a missing column.
    """
    column, control = f"{figure}_{unit}", f"{figure}_control_{unit}"
    found = records(rows, ["codec", column, control])
    return [
        {**row, "place": f"{row['codec']}, {where}", column: row[measure]}
        for row in found
        for where, measure in (("borders", column), ("elsewhere", control))
    ]


def variety_rows(trials: Iterable[Trial], by: Sequence[str] = ("temperature", "topk")) -> list[dict[str, Any]]:
    """How differently the seeds said each text: ``text``, the columns ``by``, ``n_seeds`` and ``variety``.

    Args:
        trials: with several seeds of each text and setting.
        by: columns that make a setting.
    """
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_key(trial.row, ["text", *by]), []).append(trial)
    return [
        {
            **dict(zip(["text", *by], key, strict=True)),
            "n_seeds": len(group),
            "variety": variety([trial.codes for trial in group]),
        }
        for key, group in groups.items()
    ]


def extremes(trials: Iterable[Trial], column: str) -> tuple[Trial, Trial]:
    """The trials with the lowest and the highest value of a column, to listen to; of equals the first.

    Raises:
        InputError: the column was measured in no trial.
    """
    known = [(trial, measured(trial.row[column])) for trial in trials]
    compared = [(trial, value) for trial, value in known if value is not None]
    if not compared:
        raise InputError(f"column {column!r} was measured in none of {len(known)} trials: choose another one")
    ranked = sorted(compared, key=lambda pair: pair[1])
    highest = max(compared, key=lambda pair: pair[1])
    return ranked[0][0], highest[0]


def _key(row: Row, columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(tuple(row[column]) if isinstance(row[column], list) else row[column] for column in columns)


def _minus(value: Any, other: Any) -> float | None:
    first, second = measured(value), measured(other)
    return None if first is None or second is None else first - second
