"""The former place of `csmkit.lab.analysis.questions`, kept for old imports."""

from csmkit.lab.analysis.questions import (
    chunk_finding,
    interval_table,
    range_finding,
    said,
    seam_finding,
    turn_finding,
    whisper_finding,
)

__all__ = [
    "chunk_finding",
    "interval_table",
    "range_finding",
    "said",
    "seam_finding",
    "turn_finding",
    "whisper_finding",
]
