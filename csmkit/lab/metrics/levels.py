"""How loud a waveform is, whether it clips, where it is silent, and when it begins to be heard.

dBFS is ``20 log10(RMS)`` with 1 as full scale: a full-scale sine has -3, and silence has none, which is None.

Several channels, NaN, and sound shorter than 10 ms, or for `loudness_lufs` 400 ms, raise InputError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csmkit.audio import ONSET_MS, SAMPLE_RATE, audible_windows, first_audible
from csmkit.lab.metrics.waveforms import one_channel
from csmkit.plugins import library

if TYPE_CHECKING:
    from csmkit.audio import Waveform

FULL_SCALE = 1 - 2.0**-15  # the largest 16-bit sample
LOUDNESS_BLOCK_MS = 400.0


def levels(audio: Waveform) -> dict[str, float | None]:
    """Peak, clipping, offset, silence and onset as a flat row.

    Args:
        audio: ``(samples,)`` at 24 kHz, full scale 1, at least 10 ms.

    Returns:
        ``peak_dbfs`` 20 log10 of the largest |sample|, above 0 it will clip · ``rms_dbfs`` · ``clipped_ratio`` share of
        samples at or beyond the largest of 16 bits · ``dc_offset`` mean sample, full scale 1 · ``silence_ratio`` share
        of the 10 ms windows that are not above -40 dBFS · ``longest_silence_ms`` the longest run of those ·
        ``onset_ms`` as in `audible_onset_ms`.
    """
    samples = one_channel(audio, ONSET_MS)
    audible = audible_windows(samples)
    return {
        "peak_dbfs": _dbfs(float(np.abs(samples).max())),
        "rms_dbfs": _dbfs(float(np.sqrt(np.mean(samples**2)))),
        "clipped_ratio": float(np.mean(np.abs(samples) >= FULL_SCALE)),
        "dc_offset": float(samples.mean()),
        "silence_ratio": float(1 - audible.mean()),
        "longest_silence_ms": float(_longest_run(~audible) * ONSET_MS),
        "onset_ms": audible_onset_ms(samples),
    }


def audible_onset_ms(audio: Waveform) -> float | None:
    """When sound begins: the start of the first 10 ms window above -40 dBFS that opens at least 50 ms of such windows.

    Time to first audio counts chunks, which may begin with silence; add this for what a listener notices.

    Returns:
        Milliseconds from the first sample, a multiple of 10, or None if nothing is heard.
    """
    first = first_audible(audible_windows(one_channel(audio, ONSET_MS)))
    return None if first is None else float(first * ONSET_MS)


def loudness_lufs(audio: Waveform) -> float | None:
    """Integrated loudness by ITU-R BS.1770-4 (pyloudnorm), in LUFS; None if all of it is below the gate, -70 LUFS."""
    samples = one_channel(audio, LOUDNESS_BLOCK_MS)
    loudness = float(library("pyloudnorm", "eval").Meter(SAMPLE_RATE).integrated_loudness(samples))
    return loudness if np.isfinite(loudness) else None


def loudness(audio: Waveform) -> dict[str, float | None]:
    """``loudness_lufs`` as a row, None for sound shorter than 400 ms; errors as in `loudness_lufs`."""
    long_enough = len(audio) * 1000 >= LOUDNESS_BLOCK_MS * SAMPLE_RATE
    return {"loudness_lufs": loudness_lufs(audio) if long_enough else None}


def _longest_run(flags: np.ndarray) -> int:
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((changes[1::2] - changes[::2]).max()) if len(changes) else 0


def _dbfs(amplitude: float) -> float | None:
    return 20 * float(np.log10(amplitude)) if amplitude else None
