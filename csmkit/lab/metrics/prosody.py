"""Pitch, pace and pauses of one utterance, without a model.

Pitch is found by the normalized cross-correlation of 40 ms windows each 10 ms: the lag with the highest correlation
between 60 and 400 Hz, the shortest one among those that come within 15 % of it, which guards against octaves (after
Talkin, "A robust algorithm for pitch tracking", in Speech Coding and Synthesis 1995). A window is voiced where it is
audible and its correlation is above 0.5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from csmkit.audio import ONSET_MS, SAMPLE_RATE, audible_windows
from csmkit.lab.metrics.waveforms import one_channel

if TYPE_CHECKING:
    from csmkit.audio import Waveform

LOWEST_HZ, HIGHEST_HZ = 60.0, 400.0
RATE_HZ = 8_000  # pitch needs no more: each third sample of 24 kHz, after a low-pass
WINDOW_S, HOP_S = 0.04, ONSET_MS / 1000
VOICED = 0.5  # least correlation of a voiced window
NEARLY = 0.85  # of the highest: a shorter lag that comes this near is taken
PAUSE_MS = 150  # shorter silences are stops and closures
_SHARES = (5, 95)  # percentiles of the range of pitch


def prosody(said: str, audio: Waveform) -> dict[str, float | int | None]:
    """Pitch, speaking rate and pauses as a flat row; docs/metrics.md defines the columns.

    Args:
        audio: ``(samples,)`` at 24 kHz, at least 10 ms.

    Returns:
        Columns that are None where nothing is audible, and those of pitch where nothing is voiced.

    Raises:
        InputError: several channels, NaN, or shorter than 10 ms.
    """
    samples = one_channel(audio, ONSET_MS)
    audible = audible_windows(samples)
    pitch_hz = pitch(samples)
    return {**_pitch_row(pitch_hz, audible), **_pace_row(len(re.findall(r"[\w']+", said)), audible)}


def pitch(samples: np.ndarray) -> np.ndarray:
    """``(windows,)`` the fundamental frequency in Hz each 10 ms; NaN where a window is not voiced.

    Args:
        samples: ``(samples,)`` at 24 kHz.
    """
    slow = _third(np.asarray(samples, dtype=np.float64))
    size, hop, longest = int(WINDOW_S * RATE_HZ), int(HOP_S * RATE_HZ), int(RATE_HZ / LOWEST_HZ)
    n_windows = max(0, (len(slow) - size - longest) // hop + 1)
    if not n_windows:
        return np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(slow, size + longest)[::hop][:n_windows]
    found = np.array([_lag(view, size) for view in views])
    return np.where(found > 0, RATE_HZ / np.maximum(found, 1e-9), np.nan)


def _third(samples: np.ndarray) -> np.ndarray:
    """Each third sample, after a low-pass at 1 kHz of 63 taps."""
    taps = np.arange(-31, 32)
    low_pass = np.sinc(taps * 2 * 1_000 / SAMPLE_RATE) * np.hamming(63)
    return np.convolve(samples, low_pass / low_pass.sum(), "same")[:: SAMPLE_RATE // RATE_HZ]


def _lag(view: np.ndarray, size: int) -> float:
    """The period in samples of ``(size + longest lag,)``; 0 where there is none."""
    window = view[:size]
    shifted = np.lib.stride_tricks.sliding_window_view(view, size)
    energy = np.sqrt(np.sum(window**2) * np.sum(shifted**2, axis=1))
    correlation = np.divide(shifted @ window, energy, out=np.zeros(len(energy)), where=energy > 1e-9)
    correlation[: int(RATE_HZ / HIGHEST_HZ)] = 0
    best = correlation.max()
    if best < VOICED:
        return 0.0
    peaks = np.flatnonzero(
        (correlation[1:-1] >= correlation[:-2]) & (correlation[1:-1] >= correlation[2:]) & (correlation[1:-1] > 0)
    )
    good = [int(peak) + 1 for peak in peaks if correlation[peak + 1] >= NEARLY * best]
    return _between(correlation, good[0]) if good else 0.0


def _between(values: np.ndarray, peak: int) -> float:
    """The place of a maximum between samples, by the parabola through it and its neighbours."""
    left, top, right = values[peak - 1 : peak + 2]
    bend = left - 2 * top + right
    return peak + (0.5 * (left - right) / bend if bend < 0 else 0.0)


def _pitch_row(pitch_hz: np.ndarray, audible: np.ndarray) -> dict[str, float | None]:
    n_windows = min(len(pitch_hz), len(audible))
    known = pitch_hz[:n_windows][audible[:n_windows] & np.isfinite(pitch_hz[:n_windows])]
    n_audible = int(audible[:n_windows].sum())
    if not len(known):
        return {"f0_median_hz": None, "f0_range_semitones": None, "voiced_ratio": 0.0 if n_audible else None}
    low, high = np.percentile(known, _SHARES)
    return {
        "f0_median_hz": float(np.median(known)),
        "f0_range_semitones": float(12 * np.log2(high / low)),
        "voiced_ratio": len(known) / n_audible,
    }


def _pace_row(n_words: int, audible: np.ndarray) -> dict[str, float | int | None]:
    """Rates and pauses between the first and the last audible window."""
    (places,) = np.nonzero(audible)
    names = ("words_per_s", "articulation_words_per_s", "n_pauses", "pause_ratio", "longest_pause_ms")
    if not len(places):
        return dict.fromkeys(names)
    gaps_ms = (np.diff(places) - 1) * ONSET_MS
    pauses_ms = gaps_ms[gaps_ms >= PAUSE_MS]
    total_s = (places[-1] - places[0] + 1) * ONSET_MS / 1000
    paused_s = float(pauses_ms.sum()) / 1000
    longest = float(pauses_ms.max(initial=0))
    rates = (n_words / total_s, n_words / (total_s - paused_s))
    return dict(zip(names, (*rates, len(pauses_ms), paused_s / total_s, longest), strict=True))
