"""The guards at work on one generation: what it has made so far, and whether that is still speech."""

from __future__ import annotations

from collections import deque

from torch import Tensor

from csmkit.audio import amplitude
from csmkit.speech.finish_reasons import MAX_LENGTH, REPETITION
from csmkit.speech.guards import Guards, whole_frames

_SPEECH_FRAMES = 3  # frames with sound after which speech has begun: one alone may be the click of a codec
_CYCLES = 3  # a cycle that came once more may be a word said twice


class Watch:
    """Follows one generation, a frame at a time: `see` its codes and, where there is sound, `hear` its samples.

    Whatever it decides depends on the frames alone, never on how they are grouped.

    Args:
        guards: the limits.
        text: that is spoken.
    """

    def __init__(self, guards: Guards, text: str) -> None:
        self._guards = guards
        self._budget = guards.budget_frames(text)
        self._past: deque[bytes] = deque(maxlen=guards.cycle_frames)
        self._repeats = [0] * (guards.cycle_frames + 1)  # by length of cycle: frames in a row that were there before
        self._loudest_silence = amplitude(guards.silence_dbfs)
        self._n_seen = self._n_loud = self._n_silent = 0
        self._kept_back: list[Tensor] = []

    @property
    def has_spoken(self) -> bool:
        """Whether there was sound. Where no guard listens, any frame counts."""
        return self._n_loud > 0 if self._guards.listen else self._n_seen > 0

    @property
    def too_silent(self) -> bool:
        """Whether the present silence has reached its limit."""
        limit = self._limit_ms
        return limit is not None and self._n_silent >= whole_frames(limit)

    @property
    def _limit_ms(self) -> float | None:
        """Of a silence at this point."""
        begun = self._n_loud >= _SPEECH_FRAMES
        return self._guards.silence_ms if begun else self._guards.leading_silence_ms

    def see(self, frame: Tensor) -> str | None:
        """Why a frame, ``(n_codebooks,)`` int64 on the CPU, has to be the last one; None where it need not be."""
        self._n_seen += 1
        # A pause can be the same frame again and again: where it is heard to be one, the limits of silence count.
        if self._says_the_same(frame) and not self._n_silent:
            return REPETITION
        return MAX_LENGTH if self._n_seen == self._budget else None

    def hear(self, samples: Tensor) -> list[Tensor]:
        """Take the sound of a frame, ``(1920,)`` float32 on the CPU; the frames that may be handed out now, in order.

        A long silence comes out late, when it turns out to be a pause, and all at once.
        """
        if not self._guards.listen:
            return [samples]
        if float(samples.square().mean().sqrt()) >= self._loudest_silence:
            self._n_loud += 1
            self._n_silent = 0
            return [*self.release(), samples]
        self._n_silent += 1
        if self._limit_ms is None or self._n_silent <= whole_frames(self._guards.tail_ms):
            return [samples]
        self._kept_back.append(samples)
        return []

    def release(self) -> list[Tensor]:
        """The frames that were kept back, which are then no longer."""
        kept, self._kept_back = self._kept_back, []
        return kept

    def _says_the_same(self, frame: Tensor) -> bool:
        if self._guards.repetition_ms is None:
            return False
        limit, key = whole_frames(self._guards.repetition_ms), frame.numpy().tobytes()
        for length, earlier in enumerate(reversed(self._past), start=1):
            self._repeats[length] = self._repeats[length] + 1 if key == earlier else 0
        self._past.append(key)
        return any(n >= max(limit, length * (_CYCLES - 1)) for length, n in enumerate(self._repeats) if n)
