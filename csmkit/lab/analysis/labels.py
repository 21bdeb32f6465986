"""A column's name in words: with its unit on an axis, without it in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from csmkit.lab.analysis.rows import is_number

_NAMES = {  # where the words do not follow from the column's name
    "ttfa_ms": "time to first audio (ms)",
    "rtf": "real-time factor (s/s)",
    "wer": "word error rate (errors/word)",
    "cer": "character error rate (errors/letter)",
    "chunk_frames": "chunk size (frames of 80 ms)",
    "temperature": "temperature (no unit)",
    "topk": "top-k (codes)",
    "whisper": "Whisper model",
    "topp": "top-p (share)",
    "seed": "seed (number)",
    "context_turns": "earlier turns (count)",
    "max_audio_length_ms": "longest speech (ms)",
    "snr_db": "signal-to-noise ratio (dB)",
    "max_abs_error": "largest error (full scale = 1)",
    "dc_offset": "DC offset (full scale = 1)",
}
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


def axis_label(column: str, values: Iterable[Any] = ()) -> str:
    """A column's label: ``gap_p95_ms`` is "95th percentile of gap (ms)"; a count ``n_clauses`` is "clauses (count)".

    Numbers without a known unit say "(no unit)", so that no axis is silent about it; names have none to tell.

    Args:
        column: its name.
        values: what is drawn of it; empty means numbers.
    """
    if not all(is_number(value) for value in values):
        return _NAMES.get(column, column.replace("_", " "))
    if column in _NAMES:
        return _NAMES[column]
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
