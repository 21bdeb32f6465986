"""Limits for speech that does not end by itself: how long, how silent, how often the same; and who applies them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from csmkit.audio import FRAME_MS, QUIET_DBFS, amplitude
from csmkit.checks import is_finite, is_integer
from csmkit.errors import InputError
from csmkit.speech.frames import MAX_LENGTH, REPETITION, SILENCE, Frame

_LETTERS_A_WORD = 6  # five and a space, the usual average of English
_PLAIN_MARKS = set(" .,;:!?'\"()-–—…’‘“”")  # paused at, at most


@dataclass(frozen=True)
class Guards:
    """When a generation is stopped because it has run away. Each guard is off where its limit is None.

    People speak some 12 to 15 letters a second, a third of that where they speak for learners or for rest. The defaults
    lie beyond: a guard that strikes has met what no speaker does. Times are cut down to whole frames of 80 ms.

    Attributes:
        letters_per_s: the slowest speech. A text may take as long as its letters at this rate, and ``spare_ms``; then
            it ends as "max_length". Capitals, digits and symbols count as words: they may be spelled out.
        spare_ms: milliseconds added to that, for silence before the first word and behind the last.
        repetition_ms: codes that for so long only say again what came right before end as "repetition". The sound up
            to there is handed out; what is repeated without being heard is left to the limits of silence.
        cycle_frames: the longest cycle that is looked for; 1 finds a frame that stands still.
        silence_ms: a silence of this length after speech has begun ends as "silence".
        leading_silence_ms: the same before speech has begun.
        silence_dbfs: a frame with less than this root mean square, in decibels of full scale, is silent.
        tail_ms: so much of any silence is handed out as it is made. The rest is kept back until there is sound again,
            or until the generation ends by itself; where a limit strikes it is dropped. Shorter pauses never wait.

    Raises:
        InputError: a value outside its range.
    """

    letters_per_s: float | None = 4.0
    spare_ms: float = 4_000
    repetition_ms: float | None = 2_400
    cycle_frames: int = 12
    silence_ms: float | None = 2_400
    leading_silence_ms: float | None = 4_000
    silence_dbfs: float = QUIET_DBFS
    tail_ms: float = 800

    def __post_init__(self) -> None:
        rate = self.letters_per_s
        if rate is not None and not (is_finite(rate) and rate > 0):
            raise InputError(f"letters_per_s={rate!r}: give letters a second above 0, or None for any length")
        for name in ("repetition_ms", "silence_ms", "leading_silence_ms"):
            limit = getattr(self, name)
            if limit is not None and not (is_finite(limit) and limit >= FRAME_MS):
                raise InputError(f"{name}={limit!r}: give at least one frame, {FRAME_MS} ms, or None for no limit")
        for name in ("spare_ms", "tail_ms"):
            if not is_finite(getattr(self, name)) or getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)!r}: give milliseconds of at least 0")
        if not is_integer(self.cycle_frames) or self.cycle_frames < 1:
            raise InputError(f"cycle_frames={self.cycle_frames!r}: give a number of frames of at least 1, such as 12")
        if not is_finite(self.silence_dbfs) or self.silence_dbfs >= 0:
            raise InputError(f"silence_dbfs={self.silence_dbfs!r}: give decibels below 0, such as -50")

    @classmethod
    def off(cls) -> Self:
        """No guard at all: only the end of speech and ``max_audio_length_ms`` end a generation."""
        return cls(letters_per_s=None, repetition_ms=None, silence_ms=None, leading_silence_ms=None)

    @property
    def listen(self) -> bool:
        """Whether a silence can end a generation."""
        return self.silence_ms is not None or self.leading_silence_ms is not None

    def budget_frames(self, text: str) -> int | None:
        """The most frames a text may take, at least 1; None for any number."""
        if self.letters_per_s is None:
            return None
        speech_ms = 1_000 * spoken_letters(text) / self.letters_per_s
        return max(1, math.floor((speech_ms + self.spare_ms) / FRAME_MS))


ORDINARY = Guards()  # of a request that names none


def whole_frames(milliseconds: float) -> int:
    """Frames of 80 ms that fit."""
    return int(milliseconds // FRAME_MS)


def spoken_letters(text: str) -> int:
    """How many letters a text has when what may be spelled out, "10", "%" or "BBC", is written in words."""
    plain = " ".join(text.split())
    return sum(1 if letter.islower() or letter in _PLAIN_MARKS else _LETTERS_A_WORD for letter in plain)


_SPEECH_FRAMES = 3  # frames with sound after which speech has begun: one alone may be the click of a codec
_CYCLES = 3  # a cycle that comes twice may be a repeated word


class GuardMonitor:
    """Applies the guards of one generation, a frame at a time.

    Whatever it decides depends on the frames alone, never on how they are grouped.

    Args:
        guards: the limits at which speech is stopped.
        text: the text that is spoken.
        hears: whether the frames have sound; without it no silence is found.
    """

    def __init__(self, guards: Guards, text: str, hears: bool = True) -> None:
        self._guards = guards
        self._hears = hears and guards.listen
        self._budget = guards.budget_frames(text)
        self._past: deque[bytes] = deque(maxlen=guards.cycle_frames)
        self._repeats = [0] * (guards.cycle_frames + 1)  # by length of cycle: frames in a row that were there before
        self._loudest_silence = amplitude(guards.silence_dbfs)
        self._n_seen = self._n_loud = self._n_silent = 0
        self._kept_back: list[Frame] = []

    @property
    def has_spoken(self) -> bool:
        """Whether there was sound. Where no silence is looked for, any frame counts."""
        return self._n_loud > 0 if self._hears else self._n_seen > 0

    def watch(self, frame: Frame) -> tuple[list[Frame], str | None]:
        """Take in a frame.

        Returns:
            The frames that may be handed out now, in order, and why the generation has to end with them; None where it
            may go on. A long silence is kept back until it turns out to be a pause, and then comes at once; one that
            lasts is dropped.
        """
        self._n_seen += 1
        # A pause can be the same frame again and again: where it is heard to be one, the limits of silence count.
        repeats = self._repeats_itself(frame.codes) and not self._n_silent
        reason = REPETITION if repeats else MAX_LENGTH if self._n_seen == self._budget else None
        released = self._listen(frame) if self._hears else [frame]
        limit = self._limit_ms
        if reason is None and limit is not None and self._n_silent >= whole_frames(limit):
            self.release()
            return released, SILENCE
        return released, reason

    def release(self) -> list[Frame]:
        """Return the frames that are kept back, and keep them no longer."""
        kept, self._kept_back = self._kept_back, []
        return kept

    @property
    def _limit_ms(self) -> float | None:
        """The longest silence at this point."""
        begun = self._n_loud >= _SPEECH_FRAMES
        return self._guards.silence_ms if begun else self._guards.leading_silence_ms

    def _listen(self, frame: Frame) -> list[Frame]:
        assert frame.sound is not None
        if float(frame.sound.square().mean().sqrt()) >= self._loudest_silence:
            self._n_loud += 1
            self._n_silent = 0
            return [*self.release(), frame]
        self._n_silent += 1
        if self._limit_ms is None or self._n_silent <= whole_frames(self._guards.tail_ms):
            return [frame]
        self._kept_back.append(frame)
        return []

    def _repeats_itself(self, codes: Tensor) -> bool:
        if self._guards.repetition_ms is None:
            return False
        limit, key = whole_frames(self._guards.repetition_ms), codes.numpy().tobytes()
        for length, earlier in enumerate(reversed(self._past), start=1):
            self._repeats[length] = self._repeats[length] + 1 if key == earlier else 0
        self._past.append(key)
        return any(n >= max(limit, length * (_CYCLES - 1)) for length, n in enumerate(self._repeats) if n)
