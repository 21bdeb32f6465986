"""A recogniser without a model: for tests, for notebooks without weights, and as a template for plugins."""

from __future__ import annotations

import time

import numpy as np

from csmkit.asr.hypothesis import RATE_HZ, Hypothesis, Word
from csmkit.errors import InputError


class FakeTranscriber:
    """Hears the words of a script at a steady pace, whatever the sound is.

    Args:
        script: the words, in order; sound beyond the last one is heard as silence.
        word_s: seconds a word takes.
        decode_s: seconds a call takes.
        fail_at: raise RuntimeError at this call, counted from 1; 0 never does.
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
        if word_s <= 0 or decode_s < 0:
            raise InputError(f"word_s={word_s!r}, decode_s={decode_s!r}: give seconds, word_s above 0")
        self.n_calls = 0
        self._words = script.split()
        self._word_s = word_s
        self._decode_s = decode_s
        self._fail_at = fail_at

    def transcribe(self, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
        """The words that fit into the sound; interface as in `csmkit.asr.hypothesis.Transcriber`."""
        self.n_calls += 1
        if self.n_calls == self._fail_at:
            raise RuntimeError(f"the fake recogniser was told to fail at call {self._fail_at}")
        if self._decode_s:
            time.sleep(self._decode_s)
        n_heard = int(len(audio_16k) / RATE_HZ / self._word_s + 1e-6)
        heard = enumerate(self._words[:n_heard])
        words = tuple(Word(text, k * self._word_s, (k + 1) * self._word_s) for k, text in heard)
        return Hypothesis(" ".join(word.text for word in words), words)
