"""Which columns of a metric are spoken of, how each is summed up, and the smallest difference that matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from csmkit.lab.analysis.labels import axis_label
from csmkit.lab.analysis.rows import is_number, measured
from csmkit.speech.streams import END_OF_SPEECH

if TYPE_CHECKING:
    from csmkit.lab.analysis.statistics import Interval


# The smallest difference that matters, in the figure's unit. Below it a setting is never rejected, and settings whose
# difference is shown to be within it are called equal. Each is at least ten times what rounding can do.
MARGINS = {
    "ended_ratio": 0.05,  # one answer in twenty
    "waited_ratio": 0.05,
    "repeated_ratio": 0.05,
    "wer": 0.03,  # one word in thirty
    "cer": 0.015,
    "max_underrun_ms": 20,  # a gap of 20 ms is heard as one
    "ttfa_ms": 20,  # a quarter of a frame, a tenth of the pause between speakers (Stivers et al., PNAS 2009)
    "ttfa_audible_ms": 20,
    "final_after_ms": 20,
    "first_partial_ms": 50,
    "asr_lag_p50_ms": 20,
    "gap_p95_ms": 20,
    "rtf": 0.05,  # one twentieth of real time
    "cpu_s": 0.05,
    "seam_click_auc": 0.1,  # 0.5 is "like anywhere else"
    "seam_dip_auc": 0.1,
    "seam_step_auc": 0.1,
    "seam_click_level_db": 3,
    "snr_db": 3,
    "log_spectral_distance_db": 1,
    "loudness_lufs": 1,  # about the smallest change in loudness that is noticed
    "rms_dbfs": 1,
    "silence_ratio": 0.05,
    "repeated_frames_ratio": 0.01,
    "longest_silence_ms": 50,
    "audio_s": 0.2,
    "variety": 0.05,
}
MOST_SNR_DB = 96.0  # 16-bit sound has no more: above it differences are those of rounding
LATE_MS = 5.0  # a chunk that is later than this made playback wait


@dataclass(frozen=True)
class Headline:
    """A column of a report.

    Attributes:
        column: of the rows.
        weight: column that makes it a weighted mean, as an error rate must be; None is the median.
        digits: behind the point.
        share: it is a share of trials, whose interval is exact.
        margin: smallest difference that matters; None where nobody has said, and then nothing is chosen by it.
    """

    column: str
    weight: str | None = None
    digits: int = 3
    share: bool = False
    margin: float | None = None

    @property
    def label(self) -> str:
        """In words, with its unit."""
        return _LABELS.get(self.column, axis_label(self.column))

    @property
    def statistic(self) -> str:
        """What the figure is."""
        return f"mean by {_WEIGHTS[self.weight]}" if self.weight else "share of trials" if self.share else "median"

    def text(self, value: float | None) -> str:
        """A value as tables have it."""
        if value is None:
            return "–"
        text = f"{value:.{self.digits}f}"
        return text.removeprefix("-") if float(text) == 0 else text

    def with_interval(self, interval: Interval, *, signed: bool = False) -> str:
        """A figure and its interval as text; ``signed`` puts a plus before what is above zero."""
        if interval.median is None:
            return "–"
        sign = "+" if signed and float(self.text(interval.median)) > 0 else ""
        bounds = "" if interval.low is None else f" [{self.text(interval.low)}, {self.text(interval.high)}]"
        return f"{sign}{self.text(interval.median)}{bounds}"


_WEIGHTS = {"n_words": "words", "n_letters": "letters"}
_LABELS = {
    "ended_ratio": "ended by itself (share of trials)",
    "final_after_ms": "final text after the last chunk (ms)",
    "waited_ratio": "playback had to wait (share of trials)",
    "repeated_ratio": "repeated itself (share of trials)",
    "snr_db": "signal-to-noise ratio (dB, at most 96)",
    "seam_click_level_db": "loudest click at borders beside the speech (dB)",
    "seam_click_auc": "a border clicks more than elsewhere (probability)",
    "seam_dip_auc": "a border dips more than elsewhere (probability)",
    "repeated_frames_ratio": "repeated frames (share)",
    "max_underrun_ms": "longest wait of playback (ms)",
}
_OF_METRIC: dict[str, tuple[Headline, ...]] = {
    "latency": (
        Headline("ttfa_ms", digits=0),
        Headline("waited_ratio", share=True),
        Headline("max_underrun_ms", digits=0),
        Headline("rtf"),
    ),
    "wer": (Headline("wer", "n_words"),),
    "cer": (Headline("cer", "n_letters"),),
    "codes": (Headline("repeated_ratio", share=True),),
    "seams": (Headline("seam_click_auc"), Headline("seam_dip_auc"), Headline("seam_click_level_db", digits=1)),
    "artifacts": (
        Headline("seam_click_auc"),
        Headline("seam_click_level_db", digits=1),
        Headline("snr_db", digits=1),
        Headline("loudness_lufs", digits=2),
    ),
    "distances": (Headline("snr_db", digits=1), Headline("log_spectral_distance_db", digits=2)),
    "levels": (Headline("silence_ratio"), Headline("rms_dbfs", digits=1)),
}
_ALONE = {  # columns that no metric above brings by itself
    "final_after_ms": Headline("final_after_ms", digits=0),
    "first_partial_ms": Headline("first_partial_ms", digits=0),
    "asr_lag_p50_ms": Headline("asr_lag_p50_ms", digits=0),
    "gap_p95_ms": Headline("gap_p95_ms", digits=0),
    "longest_silence_ms": Headline("longest_silence_ms", digits=0),
    "audio_s": Headline("audio_s", digits=2),
}
ENDED = Headline("ended_ratio", share=True)


def headline_of(column: str, margins: Mapping[str, float] | None = None) -> Headline:
    """How a column is summed up, with its margin: that of ``margins``, else that of `MARGINS`."""
    known = {item.column: item for items in _OF_METRIC.values() for item in items} | _ALONE | {ENDED.column: ENDED}
    item = known.get(column, Headline(column))
    return replace(item, margin={**MARGINS, **(margins or {})}.get(column))


def headlines(
    metrics: Sequence[str], rows: Iterable[Mapping[str, Any]], margins: Mapping[str, float] | None = None
) -> list[Headline]:
    """The columns to speak of: those of the metrics that were measured at least once, and how speech ended.

    Args:
        metrics: names of metrics, or of columns.
        rows: one a trial, as `with_derived` makes them.
        margins: smallest difference that matters of a column, in place of `MARGINS` or beside it.
    """
    kept = list(rows)
    wanted = [
        item.column
        for name in metrics
        for item in _OF_METRIC.get(name, (Headline(name if name in _ALONE else name.rpartition(":")[2]),))
    ]
    if "latency" in metrics and "wer" in metrics:
        wanted.append("final_after_ms")
    wanted.append(ENDED.column)
    measured_once = (name for name in dict.fromkeys(wanted) if any(is_number(row.get(name)) for row in kept))
    return [headline_of(name, margins) for name in measured_once]


def with_derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as reports take it: schedules as tuples, and what follows from its other columns."""
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
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
