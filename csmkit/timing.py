"""Latency figures from the times at which chunks of sound arrive: first audio, gaps, underruns, pre-buffer, pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PACE_MARGIN = 1.1  # a pace is a mean: single chunks take longer

Hold = float | Literal["auto"]


@dataclass
class Arrivals:
    """The chunks of one answer, in the order in which they were delivered.

    Attributes:
        times_s: seconds from the call until each chunk was delivered.
        durations_s: seconds of sound in each chunk.
    """

    times_s: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)

    def add(self, time_s: float, duration_s: float) -> None:
        """Add a chunk."""
        self.times_s.append(time_s)
        self.durations_s.append(duration_s)

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def first_s(self) -> float | None:
        """Time to first audio: from the call to the first chunk, everything included; None without a chunk."""
        return self.times_s[0] if self.times_s else None

    @property
    def audio_s(self) -> float:
        """Total seconds of sound."""
        return sum(self.durations_s)

    @property
    def pace(self) -> float | None:
        """Seconds that a second of sound took after the first chunk; None before the second chunk."""
        later_s = sum(self.durations_s[1:])
        return (self.times_s[-1] - self.times_s[0]) / later_s if later_s else None

    @property
    def start_delay_s(self) -> float:
        """Seconds that the first chunk has to be delayed for the others to play without a gap: the pre-buffer."""
        slack = self.slack_s()
        return max(0.0, float(slack.max())) if len(slack) else 0.0

    def starts_s(self) -> list[float]:
        """When each chunk is played: playback starts with the first one, queues early ones and waits for late ones."""
        starts: list[float] = []
        free_s = 0.0
        for time_s, duration_s in zip(self.times_s, self.durations_s, strict=True):
            starts.append(max(free_s, time_s))
            free_s = starts[-1] + duration_s
        return starts

    def heard_at_s(self, offset_s: float) -> float | None:
        """When a listener who plays at once hears the sound at ``offset_s`` seconds from its first sample.

        None where the sound is shorter.
        """
        for start_s, duration_s in zip(self.starts_s(), self.durations_s, strict=True):
            if offset_s < duration_s:
                return start_s + offset_s
            offset_s -= duration_s
        return None

    def slack_s(self) -> np.ndarray:
        """Seconds by which each chunk after the first was late, ``(n - 1,)``; negative is early.

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
            "max_underrun_ms": self.start_delay_s * 1000 if several else None,
            "n_underruns": int((slack > 0).sum()) if several else None,
            "rtf": self.times_s[-1] / self.audio_s if self.audio_s else None,
            "audio_s": self.audio_s,
            "n_chunks": len(self),
        }


@dataclass
class Prebuffer:
    """Decides when sound that is still being generated may begin to play.

    Attributes:
        hold: milliseconds that the first chunk is delayed; "auto" delays it until the rest will be generated in time.
        longest_chunk_s: duration of the longest chunk to come, in seconds.
        known_pace: `Arrivals.pace` of earlier speech, used until this one has a pace; None without one.
        begun: whether playback has been allowed; it does not change back.
    """

    hold: Hold = 0.0
    longest_chunk_s: float = 0.0
    known_pace: float | None = None
    begun: bool = False

    def may_begin(self, made: Arrivals, now_s: float, expected_s: float | None) -> bool:
        """Whether playback may begin.

        With "auto" it may begin when, at a pace a tenth slower than so far, every later chunk arrives before the chunks
        before it have played. With B of L seconds generated, at pace r, the last chunk of d seconds is in time if
        ``(L - B) r <= L - d``, and the next one if ``d r <= B``.

        Args:
            made: the chunks generated so far.
            now_s: present time in seconds, by the clock that timed the chunks.
            expected_s: total seconds of sound to expect, L; None while that is unknown.
        """
        if not self.begun and len(made):
            in_time = self._in_time(made, expected_s)
            self.begun = in_time if self.hold == "auto" else now_s >= made.times_s[0] + self.hold / 1000
        return self.begun

    def left_s(self, made: Arrivals, now_s: float) -> float | None:
        """Seconds until a delayed first chunk is due; None where that does not depend on time alone."""
        if self.begun or self.hold == "auto" or not len(made):
            return None
        return max(0.0, made.times_s[0] + self.hold / 1000 - now_s)

    def _in_time(self, made: Arrivals, expected_s: float | None) -> bool:
        pace = self.known_pace if made.pace is None else made.pace
        if pace is None:
            return False
        pace *= PACE_MARGIN
        if self.longest_chunk_s * pace > made.audio_s:
            return False
        if pace <= 1:
            return True
        return expected_s is not None and (expected_s - made.audio_s) * pace <= expected_s - self.longest_chunk_s
