"""How far a waveform is from a reference that says the same at the same time, such as the whole decode of its codes.

None of these can tell damage at borders from harmless noise of the same power: they average over the sound. What is
wrong at borders is what `csmkit.lab.metrics.seams` finds; these say how much differs in all, and where in the spectrum.

All raise InputError for waveforms of different length, several channels, NaN or no samples; those of spectra also for
less than 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csmkit.lab.metrics.waveforms import one_channel, same_length

if TYPE_CHECKING:
    from csmkit.audio import Waveform

MOST_SNR_DB = 150.0  # float32 carries 24 bits, 144 dB
LSD_WINDOW, LSD_HOP = 768, 192  # 32 and 8 ms
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))  # transform, hop, window in samples
LEAST_DB = -100.0  # below it a bin counts as silent, so that digital silence and its dither are alike
SHORTEST_MS = 50.0  # one frame of the longest window


def signal_to_noise_db(audio: Waveform, reference: Waveform) -> float | None:
    """``10 log10(sum r² / sum (a - r)²)`` in dB; higher is closer.

    Equal waveforms give 150, more than float32 can show, so that tables stay finite. None for a silent reference.
    """
    samples, wanted = same_length(audio, reference)
    signal, noise = float(np.sum(wanted**2)), float(np.sum((samples - wanted) ** 2))
    if not signal:
        return None
    return min(MOST_SNR_DB, 10 * float(np.log10(signal / noise))) if noise else MOST_SNR_DB


def max_abs_error(audio: Waveform, reference: Waveform) -> float:
    """``max |a - r|``, where 1 is full scale."""
    samples, wanted = same_length(audio, reference)
    return float(np.abs(samples - wanted).max())


def log_spectral_distance_db(audio: Waveform, reference: Waveform) -> float:
    """The root mean square difference of log spectra over bins, averaged over frames, in dB; 0 is equal.

    ``mean_frames sqrt(mean_bins (20 log10 |A| - 20 log10 |R|)²)`` (Gray and Markel, "Distance measures for speech
    processing", IEEE Trans. ASSP 1976), Hann windows of 32 ms each 8 ms, bins below -100 dBFS raised to it. Quiet bins
    count as much as loud ones, so noise nobody hears can cost more than a click.
    """
    samples, wanted = same_length(audio, reference, SHORTEST_MS)
    first, second = (decibels(magnitudes(wave, LSD_WINDOW, LSD_HOP)) for wave in (samples, wanted))
    return float(np.sqrt(np.mean((first - second) ** 2, axis=1)).mean())


def multi_resolution_distance(audio: Waveform, reference: Waveform) -> float | None:
    """Spectral convergence plus log magnitude distance, averaged over three window lengths; no unit, 0 is equal.

    ``mean_resolutions ( ‖|R| - |A|‖ / ‖|R|‖ + mean |ln |R| - ln |A|| )`` (Yamamoto, Song and Kim, "Parallel WaveGAN",
    ICASSP 2020), windows of 10, 25 and 50 ms. None for a silent reference.
    """
    samples, wanted = same_length(audio, reference, SHORTEST_MS)
    if not wanted.any():
        return None
    return float(np.mean([_one_resolution(samples, wanted, *sizes) for sizes in RESOLUTIONS]))


def _one_resolution(samples: np.ndarray, wanted: np.ndarray, n_fft: int, hop: int, window: int) -> float:
    first, second = (magnitudes(wave, window, hop, n_fft) for wave in (samples, wanted))
    convergence = np.linalg.norm(second - first) / np.linalg.norm(second)
    per_neper = 20 / np.log(10)
    return float(convergence + np.mean(np.abs(decibels(second) - decibels(first))) / per_neper)


def distances(audio: Waveform, reference: Waveform) -> dict[str, float | None]:
    """All of them as a flat row; those of spectra are None for sound shorter than 50 ms."""
    long_enough = len(one_channel(audio)) >= RESOLUTIONS[-1][2]
    return {
        "snr_db": signal_to_noise_db(audio, reference),
        "max_abs_error": max_abs_error(audio, reference),
        "log_spectral_distance_db": log_spectral_distance_db(audio, reference) if long_enough else None,
        "multi_resolution_distance": multi_resolution_distance(audio, reference) if long_enough else None,
    }


def magnitudes(samples: np.ndarray, window: int, hop: int, n_fft: int | None = None) -> np.ndarray:
    """Magnitudes of Hann-windowed frames, scaled so that a full-scale sine has 1 in its bin.

    Args:
        samples: ``(samples,)``, at least ``window``; what does not fill a last frame is left out.
        n_fft: length of the transform in samples; None is ``window``.

    Returns:
        ``(frames, n_fft // 2 + 1)`` float64.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    taper = np.hanning(window + 1)[:-1]  # periodic
    return np.abs(np.fft.rfft(frames * taper, n_fft or window)) * 2 / taper.sum()


def decibels(magnitude: np.ndarray) -> np.ndarray:
    """Magnitudes in dB, 0 for a full-scale sine, not below -100."""
    return 20 * np.log10(np.maximum(magnitude, 10 ** (LEAST_DB / 20)))
