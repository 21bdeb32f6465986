"""When sound arrived, and what that means for a listener: first audio, gaps, underruns, pre-buffer, pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PACE_MARGIN = 1.1  # a pace is a mean: chunks scatter around it

Hold = float | Literal["auto"]


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

    @property
    def pace(self) -> float | None:
        """Seconds that a second of sound took after the first chunk, without the wait for that; None before there is
        a second one."""
        later_s = sum(self.durations_s[1:])
        return (self.times_s[-1] - self.times_s[0]) / later_s if later_s else None

    @property
    def start_delay_s(self) -> float:
        """How long the first chunk has to be held back for the others to play without a gap: the pre-buffer."""
        slack = self.slack_s()
        return max(0.0, float(slack.max())) if len(slack) else 0.0

    def starts_s(self) -> list[float]:
        """When each chunk is heard: playing starts with the first, queues early ones and waits for late ones."""
        starts: list[float] = []
        free_s = 0.0
        for time_s, duration_s in zip(self.times_s, self.durations_s, strict=True):
            starts.append(max(free_s, time_s))
            free_s = starts[-1] + duration_s
        return starts

    def heard_at_s(self, offset_s: float) -> float | None:
        """When a listener who plays at once hears a moment of the sound, in seconds from its first sample.

        None where the sound is shorter.
        """
        for start_s, duration_s in zip(self.starts_s(), self.durations_s, strict=True):
            if offset_s < duration_s:
                return start_s + offset_s
            offset_s -= duration_s
        return None

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
            "max_underrun_ms": self.start_delay_s * 1000 if several else None,
            "n_underruns": int((slack > 0).sum()) if several else None,
            "rtf": self.times_s[-1] / self.audio_s if self.audio_s else None,
            "audio_s": self.audio_s,
            "n_chunks": len(self),
        }


@dataclass
class Prebuffer:
    """Decides when sound that is being made may begin to play.

    Attributes:
        hold: milliseconds that the first chunk is held back; "auto" holds it until the rest will be made in time.
        longest_chunk_s: duration of the longest chunk to come, in seconds.
        known_pace: `Arrivals.pace` of speech made before, for as long as this one has none.
        begun: whether playing may go on; it does not change back.
    """

    hold: Hold = 0.0
    longest_chunk_s: float = 0.0
    known_pace: float | None = None
    begun: bool = False

    def may_begin(self, made: Arrivals, now_s: float, expected_s: float | None) -> bool:
        """Whether playing may begin.

        With "auto" it may where the pace so far, and a tenth more, brings every chunk to come before the ones ahead of
        it have played. Of a rest of ``L - B`` seconds at pace r, the last chunk of d seconds is there in time if
        ``(L - B) r <= L - d``, and the next one if ``d r <= B``.

        Args:
            made: the chunks that are there.
            now_s: present time in seconds, by the clock that timed the chunks.
            expected_s: seconds of sound there will be in all, L; None while nobody knows.
        """
        if not self.begun and len(made):
            in_time = self._in_time(made, expected_s)
            self.begun = in_time if self.hold == "auto" else now_s >= made.times_s[0] + self.hold / 1000
        return self.begun

    def left_s(self, made: Arrivals, now_s: float) -> float | None:
        """Seconds until a first chunk that is held is due; None where no clock decides that."""
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
