"""The options of a chatbot: how its turns are spoken and transcribed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csmkit.checks import check_integer, check_positive, is_finite, is_integer
from csmkit.errors import InputError
from csmkit.speech.settings import Segment, SpeechSettings, check_speaker
from csmkit.stack import PRESETS, SPOKEN_STYLE, Models, find_models
from csmkit.timing import Hold

__all__ = [
    "PRESETS", "SPOKEN_STYLE", "ChatModels", "TurnOptions", "chat_models", "turn_options",
]  # fmt: skip

ChatModels, chat_models = Models, find_models  # their former names
MOST_WORDS = 24  # of a clause: after a longer one the next clause comes late


@dataclass(frozen=True, kw_only=True)
class TurnOptions(SpeechSettings):
    """How the turns of a chatbot are spoken and transcribed; it also has all fields of `SpeechSettings`.

    ``max_audio_length_ms`` and ``guards`` hold for each clause. ``seed`` is the seed of the first clause, and each
    further clause adds 1; it also seeds a language model that the chatbot loads. With ``raw_text`` the generator gets
    each clause as it is written, with its numbers and signs.

    Attributes:
        user_speaker: speaker of the user's turns in the context, a non-negative integer.
        voice: segments at the beginning of every context, such as a `voice_prompt`, so that all clauses sound alike;
            they are never left out.
        context_turns: number of earlier turns in the context of a clause, at least 0. With 0 the context has neither
            these nor the clauses before it. Where the context does not fit, the oldest third is left out from then on.
        first_words: largest number of words of the first clause, at least 1.
        most_words: largest number of words of any other clause, at least 1; None is 24, or fewer where one generation
            of the checkpoint carries fewer.
        prebuffer_ms: milliseconds, 0 to 60 000, that the first chunk is delayed after it was generated, so that slow
            generation plays without a gap; "auto" delays it until the pace so far shows that the rest will be in time.
            An answer that is complete earlier is delivered at once. A delayed chunk has not reached the recogniser, the
            WAV file or the history.
        asr_timeout_s: seconds, above 0, that the final transcription may take once everything is spoken.

    Raises:
        InputError: a value outside these ranges.
    """

    user_speaker: int = 1
    voice: Sequence[Segment] = ()
    context_turns: int = 0
    first_words: int = 12
    most_words: int | None = None
    prebuffer_ms: Hold = 0.0
    asr_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_speaker(self.user_speaker)
        if not isinstance(self.voice, Sequence):
            raise InputError(f"voice of type {type(self.voice).__name__}: give a list of segments, such as [prompt]")
        if not is_integer(self.context_turns) or self.context_turns < 0:
            raise InputError(f"context_turns={self.context_turns!r}: give a number of turns, 0 for none")
        check_integer("first_words", self.first_words)
        check_integer("most_words", self.most_words, optional=True)
        if self.prebuffer_ms != "auto" and not (is_finite(self.prebuffer_ms) and 0 <= self.prebuffer_ms <= 60_000):
            raise InputError(f"prebuffer_ms={self.prebuffer_ms!r}: give milliseconds from 0 to 60000, or 'auto'")
        check_positive("asr_timeout_s", self.asr_timeout_s)


def turn_options(models: Models) -> TurnOptions:
    """The options of a preset."""
    return models.options if isinstance(models.options, TurnOptions) else TurnOptions(**models.options)
