"""How turns are spoken and heard: the options of a chatbot, each with its default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from csmkit.checks import is_finite, is_integer
from csmkit.csm.config import Sampling
from csmkit.errors import InputError
from csmkit.speech.guards import ORDINARY, Guards
from csmkit.speech.settings import Request, check_speaker
from csmkit.speech.streams import chunk_schedule
from csmkit.stack import PRESETS, SPOKEN_STYLE, Models, find_models
from csmkit.timing import Hold

if TYPE_CHECKING:
    from csmkit.speech.settings import Segment

__all__ = [
    "PRESETS", "SPOKEN_STYLE", "ChatModels", "TurnOptions", "chat_models", "turn_options",
]  # fmt: skip

ChatModels, chat_models = Models, find_models  # their former names
MOST_WORDS = 24  # of a clause: a longer one makes the first sound of the next wait


@dataclass(frozen=True)
class TurnOptions:
    """How turns are spoken and heard.

    Attributes:
        speaker: the voice that answers.
        user_speaker: the voice the user's turns are given in the context.
        chunk_frames: frames of 80 ms a chunk, or a schedule such as ``(1, 2, 4, 6)`` whose last number repeats.
        max_audio_length_ms: of each clause; None is the voice's default.
        temperature, topk: of the speech; None is the voice's default.
        seed: of the speech, counted up from clause to clause, and of a language model that the chatbot loads; None
            differs every time.
        guards: what ends a clause that has run away; None for nothing.
        voice: segments that always lead the context, to keep one voice, such as a `voice_prompt`. Never left out.
        context_turns: earlier turns, beside the clauses of this one, that the voice hears before it speaks; 0 for none,
            not even those clauses. Where they do not fit, the oldest third is left out from then on.
        first_words: the most words of the first clause.
        most_words: the most words of any other clause; None is 24, or fewer where the voice carries fewer.
        prebuffer_ms: how long the first chunk is held back, so that a slow voice plays without a gap: milliseconds, or
            "auto" for until the pace so far says that the rest will be in time. An answer that is made sooner is not
            held longer, and what is held back was not heard yet: not by the recogniser, the file or the history.
        asr_timeout_s: how long the final transcription may take once everything is spoken.

    Raises:
        InputError: a value out of its range.
    """

    speaker: int = 0
    user_speaker: int = 1
    chunk_frames: int | Sequence[int] = 6
    max_audio_length_ms: float | None = None
    temperature: float | None = None
    topk: int | None = None
    seed: int | None = None
    guards: Guards | None = ORDINARY
    voice: Sequence[Segment] = ()
    context_turns: int = 0
    first_words: int = 12
    most_words: int | None = None
    prebuffer_ms: Hold = 0.0
    asr_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.guards, Guards | None):
            raise InputError(f"guards of type {type(self.guards).__name__}: give Guards(), or None for no guards")
        if not isinstance(self.voice, Sequence):
            raise InputError(f"voice of type {type(self.voice).__name__}: give a list of segments, such as [prompt]")
        if not is_integer(self.context_turns) or self.context_turns < 0:
            raise InputError(f"context_turns={self.context_turns!r}: give a number of turns, 0 for none")
        check_speaker(self.user_speaker)
        chunk_schedule(self.chunk_frames)
        given = {"temperature": self.temperature, "topk": self.topk}
        Sampling(**{name: value for name, value in given.items() if value is not None})
        length = Request.max_audio_length_ms if self.max_audio_length_ms is None else self.max_audio_length_ms
        Request("Hello.", self.speaker, max_audio_length_ms=length, seed=self.seed)  # raises where a turn would
        limits = [self.first_words, *([] if self.most_words is None else [self.most_words])]
        if not all(is_integer(number) and number >= 1 for number in limits):
            raise InputError(f"first_words={self.first_words!r}, most_words={self.most_words!r}: give at least 1")
        if self.prebuffer_ms != "auto" and not (is_finite(self.prebuffer_ms) and 0 <= self.prebuffer_ms <= 60_000):
            raise InputError(f"prebuffer_ms={self.prebuffer_ms!r}: give milliseconds from 0 to 60000, or 'auto'")
        if not is_finite(self.asr_timeout_s) or self.asr_timeout_s <= 0:
            raise InputError(f"asr_timeout_s={self.asr_timeout_s!r}: give seconds above 0")

    def changed(self, **changes: Any) -> TurnOptions:
        """These options with other values; raises InputError for a name that is none, or a value out of its range."""
        known = [field.name for field in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise InputError(f"no option {', '.join(unknown)}: the options of a turn are {', '.join(known)}")
        return replace(self, **changes)


def turn_options(models: Models) -> TurnOptions:
    """How turns are spoken with a preset's models, where the caller leaves it out."""
    return models.options if isinstance(models.options, TurnOptions) else TurnOptions(**models.options)
