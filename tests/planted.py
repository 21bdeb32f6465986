"""Sound that resembles speech, and damage of known kinds at the borders of its chunks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soxr

RATE = 24_000
CHUNK = 2 * 1920  # two frames


def speech_like(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Pulses at a wandering pitch near 120 Hz through three formants, with breath, in syllables with pauses."""
    random = np.random.default_rng(seed)
    n = int(seconds * RATE)
    time = np.arange(n) / RATE
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time) + 0.02 * np.sin(2 * np.pi * 5 * time))
    turns = np.cumsum(pitch) / RATE
    pulses = np.diff(np.floor(turns), prepend=0.0) * (1 + 0.1 * random.standard_normal(n))
    source = pulses + 0.01 * random.standard_normal(n)
    spectrum = np.fft.rfft(source, 2 * n)
    for formant, width in ((500, 80), (1500, 120), (2500, 160)):
        spectrum *= np.fft.rfft(_resonance(formant, width), 2 * n)
    voice = np.fft.irfft(spectrum)[:n]
    syllables = np.clip(1.3 * np.sin(np.pi * 4.3 * time) ** 2 - 0.1, 0.02, 1.0)
    return (0.5 * syllables * voice / np.abs(voice).max()).astype(np.float32)


def _resonance(hz: float, width_hz: float) -> np.ndarray:
    """The impulse response of one formant, 50 ms."""
    time = np.arange(RATE // 20) / RATE
    return np.exp(-np.pi * width_hz * time) * np.sin(2 * np.pi * hz * time + np.pi / 2)


def borders(audio: np.ndarray) -> list[int]:
    return list(range(CHUNK, len(audio), CHUNK))


def at_each_border(audio: np.ndarray, damage: Callable[[np.ndarray, int], None]) -> np.ndarray:
    damaged = audio.copy()
    for border in borders(audio):
        damage(damaged, border)
    return damaged


def click(audio: np.ndarray) -> np.ndarray:
    """One sample of each border is off by 0.05."""

    def plant(sound: np.ndarray, border: int) -> None:
        sound[border] += 0.05

    return at_each_border(audio, plant)


def gap(audio: np.ndarray) -> np.ndarray:
    """20 ms of zeros from each border on, as an underrun leaves them."""

    def plant(sound: np.ndarray, border: int) -> None:
        sound[border : border + 480] = 0

    return at_each_border(audio, plant)


def fade(audio: np.ndarray) -> np.ndarray:
    """Each chunk fades in and out within 5 ms, as is done to hide clicks."""

    def plant(sound: np.ndarray, border: int) -> None:
        sound[border - 120 : border + 120] *= np.abs(np.linspace(-1, 1, 240)).astype(np.float32)

    return at_each_border(audio, plant)


def gain_step(audio: np.ndarray) -> np.ndarray:
    """Every other chunk is 10 dB quieter, as when each is normalised alone."""
    gains = np.where(np.arange(len(audio)) // CHUNK % 2, 10**-0.5, 1.0)
    return (audio * gains).astype(np.float32)


def resampled_alone(audio: np.ndarray) -> np.ndarray:
    """Each chunk goes to 16 kHz and back without its neighbours."""
    return np.concatenate([there_and_back(audio[start : start + CHUNK]) for start in range(0, len(audio), CHUNK)])


def there_and_back(audio: np.ndarray) -> np.ndarray:
    """To 16 kHz and back in one piece: the band is narrower, the borders are fine."""
    return soxr.resample(soxr.resample(audio, RATE, 16_000), 16_000, RATE)[: len(audio)]


def noise(audio: np.ndarray, dbfs: float = -60.0) -> np.ndarray:
    """White noise over all of it."""
    random = np.random.default_rng(1)
    return (audio + 10 ** (dbfs / 20) * random.standard_normal(len(audio))).astype(np.float32)
