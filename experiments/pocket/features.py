"""What a codec frame should say: spectral envelope, pitch and phones of 80 ms, as targets for the codec.

All windows end inside their frame, because the codec is causal. Each frame gets ``MELS x HOPS`` log-mel values (20 ms
windows every 10 ms) and six pitch values (voicing every 20 ms, log F0 of each half).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE

MELS, HOPS = 32, 8
HOP, WINDOW, N_FFT = 240, 480, 512
FLOOR = 6e-4  # of a band's mean magnitude; below it lie silence and synthesis noise
PITCH_RANGE_HZ = {0: (120.0, 330.0), 1: (60.0, 190.0)}  # slt, rms
DECIMATE = 3  # pitch is looked for at 8 kHz
PITCH_DIMS = 6


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence: its text, speaker, phone labels (4 a frame) and int16 samples at 24 kHz."""

    text: str
    speaker: int
    phones: np.ndarray
    samples: np.ndarray

    @property
    def n_frames(self) -> int:
        """How many codec frames it fills."""
        return len(self.samples) // FRAME_SAMPLES


def shard_names(data: Path, split: str) -> list[str]:
    """The finished shards of a split, in order."""
    return sorted(path.stem for path in data.glob(f"{split}-*.json") if "." not in path.stem)


def read_shard(data: Path, name: str) -> list[Utterance]:
    """All utterances of a shard; samples stay on disk until used."""
    samples = np.load(data / f"{name}.npy", mmap_mode="r")
    rows = json.loads((data / f"{name}.json").read_text())
    return [
        Utterance(
            row["text"],
            row["speaker"],
            np.array(row["phones"], dtype=np.int64),
            samples[row["offset"] : row["offset"] + row["n_samples"]],
        )
        for row in rows
    ]


def utterances(data: Path, split: str) -> Iterator[Utterance]:
    """All utterances of a split."""
    for name in shard_names(data, split):
        yield from read_shard(data, name)


@lru_cache
def mel_filters(n_fft: int = N_FFT, n_mels: int = MELS, low_hz: float = 60.0, high_hz: float = 7800.0) -> Tensor:
    """Triangular filters ``(n_fft // 2 + 1, n_mels)`` on the HTK mel scale, each of sum 1."""

    def to_mel(hz: np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + hz / 700)

    bins = to_mel(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE))
    edges = np.linspace(to_mel(np.array(low_hz)), to_mel(np.array(high_hz)), n_mels + 2)
    rise = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.clip(np.minimum(rise, fall), 0, None)
    return torch.tensor(filters / np.maximum(filters.sum(0), 1e-9), dtype=torch.float32)


def log_mel(samples: Tensor) -> Tensor:
    """``(n_frames * 1920,)`` float → ``(n_frames, HOPS * MELS)`` natural log magnitudes."""
    padded = torch.nn.functional.pad(samples, (WINDOW - HOP, 0))
    windows = padded.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    magnitude = torch.fft.rfft(windows, N_FFT).abs() / (WINDOW / 4)
    return (magnitude @ mel_filters()).add(FLOOR).log().view(-1, HOPS * MELS)


def pitch(samples: Tensor, speaker: int) -> Tensor:
    """``(n_frames * 1920,)`` → ``(n_frames, 6)``: voicing of each 20 ms in [0, 1], log2(F0 / 140 Hz) of each half.

    F0 is the best lag of the normalised autocorrelation of 40 ms that end with the hop; unvoiced halves hold the last.
    """
    low_hz, high_hz = PITCH_RANGE_HZ[speaker]
    rate = SAMPLE_RATE // DECIMATE
    slow = torch.nn.functional.avg_pool1d(samples[None, None], DECIMATE)[0, 0]
    size, hop = rate // 25, rate // 50
    windows = torch.nn.functional.pad(slow, (size - hop, 0)).unfold(0, size, hop)
    windows = windows - windows.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(windows, 2 * size)
    correlation = torch.fft.irfft(spectrum.abs() ** 2, 2 * size)[:, :size]
    overlap = 1 - torch.arange(size) / size
    normal = correlation / overlap / (correlation[:, :1] + 1e-4 * size)
    lags = slice(int(rate / high_hz), int(rate / low_hz) + 1)
    best, where = normal[:, lags].max(1)
    voiced = ((best - 0.3) / 0.5).clamp(0, 1)
    f0 = torch.log2(rate / (where + lags.start).float() / 140.0)
    halves, sure = f0.view(-1, 2), voiced.view(-1, 2)
    weight = sure * (sure > 0.3)
    mean = (halves * weight).sum(1) / weight.sum(1).clamp_min(1e-6)
    held, last = [], float(mean[weight.sum(1) > 0][0]) if (weight.sum(1) > 0).any() else 0.0
    for value, heavy in zip(mean.tolist(), weight.sum(1).tolist(), strict=True):
        last = value if heavy > 0 else last
        held.append(last)
    return torch.cat([voiced.view(-1, 4), torch.tensor(held).view(-1, 2)], 1)


def frame_features(utterance: Utterance) -> tuple[Tensor, Tensor]:
    """The ``(n_frames, 256)`` log-mel and ``(n_frames, 6)`` pitch features of an utterance."""
    samples = torch.from_numpy(utterance.samples.astype(np.float32) / 32768)
    return log_mel(samples), pitch(samples, utterance.speaker)
