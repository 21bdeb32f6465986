"""Which columns of a metric a report speaks of, and how each is summed up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csmkit.lab.labels import axis_label
from csmkit.lab.rows import is_number
from csmkit.reasons import END_OF_SPEECH

if TYPE_CHECKING:
    from csmkit.lab.statistics import Interval


@dataclass(frozen=True)
class Headline:
    """A column of a report.

    Attributes:
        column: of the rows.
        weight: column that makes it a weighted mean, as an error rate must be; None is the median.
        digits: behind the point.
    """

    column: str
    weight: str | None = None
    digits: int = 3

    @property
    def label(self) -> str:
        """In words, with its unit."""
        return _LABELS.get(self.column, axis_label(self.column))

    @property
    def statistic(self) -> str:
        """What the figure is."""
        return f"mean by {_WEIGHTS[self.weight]}" if self.weight else "median"

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


_WEIGHTS = {"n_words": "words", "n_letters": "letters", "n_trials": "trials"}
_LABELS = {
    "ended_ratio": "ended by itself (share of trials)",
    "final_after_ms": "final text after the last chunk (ms)",
    "seam_click_auc": "a border clicks more than elsewhere (probability)",
    "seam_dip_auc": "a border dips more than elsewhere (probability)",
    "repeated_frames_ratio": "repeated frames (share)",
    "max_underrun_ms": "longest wait of playback (ms)",
}
_OF_METRIC: dict[str, tuple[Headline, ...]] = {
    "latency": (Headline("ttfa_ms", digits=0), Headline("max_underrun_ms", digits=0), Headline("rtf")),
    "wer": (Headline("wer", "n_words"),),
    "cer": (Headline("cer", "n_letters"),),
    "codes": (Headline("repeated_frames_ratio"),),
    "seams": (Headline("seam_click_auc"), Headline("seam_dip_auc")),
    "artifacts": (Headline("seam_click_auc"), Headline("snr_db", digits=1), Headline("loudness_lufs", digits=2)),
    "distances": (Headline("snr_db", digits=1), Headline("log_spectral_distance_db", digits=2)),
    "levels": (Headline("silence_ratio"), Headline("rms_dbfs", digits=1)),
}


def headlines(metrics: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[Headline]:
    """The columns to speak of: those of the metrics that were measured at least once, and how speech ended."""
    kept = list(rows)
    wanted = [headline for name in metrics for headline in _OF_METRIC.get(name, (Headline(name.rpartition(":")[2]),))]
    if "latency" in metrics and "wer" in metrics:
        wanted.append(Headline("final_after_ms", digits=0))
    wanted.append(Headline("ended_ratio", "n_trials"))
    return [item for item in dict.fromkeys(wanted) if any(is_number(row.get(item.column)) for row in kept)]


def with_derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as reports take it: schedules as tuples, and what follows from its other columns."""
    ended = None if row.get("error") else float(row.get("finish_reason") == END_OF_SPEECH)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return {**plain, "ended_ratio": ended, "n_trials": 1}
