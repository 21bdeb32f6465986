"""Which utterances share the next pass, so that no listener runs out of sound: the earliest deadline first.

Rows computed together take less time than one after another, but a pass of many rows lasts longer than one of few. So a
pass has as many rows as it can have while all listeners get their next sound in time (Liu and Layland 1973, "Scheduling
algorithms for multiprogramming in a hard-real-time environment", for the order by deadlines).
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from csmkit.audio import FRAME_MS
from csmkit.speech.frames import INTERRUPTED, MAX_LENGTH, End, Frame
from csmkit.speech.guards import GuardMonitor
from csmkit.speech.settings import Request

FRAME_S = FRAME_MS / 1000
FORGETTING = 0.98  # a pass counts half as much as one 34 passes later


class Place:
    """One utterance in a scheduler: the frames made for it, and how long its listener can wait for more.

    Args:
        request: what is spoken.
        seed: the seed of its noise.
        row: the frame maker's row of it.
        schedule: number of frames of each chunk that its listener gets; the last number repeats.
        hears: whether frames have sound, so that its guards can tell a silence.
    """

    def __init__(self, request: Request, seed: int, row: Any, schedule: Sequence[int], hears: bool) -> None:
        self.request, self.seed, self.row = request, seed, row
        self.monitor = GuardMonitor(request.guards, request.text, hears)
        self.made: SimpleQueue[Frame | End] = SimpleQueue()  # and not taken yet
        self.n_made = 0
        self.is_ready = False  # the prompt was read
        self.is_ended = False  # no frame follows
        self.is_wanted = True  # by its listener
        self.is_parked = False  # its listener has enough sound
        self.playing_s: float | None = None  # since when its listener hears it
        self._schedule = list(schedule)
        self._chunk = (0, self._schedule[0])  # frames before, and up to the end of, the chunk being made

    def deliver(self, result: Frame | End) -> None:
        """Add a frame or the end; the guards decide which frames are handed out."""
        if isinstance(result, End):
            self.end(result)
            return
        self.n_made += 1
        released, reason = self.monitor.watch(result)
        for frame in released:
            self.made.put(frame)
        if reason is None and self.n_made == self.request.max_frames:
            reason = MAX_LENGTH
        if reason is not None:
            self.end(End(reason))

    def end(self, end: End) -> None:
        """Make nothing after this. Frames that the guards kept back are handed out unless an error is the reason."""
        if self.is_ended:
            return
        self.is_ended = True
        for frame in self.monitor.release() if end.error is None else []:
            self.made.put(frame)
        self.made.put(end)

    def last_end(self, untaken: Frame | None) -> End:
        """How a place that is not wanted any more has ended: by itself if its listener took all that was made."""
        ends: list[End] = []
        while True:
            try:
                item = self.made.get_nowait()
            except Empty:
                break
            if isinstance(item, End):
                ends.append(item)
            else:
                untaken = item
        return next((end for end in ends if untaken is None and end.reason != INTERRUPTED), End(INTERRUPTED))

    def spare_s(self, now_s: float, pass_s: float) -> float:
        """Seconds that its next frame can be put off without its listener running out of sound.

        The chunk being made must be whole when those before it have been played; each of its frames takes a pass.
        """
        if self.playing_s is None:
            return 0.0
        start, end = self._chunk
        while end <= self.n_made:
            size = self._schedule.pop(0) if len(self._schedule) > 1 else self._schedule[0]
            start, end = end, end + size
        self._chunk = start, end
        by_clock_s = self.playing_s + start * FRAME_S - now_s - (end - self.n_made) * pass_s
        return max(by_clock_s, self.unread_s)  # a listener with unread frames has paused

    @property
    def unread_s(self) -> float:
        """Seconds of sound that are made and not taken."""
        return self.made.qsize() * FRAME_S


class PassTimes:
    """How long a pass of some rows takes: a straight line through the times of the last passes."""

    def __init__(self) -> None:
        self._weight = self._rows = self._squares = self._seconds = self._products = 0.0

    def add(self, n_rows: int, seconds: float) -> None:
        """Count a pass."""
        self._weight = FORGETTING * self._weight + 1
        self._rows = FORGETTING * self._rows + n_rows
        self._squares = FORGETTING * self._squares + n_rows**2
        self._seconds = FORGETTING * self._seconds + seconds
        self._products = FORGETTING * self._products + n_rows * seconds

    def expected_s(self, n_rows: int) -> float:
        """Seconds that a pass of so many rows will take; 0 before the first pass."""
        if not self._weight:
            return 0.0
        mean_rows, mean_s = self._rows / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - mean_rows**2
        if variance > 0.01:
            slope = max(0.0, (self._products / self._weight - mean_rows * mean_s) / variance)
        else:  # all had the same size: half of the time of one row is taken to be the same for any number of rows
            slope = mean_s / (mean_rows + 1)
        return max(mean_s + slope * (n_rows - mean_rows), slope * n_rows)


def n_in_pass(spare_s: Sequence[float], times: PassTimes, pass_s: float) -> int:
    """How many of the utterances that can wait least share the next pass.

    As many as fit: none of them runs out of sound before the pass has ended, and none of the others before the one
    after it has. If no number fits, all of those that cannot wait for a pass of everybody.

    Args:
        spare_s: seconds that each can wait until its next pass begins, smallest first; a pass is counted as ``pass_s``.
        times: how long passes take.
        pass_s: seconds of a pass.
    """
    for n_rows in range(len(spare_s), 0, -1):
        took_s = times.expected_s(n_rows)
        others_can_wait = n_rows == len(spare_s) or spare_s[n_rows] >= took_s
        if spare_s[0] >= took_s - pass_s and others_can_wait:
            return n_rows
    return sum(spare < times.expected_s(len(spare_s)) for spare in spare_s)
