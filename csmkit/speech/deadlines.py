"""Which utterances share the next pass, so that no listener runs out of sound: the earliest deadline first.

Rows computed together take less time than one after another, but a pass of many rows lasts longer than one of few. So a
pass has as many rows as it can have while all listeners get their next sound in time (Liu and Layland 1973, "Scheduling
algorithms for multiprogramming in a hard-real-time environment", for the order by deadlines).
"""

from __future__ import annotations

from collections.abc import Sequence

FORGETTING = 0.98  # a pass counts half as much as one 34 passes later


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
