"""The columns of a row: one dictionary of names, units, definitions, and how a report sums each of them up.

`columns.txt` holds it, a line a column. Axis labels, tables, margins and docs/metrics.md are made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from csmkit.lab.analysis.rows import is_number
from csmkit.lab.analysis.statistics import Interval

_UNITS = {
    "ms": "ms",
    "s": "s",
    "hz": "Hz",
    "db": "dB",
    "dbfs": "dBFS",
    "lufs": "LUFS",
    "frames": "frames",
    "samples": "samples",
    "mib": "MiB",
    "ratio": "share",
    "share": "share",
    "auc": "probability",
    "z": "residual / MAD",
}
_PERCENTILES = {"p50": "median", "p95": "95th percentile of", "max": "largest"}
_WEIGHTS = {"n_words": "words", "n_letters": "letters"}
_OF_METRIC = {  # the columns of each metric that a report speaks of
    "latency": ("ttfa_ms", "ttfa_audible_ms", "waited_ratio", "max_underrun_ms", "rtf"),
    "codes": ("repeated_ratio",),
    "seams": ("seam_click_auc", "seam_dip_auc", "seam_click_level_db"),
    "artifacts": ("seam_click_auc", "seam_click_level_db", "snr_db", "loudness_lufs"),
    "distances": ("snr_db", "log_spectral_distance_db"),
    "levels": ("silence_ratio", "rms_dbfs"),
    "loudness": ("loudness_lufs",),
    "prosody": ("f0_median_hz", "f0_range_semitones", "words_per_s", "pause_ratio"),
    "dnsmos": ("dnsmos_ovrl",),
}


@dataclass(frozen=True)
class Column:
    """A column of rows, and how a report sums it up.

    Attributes:
        column: name in the rows.
        label: the column in words, with its unit in brackets.
        definition: what it is.
        rows: kind of rows that have it: ``turn``, ``trial``, ``both``, or ``report``, which derives it from other
            columns.
        section: heading in docs/metrics.md.
        weight: column that makes it a weighted mean, as an error rate must be; None is the median.
        digits: behind the point.
        share: whether the figure is a share of trials, whose interval is exact.
        margin: smallest difference that matters; None where nobody has said, and then nothing is chosen by it. Below
            it a setting is never rejected; each is at least ten times what rounding can do.
    """

    column: str
    label: str
    definition: str = ""
    rows: str = "trial"
    section: str = ""
    weight: str | None = None
    digits: int = 3
    share: bool = False
    margin: float | None = None

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


@cache
def columns() -> dict[str, Column]:
    """All known columns by name, in the order of the docs."""
    known: dict[str, Column] = {}
    section = ""
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line and not line.startswith("#"):
            name, rows, label, summary, definition = (part.strip() for part in line.split("|", 4))
            known[name] = Column(name, label or name.replace("_", " "), definition, rows, section, **_summary(summary))
    return known


def _summary(text: str) -> dict[str, Any]:
    """``digits=0 margin=20`` as the fields of a column."""
    kinds: dict[str, Any] = {"digits": int, "margin": float, "weight": str, "share": bool}
    items = (item.partition("=") for item in text.split())
    return {name: kinds[name](value or True) for name, _, value in items}


def axis_label(column: str, values: Iterable[Any] = ()) -> str:
    """A column's label: ``gap_p95_ms`` is "95th percentile of gap (ms)"; a count ``n_clauses`` is "clauses (count)".

    The label of an unknown column follows from its name. Numbers without a known unit say "(no unit)", so that no axis
    is silent about it; names have no unit.

    Args:
        values: what is drawn of it; empty means numbers.
    """
    if column in columns():
        return columns()[column].label
    if not all(is_number(value) for value in values):
        return column.replace("_", " ")
    parts = column.split("_")
    if parts[0] == "n" and len(parts) > 1:
        return f"{' '.join(parts[1:])} (count)"
    unit = _UNITS.get(parts[-1]) if len(parts) > 1 else None
    words = parts[:-1] if unit else parts
    leading = [_PERCENTILES[word] for word in words if word in _PERCENTILES]
    return " ".join([*leading, *(word for word in words if word not in _PERCENTILES), f"({unit or 'no unit'})"])


def in_words(column: str) -> str:
    """A column's name in a sentence: ``snr_db`` is "signal-to-noise ratio"."""
    return axis_label(column).partition(" (")[0]


def column_of(name: str, margins: Mapping[str, float] | None = None) -> Column:
    """How a column is summed up; ``margins`` are in place of its own margin, or beside it."""
    found = columns().get(name, Column(name, axis_label(name)))
    return replace(found, margin=(margins or {}).get(name, found.margin))


def headlines(
    metrics: Sequence[str], rows: Iterable[Mapping[str, Any]], margins: Mapping[str, float] | None = None
) -> list[Column]:
    """The columns to speak of: those of the metrics that were measured at least once, and how speech ended."""
    kept = list(rows)
    wanted = [column for name in metrics for column in _OF_METRIC.get(name, (name.rpartition(":")[2],))]
    if "latency" in metrics and "wer" in metrics:
        wanted.append("final_after_ms")
    wanted.append("ended_ratio")
    measured_once = (name for name in dict.fromkeys(wanted) if any(is_number(row.get(name)) for row in kept))
    return [column_of(name, margins) for name in measured_once]
