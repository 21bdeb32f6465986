"""Transcribing a sound while it grows: partial texts of its newest window, and at the end the text of all of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from csmkit.asr.agreement import Agreement, match_prefix, normalise
from csmkit.asr.transcriber import RATE_HZ, SHORTEST_S, Transcriber, Transcript, Word
from csmkit.asr.windows import snap, transcribe_long
from csmkit.audio import SAMPLE_RATE


class IncrementalTranscription:
    """The sound of one utterance at 16 kHz, the window that partial texts read, and the words agreed on so far.

    For one thread. Memory grows with the sound that came.
    """

    def __init__(self) -> None:
        self._resampler = soxr.ResampleStream(SAMPLE_RATE, RATE_HZ, 1, dtype="float32")
        self._sound = np.zeros(RATE_HZ, np.float32)  # grows; its first `_n_samples` are in use
        self._n_samples = self._window_start = 0
        self._agreement = Agreement()

    def partial(self, transcriber: Transcriber, samples: np.ndarray) -> Transcript | None:
        """Decode the newest window.

        Args:
            transcriber: recognises a window.
            samples: ``(samples,)`` float32 at 24 kHz, the sound that follows what earlier calls gave.

        Returns:
            The text so far; None for less sound than can be decoded.
        """
        self._append(samples, last=False)
        if self._n_samples - self._window_start > transcriber.window_s * RATE_HZ:
            self._move_window(transcriber.window_s)
        window = self._sound[self._window_start : self._n_samples]
        if len(window) < SHORTEST_S * RATE_HZ:
            return None
        offset_s, end_s = self._window_start / RATE_HZ, self._n_samples / RATE_HZ
        words = transcribe_long(transcriber, window, final=False).words
        self._agreement.update([word.later(offset_s) for word in words], end_s)
        committed, tentative = self._agreement.committed, self._agreement.tentative
        return Transcript(_join(committed), _join(tentative), (*committed, *tentative), end_s)

    def final(self, transcriber: Transcriber, samples: np.ndarray) -> Transcript:
        """Decode all the sound again from its first sample, as well as the model can; the last call.

        Args:
            transcriber: recognises a window.
            samples: ``(samples,)`` float32 at 24 kHz, the rest of the sound.
        """
        self._append(samples, last=True)
        best = transcribe_long(transcriber, self._sound[: self._n_samples], final=True)
        committed = [normalise(word.text) for word in self._agreement.committed]
        _, n_revised = match_prefix(committed, [normalise(word) for word in best.text.split()])
        return Transcript(best.text, "", best.words, self._n_samples / RATE_HZ, revised=n_revised)

    def _append(self, samples: np.ndarray, *, last: bool) -> None:
        fresh = self._resampler.resample_chunk(samples, last=last)
        end = self._n_samples + len(fresh)
        if end > len(self._sound):
            used = self._sound[: self._n_samples]
            self._sound = np.concatenate([used, np.zeros(end, np.float32)])  # at least doubles
        self._sound[self._n_samples : end] = fresh
        self._n_samples = end

    def _move_window(self, window_s: float) -> None:
        cut_s = self._agreement.cut()
        if cut_s is not None:
            cut = min(round(cut_s * RATE_HZ), self._n_samples)
            self._window_start = snap(self._sound[: self._n_samples], cut)
            return
        # No word was agreed on in a whole window: silence or noise. Partials go on with its newer half.
        self._agreement.skip()
        self._window_start = self._n_samples - round(window_s / 2 * RATE_HZ)


def _join(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)
