"""What rows say, in sentences: each number in them is computed from the rows, for a notebook's text and a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.errors import InputError
from csmkit.lab.rows import measured, records
from csmkit.lab.statistics import Interval, median_interval, summary_rows

if TYPE_CHECKING:
    from csmkit.lab.rows import Row, Rows

LIKE_ANYWHERE = 0.75  # borders count as worse than other places where they surely are in three of four draws


def said(interval: Interval, unit: str = "", form: str = ".0f") -> str:
    """A median in words, such as "52 ms (50 to 61, n = 6)"; "not measured" without one."""
    if interval.median is None:
        return "not measured"
    value = f"{interval.median:{form}}{' ' if unit else ''}{unit}"
    if interval.low is None or interval.high is None:
        return f"{value} (n = {interval.n})"
    return f"{value} ({interval.low:{form}} to {interval.high:{form}}, n = {interval.n})"


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
    first = {size: median_interval(row["ttfa_ms"] for row in group) for size, group in (smooth or groups).items()}
    heard = {size: interval for size, interval in first.items() if interval.median is not None}
    if not heard:
        raise InputError("ttfa_ms was measured in no row: nothing was spoken")
    choice = min(heard, key=lambda size: heard[size].median or 0.0)
    without = f"{len(smooth)} of {len(groups)} sizes played every trial without an underrun. "
    advice = f"Of them, **{choice}** is heard first: {said(heard[choice], 'ms')}."
    if not smooth:
        advice = (
            f"This machine is slower than the voice speaks, so none is smooth; **{choice}** is heard first, "
            f"{said(heard[choice], 'ms')}, and needs a lead before playback."
        )
    return without + advice + " " + _overhead(groups)


def _overhead(groups: dict[Any, list[Row]]) -> str:
    """How much longer a second of sound takes in the chunks that cost most than in those that cost least."""
    factors = {size: median_interval(row["rtf"] for row in group).median for size, group in groups.items()}
    known = {size: factor for size, factor in factors.items() if factor is not None}
    least, most = min(known, key=lambda size: known[size]), max(known, key=lambda size: known[size])
    more = 100 * (known[most] / known[least] - 1)
    return (
        f"The real-time factor goes from {known[least]:.3f} (chunks of {least}) to {known[most]:.3f} ({most}), "
        f"{more:.0f} % more."
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
        likely = median_interval(row[auc] for row in group)
        if likely.median is None:
            sentences.append(f"**{codec}**: no border to judge.")
            continue
        surely = likely.median if likely.low is None else likely.low
        verdict = "worse than" if surely > LIKE_ANYWHERE else "like"
        figures = [said(median_interval(row[name] for row in group), form=".1f") for name in (here, control)]
        sentences.append(
            f"**{codec}**: borders are {verdict} other places of the same sound: {figures[0]} against "
            f"{figures[1]} elsewhere; a border is the worse of the two with probability {likely.median:.2f}."
        )
    return " ".join(sentences)


def range_finding(rows: Rows, parameter: str, metric: str, form: str = ".2f", unit: str = "") -> str:
    """Where a metric is lowest and highest over a parameter, and whether the intervals are apart.

    Args:
        rows: one a trial.
        parameter: column that was varied.
        metric: column that was measured.
        form: of its numbers.
        unit: behind them.

    Raises:
        InputError: no rows, a missing column, or nothing measured.
    """
    summary = [row for row in summary_rows(rows, parameter, metric) if row["median"] is not None]
    if not summary:
        raise InputError(f"column {metric!r} was measured in no row: choose another metric")
    low, high = min(summary, key=lambda row: row["median"]), max(summary, key=lambda row: row["median"])
    if low["median"] == high["median"]:
        value = f"{low['median']:{form}}{' ' if unit else ''}{unit}"
        return f"The median of {metric} is {value} at every {parameter}."
    ends = [_interval(row) for row in (low, high)]
    apart = ends[0].high is not None and ends[1].low is not None and ends[0].high < ends[1].low
    sure = "the intervals are apart" if apart else "the intervals overlap: more seeds or texts could tell"
    return (
        f"{metric} is lowest at {parameter} {low[parameter]}, {said(ends[0], unit, form)}, and highest at "
        f"{high[parameter]}, {said(ends[1], unit, form)}; {sure}."
    )


def whisper_finding(rows: Rows, added: Rows) -> str:
    """What each recogniser gets wrong and what it costs the voice.

    Args:
        rows: trials with ``whisper``, ``wer``, ``first_partial_ms`` and ``asr_lag_p50_ms``.
        added: `csmkit.lab.comparisons.differences` of ``rtf`` and ``cpu_s`` over ``whisper``.

    Raises:
        InputError: no rows, or a missing column.
    """
    costs = _groups(added, "whisper", ["rtf", "cpu_s"])
    sentences = []
    heard = [row for row in records(rows, ["whisper"]) if row["whisper"] is not None]
    for name, group in _groups(heard, "whisper", ["wer", "first_partial_ms", "asr_lag_p50_ms"]).items():
        wer = np.mean([row["wer"] for row in group])
        lag = median_interval(row["asr_lag_p50_ms"] for row in group)
        slower = median_interval(row["rtf"] for row in costs.get(name, []))
        sentences.append(
            f"**{name}**: {wer:.1%} word errors on average over {len(group)} trials, text {said(lag, 'ms')} behind the "
            f"sound; the real-time factor of the voice changes by {said(slower, form='+.3f')}."
        )
    return " ".join(sentences)


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


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["median"], row["low"], row["high"], row["n"])


def _groups(rows: Rows, by: str, columns: Sequence[str]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in records(rows, [by, *columns]):
        key = tuple(row[by]) if isinstance(row[by], list) else row[by]
        groups.setdefault(key, []).append(row)
    return groups
