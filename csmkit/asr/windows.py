"""Recognises sound that is longer than a model's window: where it is cut, and one window after another."""

from __future__ import annotations

import numpy as np

from csmkit.asr.transcriber import RATE_HZ, SHORTEST_S, Hypothesis, Transcriber, Word
from csmkit.audio import window_rms

_STEP = RATE_HZ // 50  # 20 ms: step of the loudness of speech
_PAUSE_STEPS = 6  # a pause is at least 120 ms
_PAUSE_LEVEL = 0.1  # share of the sound's loudness that a pause has at most
_DIP_LEVEL = 0.5  # share of the loudness around that a quiet moment has at most
_SEARCH_S = 0.15  # error of word times by attention


def transcribe_long(transcriber: Transcriber, audio_16k: np.ndarray, *, final: bool) -> Hypothesis:
    """Recognise sound of any length, window after window, cut in a pause or else at the end of a word.

    Without a pause the last word of a window may be half a word: it is left to the next window, unless a second of
    sound without words follows it.
    """
    window = int(transcriber.window_s * RATE_HZ)
    texts: list[str] = []
    words: list[Word] = []
    start = 0
    while len(audio_16k) - start > window:
        sound = audio_16k[start : start + window]
        pause = last_pause(sound)
        found = transcriber.transcribe(sound[:pause], final=final)
        whole, cut = (found.words, pause) if pause else _cut(found.words, sound)
        texts.extend([found.text] if pause else [word.text for word in whole])
        words.extend(word.later(start / RATE_HZ) for word in whole)
        start += cut
    if len(audio_16k) - start >= SHORTEST_S * RATE_HZ:
        rest = transcriber.transcribe(audio_16k[start:], final=final)
        texts.append(rest.text)
        words.extend(word.later(start / RATE_HZ) for word in rest.words)
    return Hypothesis(" ".join(text for text in texts if text), tuple(words))


def last_pause(sound: np.ndarray) -> int | None:
    """The middle of the last pause in the later three quarters of a sound, as a sample; None if there is none."""
    levels = window_rms(sound, _STEP)
    quiet = levels < _PAUSE_LEVEL * np.sqrt(np.mean(levels**2))
    n_quiet = 0
    for step in range(len(levels) - 1, len(levels) // 4, -1):
        n_quiet = n_quiet + 1 if quiet[step] else 0
        if n_quiet >= _PAUSE_STEPS and not quiet[step - 1]:
            return (step + n_quiet // 2) * _STEP
    return None


def snap(sound: np.ndarray, sample: int) -> int:
    """The quietest sample near a sample, to cut there; the sample itself if nothing near it is quiet."""
    reach = int(_SEARCH_S * RATE_HZ)
    start = max(0, sample - reach)
    levels = window_rms(sound[start : sample + reach], _STEP)
    if not len(levels) or levels.min() > _DIP_LEVEL * levels.mean():
        return sample
    return start + int(levels.argmin()) * _STEP + _STEP // 2


def _cut(words: tuple[Word, ...], sound: np.ndarray) -> tuple[tuple[Word, ...], int]:
    """The words that are certainly complete, and the sample where the next window begins."""
    window_s = len(sound) / RATE_HZ
    if not words or words[-1].end_s < window_s - 1.0:
        return words, len(sound)
    cut_s = words[-2].end_s if len(words) > 1 else words[-1].start_s
    if cut_s < window_s / 4:  # a word that fills the window is cut in its middle
        cut_s = window_s / 2
    return words[:-1], max(1, snap(sound, int(cut_s * RATE_HZ)))
