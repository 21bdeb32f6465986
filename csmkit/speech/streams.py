"""What a generation hands out: frames of codes, or chunks of sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from csmkit.closing import Closing
from csmkit.speech.frames import (
    END_OF_SPEECH,
    INTERRUPTED,
    MAX_LENGTH,
    NOTHING_HEARD,
    REPETITION,
    SILENCE,
    End,
    Frame,
)
from csmkit.speech.scheduler import ScheduledUtterance
from csmkit.speech.settings import chunk_schedule

__all__ = [
    "END_OF_SPEECH", "INTERRUPTED", "MAX_LENGTH", "NOTHING_HEARD", "REPETITION", "SILENCE", "End", "Frame",
    "FrameStream", "SpeechStream", "chunk_schedule",
]  # fmt: skip

_NO_CODES = torch.zeros(0, 0, dtype=torch.int64)


class _Stream(Closing, Iterator[Tensor]):
    """Base of the streams of codes and of sound: one utterance, the frames taken of it, and its end."""

    def __init__(self, utterance: ScheduledUtterance) -> None:
        self._scheduler, self._place = utterance
        self._taken: list[Frame] = []
        self._end: End | None = None

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, such as ``"end_of_speech"``; None while it runs."""
        return None if self._end is None else self._end.reason

    @property
    def n_frames(self) -> int:
        """Number of frames so far, of 80 ms each."""
        return len(self._taken)

    @property
    def seed(self) -> int:
        """The seed of its noise, also where none was given."""
        return self._place.seed

    @property
    def codes(self) -> Tensor:
        """The codes so far, ``(n_codebooks, n_frames)`` int64: a `Segment` can carry them instead of the sound."""
        return torch.stack([frame.codes for frame in self._taken], dim=1) if self._taken else _NO_CODES

    def _next_frame(self) -> Frame | None:
        """The next frame; None at the end. Raises the error that ended the generation, once."""
        if self._end is not None:
            return None
        try:
            taken = self._scheduler.take(self._place)
        except BaseException:  # such as Ctrl-C during a frame
            self.close()
            raise
        if isinstance(taken, Frame):
            self._taken.append(taken)
            return taken
        self._end = self._end or End(taken.reason)  # another thread may have closed it meanwhile
        if taken.error is not None:
            raise taken.error
        return None

    def stop_soon(self) -> None:
        """Let the reader find the end after the frame being made; never blocks, also within a signal handler."""
        self._scheduler.stop_soon(self._place)

    def close(self) -> None:
        """Stop and free; from any thread, more than once. Blocks for at most one frame."""
        self._scheduler.close(self._place)
        self._end = self._end or End(INTERRUPTED)

    def __del__(self) -> None:
        if hasattr(self, "_place"):  # dropped without being closed
            self.stop_soon()


class FrameStream(_Stream):
    """The codes of one generation, ``(n_codebooks,)`` int64 on the CPU a frame; the first comes after the prompt.

    Closing it frees the generation's state. `close` may be called from any thread: it waits for the frame being made,
    no longer. A frame that its guards do not let pass is the last one.
    """

    def __next__(self) -> Tensor:
        frame = self._next_frame()
        if frame is None:
            raise StopIteration
        self._scheduler.playing(self._place)
        return frame.codes


class SpeechStream(_Stream):
    """The sound of one generation in chunks, 1-D float32 on the CPU at 24 kHz; the last may be shorter.

    The codec is called once a frame and the samples are grouped here, so the chunk size cannot change them. A long
    silence is held back until it proves to be a pause, see `Guards.tail_ms`; one that does not is neither in the sound
    nor in the codes.

    Args:
        utterance: one whose frames have sound.
        schedule: number of frames of each chunk; the last number repeats.
    """

    def __init__(self, utterance: ScheduledUtterance, schedule: Sequence[int]) -> None:
        super().__init__(utterance)
        self._schedule = deque(schedule)

    @property
    def has_spoken(self) -> bool:
        """Whether there was anything but silence so far."""
        return self._place.monitor.has_spoken

    @property
    def frame_spans(self) -> list[tuple[float, float]]:
        """When the passes that made its frames began and ended, see `Frame.span`."""
        return [frame.span for frame in self._taken]

    def __next__(self) -> Tensor:
        sounds: list[Tensor] = []
        while len(sounds) < self._schedule[0] and (frame := self._next_frame()) is not None:
            assert frame.sound is not None
            sounds.append(frame.sound)
        if not sounds or not self._place.is_wanted:  # a chunk during which it was stopped is not handed out
            raise StopIteration
        if len(self._schedule) > 1:
            self._schedule.popleft()
        self._scheduler.playing(self._place)
        return torch.cat(sounds)
