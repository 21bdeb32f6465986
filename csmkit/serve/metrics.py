"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

import os
import sys
import threading
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path

FIRST_AUDIO_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)  # upper bounds of the histogram's buckets
Labels = tuple[tuple[str, str], ...]

HELP = {
    "csmkit_requests_total": ("counter", "Requests by route and status."),
    "csmkit_refused_total": ("counter", "Requests that were refused, by reason."),
    "csmkit_clients_left_total": ("counter", "Clients that left before their answer was complete, by route."),
    "csmkit_audio_seconds_total": ("counter", "Sound that was generated, in seconds, by route."),
    "csmkit_first_audio_seconds": ("histogram", "From a request to its first chunk of sound."),
    "csmkit_streams": ("gauge", "Utterances that are being generated."),
    "csmkit_waiting": ("gauge", "Requests that wait for a stream."),
    "csmkit_sessions": ("gauge", "Open conversations."),
    "csmkit_ready": ("gauge", "Whether requests are answered: 1, or 0 while loading or draining."),
    "process_resident_memory_bytes": ("gauge", "Memory of the process."),
    "process_open_fds": ("gauge", "Open file descriptors."),
    "process_threads": ("gauge", "Threads of the process."),
}


class Metrics:
    """Counters and one histogram. Any thread may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], float] = defaultdict(float)
        self._bars = [0] * (len(FIRST_AUDIO_S) + 1)
        self._sum_s = 0.0

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to a counter of `HELP`."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += by

    def first_audio(self, seconds: float) -> None:
        """Note how long a client waited for its first chunk."""
        with self._lock:
            self._bars[bisect_left(FIRST_AUDIO_S, seconds)] += 1
            self._sum_s += seconds

    def text(self, gauges: dict[str, float]) -> str:
        """Everything as Prometheus reads it."""
        with self._lock:
            counts, bars, sum_s = dict(self._counts), list(self._bars), self._sum_s
        lines: list[str] = []
        for name, (kind, meaning) in HELP.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_labels(labels)} {value:g}" for (key, labels), value in counts.items() if key == name]
            if name in gauges:
                lines.append(f"{name} {gauges[name]:g}")
            if kind == "histogram":
                lines += _histogram(name, bars, sum_s)
        return "\n".join(lines) + "\n"


def _histogram(name: str, bars: list[int], sum_s: float) -> list[str]:
    lines, total = [], 0
    for bound, count in zip((*(f"{bound:g}" for bound in FIRST_AUDIO_S), "+Inf"), bars, strict=True):
        total += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
    return [*lines, f"{name}_sum {sum_s:g}", f"{name}_count {total}"]


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def process_gauges() -> dict[str, float]:
    """Memory, threads and open files of this process; values that the system does not give are left out."""
    gauges: dict[str, float] = {"process_threads": threading.active_count()}
    if sys.platform == "linux":
        n_pages = int(Path("/proc/self/statm").read_text().split()[1])
        gauges["process_resident_memory_bytes"] = n_pages * os.sysconf("SC_PAGE_SIZE")
        gauges["process_open_fds"] = len(os.listdir("/proc/self/fd"))
    return gauges
