"""A frame of speech, and the end of a generation with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

# The values of ``finish_reason``
END_OF_SPEECH = "end_of_speech"  # the model made the end frame
MAX_LENGTH = "max_length"  # ``max_audio_length_ms``, or the most that a text of that length can take
SILENCE = "silence"  # it was silent for longer than its guards allow
REPETITION = "repetition"  # it repeated the same frames for longer than its guards allow
INTERRUPTED = "interrupted"  # closed, or ended by an error
NOTHING_HEARD = "nothing_heard"  # of a chatbot's turn only: the user's sound held no word


class Frame(NamedTuple):
    """One frame of 80 ms.

    Attributes:
        codes: ``(n_codebooks,)`` int64 on the CPU.
        sound: ``(1920,)`` float32 on the CPU; None where only codes were asked for.
        span: when the pass that made it began and ended, by `time.perf_counter`; the first frame's includes reading
            the prompt.
    """

    codes: Tensor
    sound: Tensor | None
    span: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class End:
    """The end of a generation.

    Attributes:
        reason: a value of ``finish_reason``.
        error: the exception that ended it; None without one.
    """

    reason: str
    error: Exception | None = None
