"""The questions of the notebooks, answered in Markdown: numbers come from the rows, verdicts from the one rule.

Intervals are of 95 %, over texts and seeds where all rows name them, else over rows. All of them raise InputError for
no rows and for a missing column, and those that compare or choose also where nothing was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from csmkit.errors import InputError
from csmkit.lab.analysis.columns import Column, axis_label, column_of, in_words
from csmkit.lab.analysis.findings import analyse
from csmkit.lab.analysis.pairs import CLEAR, EQUAL, SAME, TOO_FEW, compared_rows, corrected, shown
from csmkit.lab.analysis.rows import Row, Rows, grouped, measured, records
from csmkit.lab.analysis.sentences import NEEDED, advice, below_margin, border_sentence
from csmkit.lab.analysis.statistics import UNITS, Interval, crossed_interval, median_interval
from csmkit.lab.metrics.codes import variety
from csmkit.lab.trials.trial import Trial


def said(interval: Interval, unit: str = "", form: str = ".0f") -> str:
    """A figure in words, such as "52 ms (50 to 61, n = 60)"; "not measured" without one."""
    if interval.median is None:
        return "not measured"
    bounds = [] if interval.low is None else [f"{interval.low:{form}} to {interval.high:{form}}"]
    return f"{_value(interval.median, unit, form)} ({', '.join([*bounds, f'n = {interval.n}'])})"


def _value(value: float, unit: str, form: str) -> str:
    return f"{value:{form}} {unit}".rstrip()


def chunk_finding(rows: Rows) -> str:
    """Which chunk size or schedule to choose, as `advice` has it of latency alone.

    Args:
        rows: trials of one codec, with ``chunk_frames``, ``ttfa_ms``, ``max_underrun_ms`` and ``rtf``.
    """
    found = records(rows, ["chunk_frames", "ttfa_ms", "rtf"])
    if all(measured(row["ttfa_ms"]) is None for row in found):
        raise InputError("ttfa_ms was measured in no row: nothing was spoken")
    return advice(found, ["latency"])


def seam_finding(rows: Rows) -> str:
    """Whether borders of chunks click more than other places, for each codec.

    Args:
        rows: trials with ``codec`` and the columns of `csmkit.lab.metrics.seams.seam_metrics`.
    """
    findings = analyse(records(rows, ["codec", "seam_click_auc", *UNITS]), figures=["seam_click_auc"])
    return "\n".join(f"- {border_sentence(border)}." for border in findings.borders) or "No border to judge."


def range_finding(
    rows: Rows, parameter: str, metric: str, form: str = ".2f", unit: str = "", weight: str | None = None
) -> str:
    """Where a metric is lowest and highest over a parameter, and whether the pairs of trials tell the two apart.

    Args:
        rows: one a trial, with ``text`` and ``seed``, or with ``text`` alone.
        weight: column that makes it a weighted mean, such as ``n_words`` for an error rate; None is the median.
    """
    groups = _groups(rows, parameter, [metric, *([weight] if weight else [])])
    figures = {value: _interval(group, metric, weight) for value, group in groups.items()}
    known = {value: figure.median for value, figure in figures.items() if figure.median is not None}
    if not known:
        raise InputError(f"column {metric!r} was measured in no row: choose another metric")
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    name = ("mean " if weight else "median ") + in_words(metric)
    if known[low] == known[high]:
        return f"The {name} is {_value(known[low], unit, form)} at every {in_words(parameter)}."
    item = replace(column_of(metric), weight=weight)
    apart = _apart(groups[high], groups[low], parameter, (high, low), item, len(known))
    return (
        f"The {name} is lowest at {in_words(parameter)} {shown(low)}, {said(figures[low], unit, form)}, and highest at "
        f"{shown(high)}, {said(figures[high], unit, form)}; {apart}."
    )


def _apart(
    rows: Sequence[Row], others: Sequence[Row], parameter: str, names: tuple[Any, Any], item: Column, n_values: int
) -> str:
    """Whether pairs of trials tell the highest figure from the lowest; of all pairs of values the widest was picked."""
    whole = [[{"seed": 0, **row} for row in group if "text" in row] for group in (rows, others)]
    (found,) = corrected([compared_rows(*whole, parameter, names, item)], n_values * (n_values - 1) / 2)
    change = item.with_interval(found.difference, signed=True)
    if found.verdict in CLEAR:
        return f"in pairs that is {change}, clear{below_margin(found).replace(';', ' but', 1)}"
    if found.verdict == TOO_FEW:
        return f"nothing can be said of that difference, {NEEDED}"
    if found.verdict in (SAME, EQUAL):
        return f"in pairs there is no difference that matters, {change}"
    return f"in pairs neither a difference nor its absence is shown, {change}"


def interval_table(rows: Rows, parameter: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The medians of several metrics with their intervals as text: one row each value of a parameter."""
    items = [column_of(metric) for metric in metrics]
    return [
        {
            axis_label(parameter): str(value),
            "trials": len(group),
            **{item.label: item.with_interval(_interval(group, item.column)) for item in items},
        }
        for value, group in _groups(rows, parameter, metrics).items()
    ]


def whisper_finding(rows: Rows, added: Rows) -> str:
    """What each recogniser gets wrong and what it costs the voice.

    Args:
        rows: trials with ``whisper``, ``wer``, ``n_words``, ``asr_revised`` and ``asr_lag_oldest_p50_ms``.
        added: `csmkit.lab.analysis.questions.differences` of ``rtf`` and ``cpu_s`` over ``whisper``.
    """
    costs = _groups(added, "whisper", ["rtf", "cpu_s"])
    heard = [row for row in records(rows, ["whisper"]) if row["whisper"] is not None]
    lines = []
    for name, group in _groups(heard, "whisper", ["wer", "n_words", "asr_revised", "asr_lag_oldest_p50_ms"]).items():
        wer, lag = _interval(group, "wer", "n_words"), _interval(group, "asr_lag_oldest_p50_ms")
        revised, n_words = (sum(measured(row[column]) or 0 for row in group) for column in ("asr_revised", "n_words"))
        lines.append(
            f"- **{name}**: {said(wer, form='.1%')} word errors, {revised:.0f} of {n_words:.0f} words "
            f"committed and yet changed, text {said(lag, 'ms')} behind the sound; the real-time factor of the "
            f"voice changes by {said(_interval(costs.get(name, []), 'rtf'), form='+.3f')}."
        )
    return "\n".join(lines)


def turn_finding(metrics: Row) -> str:
    """Where the time of a turn went until something was heard, by the ``metrics`` of its ``complete`` event."""
    parts = [
        ("the language model wrote its first word after", "llm_ttft_ms"),
        ("the first clause was complete after", "text_ttfs_ms"),
        ("sound began after", "ttfa_ms"),
        ("the final text was there after", "final_text_ms"),
    ]
    known = [f"{text} {metrics[name]:.0f} ms" for text, name in parts if metrics.get(name) is not None]
    if not known:
        return "Nothing was spoken in this turn."
    line = ", ".join(known)
    rtf = "–" if metrics.get("rtf") is None else f"{metrics['rtf']:.2f}"
    return f"{line[0].upper()}{line[1:]}; {metrics['audio_s']:.2f} s of sound at a real-time factor of {rtf}."


def _interval(rows: Sequence[Row], column: str, weight: str | None = None) -> Interval:
    units = [unit for unit in UNITS if all(unit in row for row in rows)] if rows else []
    if "text" in units or weight:
        return crossed_interval(rows, column, units=units, weight=weight)
    return median_interval(row[column] for row in rows)


def _groups(rows: Rows, by: str, columns: Sequence[str]) -> dict[Any, list[Row]]:
    return {value: group for (value,), group in grouped(records(rows, [by, *columns]), [by]).items()}


def differences(rows: Rows, over: str, baseline: Any, columns: Sequence[str]) -> list[dict[str, Any]]:
    """What changes against a baseline, trial by trial, so that texts and seeds do not blur it.

    Args:
        baseline: value of ``over`` that the others are compared with, such as None for no recogniser.

    Returns:
        A row for each trial that is not of the baseline: ``text``, ``seed``, ``over``, and each column as its
        difference from the baseline's, None where one of the two was not measured.

    Raises:
        InputError: a trial without its baseline, too.
    """
    found = records(rows, [over, *UNITS, *columns])
    of_baseline = {tuple(row[name] for name in UNITS): row for row in found if row[over] == baseline}
    result = []
    for row in found:
        if row[over] == baseline:
            continue
        key = tuple(row[name] for name in UNITS)
        if key not in of_baseline:
            raise InputError(f"no trial with {over}={baseline!r} for {key}: run the baseline on it too")
        pairs = {name: (measured(row[name]), measured(of_baseline[key][name])) for name in columns}
        changed = {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}
        result.append({**dict(zip(UNITS, key, strict=True)), over: row[over], **changed})
    return result


def beside_controls(rows: Rows) -> list[dict[str, Any]]:
    """Each row twice, once with the click at the borders of its chunks and once with that at their control.

    Args:
        rows: trials with ``codec`` and the columns of `csmkit.lab.metrics.seams.seam_metrics`.

    Returns:
        Rows whose ``place`` is such as "streaming, borders" or "streaming, elsewhere", and whose ``seam_click_z`` is
        what was measured there.
    """
    measures = {"borders": "seam_click_z", "elsewhere": "seam_click_control_z"}
    return [
        {**row, "place": f"{row['codec']}, {where}", "seam_click_z": row[measure]}
        for row in records(rows, ["codec", *measures.values()])
        for where, measure in measures.items()
    ]


def variety_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """How differently the seeds said each text: ``text``, ``temperature``, ``topk``, ``n_seeds`` and ``variety``."""
    names = ["text", "temperature", "topk"]
    groups = grouped([{**trial.row, "codes": trial.codes} for trial in trials], names)
    return [
        dict(zip(names, key, strict=True))
        | {"n_seeds": len(group), "variety": variety([row["codes"] for row in group])}
        for key, group in groups.items()
    ]


def extremes(trials: Iterable[Trial], column: str) -> tuple[Trial, Trial]:
    """The trials with the lowest and the highest value of a column, to listen to; of equals the first."""
    found = list(trials)
    known = [(value, trial) for trial in found if (value := measured(trial.row[column])) is not None]
    if not known:
        raise InputError(f"column {column!r} was measured in none of {len(found)} trials: choose another one")
    return min(known, key=itemgetter(0))[1], max(known, key=itemgetter(0))[1]
