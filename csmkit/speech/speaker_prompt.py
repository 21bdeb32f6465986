"""Makes a recording of a speaker the first turn of a context, so that the model continues in that voice."""

from __future__ import annotations

import math
from os import PathLike

import numpy as np

from csmkit.audio import QUIET_DBFS, SAMPLE_RATE, Waveform, read, resample, window_rms
from csmkit.errors import InputError
from csmkit.speech.settings import Segment

MOST_S = 30.0  # of sound: 375 of the 2 048 positions of CSM-1B, which more would take from the conversation
_MARGIN_SAMPLES = 1_920  # 80 ms of silence stay at either end
_WINDOW_SAMPLES = 240  # 10 ms
_RANGE_DB = 40.0  # between the loudest of a voice and its softest consonants


def voice_prompt(
    source: str | PathLike[str] | Waveform, text: str, speaker: int = 0, sample_rate: int | None = None
) -> Segment:
    """A segment to lead the context with, so that the voice speaks like the recording.

    Keep the segment and give the same one again: a generator encodes it once, and reads it once as long as it leads.

    Args:
        source: a sound file, or samples in any shape and type that `csmkit.audio.as_mono` takes. Silence before and
            behind the speech is cut off but for 80 ms; what is left may be 30 s long, and 5 to 15 s are best.
        text: the words of the recording, as they are spoken.
        speaker: number of the speaker as whom the voice will speak.
        sample_rate: sample rate of samples, in Hz; None is 24 000. A file knows its own.

    Raises:
        AudioFileError: no such file, or not a sound file that libsndfile reads.
        InputError: samples, rate or text that cannot be used; only silence; too long.
    """
    if isinstance(source, (str, PathLike)):
        if sample_rate is not None:
            raise InputError(f"sample_rate={sample_rate!r} with a file: leave it out, the file {source!s} has its own")
        samples, name = read(source), f"voice prompt {str(source)!r}"
    else:
        samples, name = resample(source, SAMPLE_RATE if sample_rate is None else sample_rate), "voice prompt"
    spoken = _trimmed(samples, name)
    seconds = len(spoken) / SAMPLE_RATE
    if seconds > MOST_S:
        raise InputError(f"{name} of {seconds:.1f} s: give at most {MOST_S:g} s, a passage of 5 to 15 s is best")
    return Segment(speaker, text, spoken)


def _trimmed(samples: np.ndarray, name: str) -> np.ndarray:
    """``(samples,)`` at 24 kHz without the silence at its ends; InputError where there is nothing else."""
    n_windows = math.ceil(len(samples) / _WINDOW_SAMPLES)
    filled = np.pad(samples, (0, n_windows * _WINDOW_SAMPLES - len(samples)))
    level = 20 * np.log10(window_rms(filled, _WINDOW_SAMPLES) + 1e-6)  # dBFS, down to -120
    loudest = level.max(initial=-120.0)
    if loudest < QUIET_DBFS:
        raise InputError(
            f"{name} of {len(samples) / SAMPLE_RATE:.1f} s holds only silence, at most {loudest:.0f} dBFS: "
            f"give a recording of speech, louder than {QUIET_DBFS:g} dBFS"
        )
    (loud,) = np.nonzero(level >= loudest - _RANGE_DB)
    start = max(0, loud[0] * _WINDOW_SAMPLES - _MARGIN_SAMPLES)
    return samples[start : (loud[-1] + 1) * _WINDOW_SAMPLES + _MARGIN_SAMPLES]
