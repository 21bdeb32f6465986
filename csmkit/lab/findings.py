"""What rows say, in sentences: each number in them is computed from the rows, for a notebook's text and a report.

Intervals are of 95 %, over texts and seeds where all rows name them, else over rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from csmkit.errors import InputError
from csmkit.lab.labels import axis_label, in_words
from csmkit.lab.rows import measured, records
from csmkit.lab.statistics import UNITS, Interval, crossed_interval, median_interval

if TYPE_CHECKING:
    from csmkit.lab.rows import Row, Rows

LIKE_ANYWHERE = 0.75  # borders count as worse than other places where they surely are in three of four draws


def said(interval: Interval, unit: str = "", form: str = ".0f") -> str:
    """A figure in words, such as "52 ms (50 to 61, n = 6)"; "not measured" without one."""
    if interval.median is None:
        return "not measured"
    value = f"{interval.median:{form}}{' ' if unit else ''}{unit}"
    bounds = _bounds(interval, form)
    return f"{value} ({', '.join(filter(None, [bounds, f'n = {interval.n}']))})"


def _bounds(interval: Interval, form: str) -> str:
    """From where to where it may lie; empty where that is not known."""
    known = interval.low is not None and interval.high is not None
    return f"{interval.low:{form}} to {interval.high:{form}}" if known else ""


def chunk_finding(rows: Rows) -> str:
    """Which chunk size or schedule to choose: of those without an underrun, the one that is heard first.

    Args:
        rows: trials of one codec, with ``chunk_frames``, ``ttfa_ms``, ``n_underruns`` and ``rtf``.

    Raises:
        InputError: no rows, a missing column, or time to first audio in no row.
    """
    groups = _groups(rows, "chunk_frames", ["ttfa_ms", "n_underruns", "rtf"])
    smooth = {
        size: group for size, group in groups.items() if not any(measured(row["n_underruns"]) or 0 for row in group)
    }
    first = {size: _interval(group, "ttfa_ms") for size, group in (smooth or groups).items()}
    heard = {size: interval for size, interval in first.items() if interval.median is not None}
    if not heard:
        raise InputError("ttfa_ms was measured in no row: nothing was spoken")
    choice = min(heard, key=lambda size: heard[size].median or 0.0)
    without = f"{len(smooth)} of {len(groups)} sizes played every trial without an underrun. "
    advice = f"Of them, chunks of **{choice}** are heard first: {said(heard[choice], 'ms')}."
    if not smooth:
        advice = (
            f"This machine is slower than the voice speaks, so none is smooth; chunks of **{choice}** are heard first, "
            f"{said(heard[choice], 'ms')}, and need a lead before playback."
        )
    return without + advice + " " + _overhead(groups)


def _overhead(groups: dict[Any, list[Row]]) -> str:
    """How much longer a second of sound takes in the chunks that cost most than in those that cost least."""
    factors = {size: _interval(group, "rtf") for size, group in groups.items()}
    known = {size: factor.median for size, factor in factors.items() if factor.median is not None}
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    more = 100 * (known[most] / known[least] - 1)
    return (
        f"The real-time factor goes from {known[least]:.3f} (chunks of {least}) to {known[most]:.3f} ({most}), "
        f"{more:.0f} % more; {_apart(factors[least], factors[most])}."
    )


def seam_finding(rows: Rows, figure: str = "seam_click") -> str:
    """Whether borders of chunks are worse than other places, for each codec.

    Args:
        rows: trials with ``codec`` and the columns of `csmkit.lab.seams.seam_metrics`.
        figure: of a border: ``seam_click``, ``seam_dip`` or ``seam_step``.

    Raises:
        InputError: no rows, or a missing column.
    """
    unit = "z" if figure == "seam_click" else "db"
    here, control, auc = f"{figure}_{unit}", f"{figure}_control_{unit}", f"{figure}_auc"
    sentences = []
    for codec, group in _groups(rows, "codec", [here, control, auc]).items():
        likely = _interval(group, auc)
        if likely.median is None:
            sentences.append(f"**{codec}**: no border to judge.")
            continue
        surely = likely.median if likely.low is None else likely.low
        verdict = "worse than" if surely > LIKE_ANYWHERE else "like"
        figures = [said(_interval(group, name), form=".1f") for name in (here, control)]
        sentences.append(
            f"**{codec}**: borders are {verdict} other places of the same sound: {figures[0]} against "
            f"{figures[1]} elsewhere; a border is the worse of the two with probability {likely.median:.2f}."
        )
    return " ".join(sentences)


def range_finding(
    rows: Rows, parameter: str, metric: str, form: str = ".2f", unit: str = "", weight: str | None = None
) -> str:
    """Where a metric is lowest and highest over a parameter, and whether the intervals are apart.

    Args:
        rows: one a trial.
        parameter: column that was varied.
        metric: column that was measured.
        form: of its numbers.
        unit: behind them.
        weight: column that makes it a weighted mean, such as ``n_words`` for an error rate; None is the median.

    Raises:
        InputError: no rows, a missing column, or nothing measured.
    """
    groups = _groups(rows, parameter, [metric, *([weight] if weight else [])])
    figures = {value: _interval(group, metric, weight) for value, group in groups.items()}
    known = {value: figure.median for value, figure in figures.items() if figure.median is not None}
    if not known:
        raise InputError(f"column {metric!r} was measured in no row: choose another metric")
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    name = ("mean " if weight else "median ") + in_words(metric)
    if known[low] == known[high]:
        value = f"{known[low]:{form}}{' ' if unit else ''}{unit}"
        return f"The {name} is {value} at every {in_words(parameter)}."
    return (
        f"The {name} is lowest at {in_words(parameter)} {low}, {said(figures[low], unit, form)}, and highest at "
        f"{high}, {said(figures[high], unit, form)}; {_apart(figures[low], figures[high])}."
    )


def interval_table(rows: Rows, parameter: str, metrics: Sequence[str], form: str = ".3g") -> list[dict[str, Any]]:
    """The medians of several metrics with their intervals as text: one row each value of a parameter.

    Args:
        rows: one a trial.
        parameter: column that was varied.
        metrics: columns that were measured.
        form: of the numbers.

    Raises:
        InputError: no rows, or a missing column.
    """
    return [
        {
            axis_label(parameter): str(value),
            "trials": len(group),
            **{axis_label(metric): _cell(_interval(group, metric), form) for metric in metrics},
        }
        for value, group in _groups(rows, parameter, metrics).items()
    ]


def _cell(interval: Interval, form: str) -> str:
    bounds = _bounds(interval, form)
    value = "–" if interval.median is None else f"{interval.median:{form}}"
    return f"{value} ({bounds})" if bounds else value


def whisper_finding(rows: Rows, added: Rows) -> str:
    """What each recogniser gets wrong and what it costs the voice.

    Args:
        rows: trials with ``whisper``, ``wer``, ``n_words``, ``n_revised_words`` and ``asr_lag_p50_ms``.
        added: `csmkit.lab.comparisons.differences` of ``rtf`` and ``cpu_s`` over ``whisper``.

    Raises:
        InputError: no rows, or a missing column.
    """
    costs = _groups(added, "whisper", ["rtf", "cpu_s"])
    sentences = []
    heard = [row for row in records(rows, ["whisper"]) if row["whisper"] is not None]
    for name, group in _groups(heard, "whisper", ["wer", "n_words", "n_revised_words", "asr_lag_p50_ms"]).items():
        wer, lag = _interval(group, "wer", "n_words"), _interval(group, "asr_lag_p50_ms")
        revised = sum(measured(row["n_revised_words"]) or 0 for row in group)
        n_words = sum(row["n_words"] for row in group)
        slower = _interval(costs.get(name, []), "rtf")
        sentences.append(
            f"- **{name}**: {said(wer, form='.1%')} word errors, {revised:.0f} of {n_words} words "
            f"committed and yet changed, text {said(lag, 'ms')} behind the sound; the real-time factor of the "
            f"voice changes by {said(slower, form='+.3f')}."
        )
    return "\n".join(sentences)


def turn_finding(metrics: Row) -> str:
    """Where the time of a turn went until something was heard.

    Args:
        metrics: of a turn's ``complete`` event.
    """
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
    return f"{line[0].upper()}{line[1:]}; {metrics['audio_s']:.2f} s of sound at a real-time factor of {_rtf(metrics)}."


def _rtf(metrics: Row) -> str:
    return "–" if metrics.get("rtf") is None else f"{metrics['rtf']:.2f}"


def _interval(rows: Sequence[Row], column: str, weight: str | None = None) -> Interval:
    units = UNITS if all(unit in row for row in rows for unit in UNITS) else ()
    if units:
        return crossed_interval(rows, column, units=units, weight=weight)
    if weight:
        return replace(crossed_interval(rows, column, units=(), weight=weight), low=None, high=None)  # nothing is drawn
    return median_interval(row[column] for row in rows)


def _apart(low: Interval, high: Interval) -> str:
    """Whether the data tell two figures from each other."""
    if low.high is None or high.low is None:
        return "too few trials to say how sure that is"
    return "the intervals are apart" if low.high < high.low else "the intervals overlap: more seeds or texts could tell"


def _groups(rows: Rows, by: str, columns: Sequence[str]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in records(rows, [by, *columns]):
        key = tuple(row[by]) if isinstance(row[by], list) else row[by]
        groups.setdefault(key, []).append(row)
    return groups
