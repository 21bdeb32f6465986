"""When sound arrived, and what that means for a listener: time to first audio, gaps, underruns, real-time factor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Arrivals:
    """The chunks of one answer, in the order they were handed out.

    Attributes:
        times_s: seconds from the call until each chunk was handed out.
        durations_s: seconds of sound in each.
    """

    times_s: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)

    def add(self, time_s: float, duration_s: float) -> None:
        """Note a chunk."""
        self.times_s.append(time_s)
        self.durations_s.append(duration_s)

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def first_s(self) -> float | None:
        """Time to first audio: from the call to the first chunk, whatever had to be waited for; None without one."""
        return self.times_s[0] if self.times_s else None

    @property
    def audio_s(self) -> float:
        """Seconds of sound in all."""
        return sum(self.durations_s)

    def slack_s(self) -> np.ndarray:
        """How late each chunk after the first came, ``(n - 1,)``; negative is early.

        A listener who starts with the first chunk needs chunk i when the ones before it have played:
        ``slack_i = (t_i - t_0) - sum_{j<i} d_j``.
        """
        if len(self) < 2:
            return np.zeros(0)
        return np.array(self.times_s[1:]) - self.times_s[0] - np.cumsum(self.durations_s)[:-1]

    def row(self) -> dict[str, float | int | None]:
        """The figures as a flat row; None where there is nothing to measure, never zero.

        ``ttfa_ms`` time to first audio · ``gap_p50_ms``, ``gap_p95_ms`` between chunks · ``max_underrun_ms`` lateness
        of the latest chunk, which is also the pre-buffer that would have played without a gap · ``n_underruns`` chunks
        that came late · ``rtf`` time from the call to the last chunk over seconds of sound (below 1 is faster than real
        time) · ``audio_s`` · ``n_chunks``.
        """
        gaps = np.diff(self.times_s) * 1000
        slack = self.slack_s()
        several = len(self) > 1
        return {
            "ttfa_ms": None if self.first_s is None else self.first_s * 1000,
            "gap_p50_ms": float(np.percentile(gaps, 50)) if several else None,
            "gap_p95_ms": float(np.percentile(gaps, 95)) if several else None,
            "max_underrun_ms": max(0.0, float(slack.max()) * 1000) if several else None,
            "n_underruns": int((slack > 0).sum()) if several else None,
            "rtf": self.times_s[-1] / self.audio_s if self.audio_s else None,
            "audio_s": self.audio_s,
            "n_chunks": len(self),
        }
