"""One utterance among those that share a model: the frames made for it, and how long its listener can wait for more."""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from csmkit.audio import FRAME_MS
from csmkit.speech.guards import GuardMonitor
from csmkit.speech.settings import Request
from csmkit.speech.streams import INTERRUPTED, MAX_LENGTH, End, Frame

FRAME_S = FRAME_MS / 1000


class Place:
    """One utterance in a scheduler.

    Args:
        request: what is spoken.
        seed: the seed of its noise.
        row: the frame maker's row of it.
        schedule: number of frames of each chunk that its listener gets; the last number repeats.
        monitor: applies its guards.
    """

    def __init__(self, request: Request, seed: int, row: Any, schedule: Sequence[int], monitor: GuardMonitor) -> None:
        self.request, self.seed, self.row, self.monitor = request, seed, row, monitor
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
