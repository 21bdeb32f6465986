"""Limits for speech that does not end by itself: how long, how silent, how often the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from csmkit.audio import FRAME_MS
from csmkit.checks import is_finite, is_integer
from csmkit.errors import InputError

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
        spare_ms: on top of that, for silence before the first word and behind the last.
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
    silence_dbfs: float = -50.0
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


ORDINARY = Guards()  # what a request has where nothing is said


def whole_frames(milliseconds: float) -> int:
    """Frames of 80 ms that fit."""
    return int(milliseconds // FRAME_MS)


def spoken_letters(text: str) -> int:
    """How many letters a text has when what may be spelled out, "10", "%" or "BBC", is written in words."""
    plain = " ".join(text.split())
    return sum(1 if letter.islower() or letter in _PLAIN_MARKS else _LETTERS_A_WORD for letter in plain)
