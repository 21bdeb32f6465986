"""The interface of a speech recogniser, the texts that it returns, and a fake one as a template for plugins."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from csmkit.checks import check_number, check_positive

RATE_HZ = 16_000  # Whisper's sample rate
SHORTEST_S = 0.1  # shorter sound is not decoded: it has no word, and word times need a few frames


@dataclass(frozen=True)
class Word:
    """One recognised word with its times in seconds from the first sample."""

    text: str
    start_s: float
    end_s: float

    def later(self, seconds: float) -> Word:
        """Return the same word with both times moved by ``seconds``."""
        return replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)


@dataclass(frozen=True)
class Hypothesis:
    """The text and the words that a recogniser found in some sound; both are empty for silence."""

    text: str = ""
    words: tuple[Word, ...] = ()


class Transcript(str):
    """The recognised text of an utterance: an immutable plain string with the attributes below.

    Attributes:
        committed: part that later partial texts repeat unchanged; the whole text in a final text.
        tentative: part that may still change; empty in a final text.
        words: recognised words with their times, in seconds from the first sample.
        audio_s: seconds of sound the text is based on.
        complete: False if sound was rejected, whose words are missing in the text.
        revised: number of committed words that the final text changed; 0 in a partial text.
    """

    committed: str
    tentative: str
    words: tuple[Word, ...]
    audio_s: float
    complete: bool
    revised: int

    def __new__(
        cls,
        committed: str = "",
        tentative: str = "",
        words: tuple[Word, ...] = (),
        audio_s: float = 0.0,
        complete: bool = True,
        revised: int = 0,
    ) -> Transcript:
        self = super().__new__(cls, f"{committed} {tentative}".strip())
        vars(self).update(
            committed=committed, tentative=tentative, words=words, audio_s=audio_s, complete=complete, revised=revised
        )
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set {name!r}: a transcript does not change")

    @property
    def text(self) -> str:
        """The text as an ordinary string."""
        return str.__str__(self)


class Transcriber(Protocol):
    """A speech recogniser: the interface of asr plugins."""

    window_s: float
    """The longest sound that one call can take, in seconds."""

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        """Recognise one window; blocks, and is called from one thread only.

        Args:
            audio_16k: ``(samples,)`` float32 at 16 kHz, at most ``window_s`` long.
            final: False asks for a quick text, True for the best one.
        """


class FakeTranscriber:
    """Returns the words of a script at a steady pace for any sound: for tests, and a template for plugins.

    Args:
        script: the words in their order, separated by spaces; sound beyond the last one counts as silence.
        word_s: duration of a word in seconds.
        decode_s: duration of a call in seconds.
        fail_at: number of the call, counted from 1, that raises RuntimeError; 0 for none.

    Raises:
        InputError: ``word_s`` is not above 0, or ``decode_s`` is below 0.
    """

    window_s = 30.0

    def __init__(
        self,
        script: str = "one two three four five six seven eight nine ten",
        *,
        word_s: float = 0.4,
        decode_s: float = 0.0,
        fail_at: int = 0,
    ) -> None:
        check_positive("word_s", word_s)
        check_number("decode_s", decode_s, 0)
        self.n_calls = 0
        self._words = script.split()
        self._word_s = word_s
        self._decode_s = decode_s
        self._fail_at = fail_at

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        """Return the words that fit into the sound; interface as in `Transcriber`."""
        self.n_calls += 1
        if self.n_calls == self._fail_at:
            raise RuntimeError(f"the fake recogniser was told to fail at call {self._fail_at}")
        if self._decode_s:
            time.sleep(self._decode_s)
        n_words = int(len(audio_16k) / RATE_HZ / self._word_s + 1e-6)
        numbered = enumerate(self._words[:n_words])
        words = tuple(Word(text, k * self._word_s, (k + 1) * self._word_s) for k, text in numbered)
        return Hypothesis(" ".join(word.text for word in words), words)
