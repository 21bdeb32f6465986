"""Short-time spectra, as the distances measure them and the plots draw them."""

from __future__ import annotations

import numpy as np

LEAST_DB = -100.0  # below it a bin counts as silent, so that digital silence and its dither are alike


def magnitudes(samples: np.ndarray, window: int, hop: int, n_fft: int | None = None) -> np.ndarray:
    """Magnitudes of Hann-windowed frames, scaled so that a full-scale sine has 1 in its bin.

    Args:
        samples: ``(samples,)``, at least ``window``; what does not fill a last frame is left out.
        window: samples of a frame.
        hop: samples between frames.
        n_fft: of the transform; None is ``window``.

    Returns:
        ``(frames, n_fft // 2 + 1)`` float64.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    taper = np.hanning(window + 1)[:-1]  # periodic
    return np.abs(np.fft.rfft(frames * taper, n_fft or window)) * 2 / taper.sum()


def decibels(magnitude: np.ndarray) -> np.ndarray:
    """Magnitudes in dB, 0 for a full-scale sine, not below -100."""
    return 20 * np.log10(np.maximum(magnitude, 10 ** (LEAST_DB / 20)))
