"""What the sound metrics take: one channel at 24 kHz, borders between chunks, and how both are checked."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from csmkit.audio import SAMPLE_RATE, as_mono
from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.audio import Waveform

    Seams = Sequence[int] | np.ndarray

EDGE_SAMPLES = SAMPLE_RATE // 100  # 10 ms: a border nearer to an end has no surroundings to be judged by


def one_channel(audio: Waveform, shortest_ms: float = 0.0, name: str = "audio") -> np.ndarray:
    """Check a waveform and return it as ``(samples,)`` float64.

    Args:
        audio: ``(samples,)`` at 24 kHz, floating point in about [-1, 1], or int16; numpy or torch.

    Raises:
        InputError: several channels, a wrong dtype, NaN or infinite samples, too short or empty.
    """
    shape = tuple(np.shape(audio))
    if len(shape) != 1:
        raise InputError(f"{name} of shape {shape}: metrics judge one channel, give (samples,)")
    samples = as_mono(audio).astype(np.float64)
    length_ms = len(samples) * 1000 / SAMPLE_RATE
    if not len(samples) or length_ms < shortest_ms:
        raise InputError(f"{name} of {length_ms:g} ms: at least {shortest_ms or 1000 / SAMPLE_RATE:g} ms are needed")
    return samples


def same_length(audio: Waveform, reference: Waveform, shortest_ms: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Check two waveforms that are compared sample by sample.

    Raises:
        InputError: as in `one_channel`, or the lengths differ.
    """
    first, second = one_channel(audio, shortest_ms), one_channel(reference, shortest_ms, "reference")
    if len(first) != len(second):
        raise InputError(
            f"audio of {len(first)} samples and reference of {len(second)}: "
            "give both of the same codes, or cut them to the same length and place"
        )
    return first, second


def checked_seams(seams: Seams, n_samples: int) -> np.ndarray:
    """Check borders between chunks and return them as int64.

    Args:
        seams: index of the first sample of each chunk but the first, rising; may be empty.

    Raises:
        InputError: no whole numbers, not rising, or within 10 ms of an end.
    """
    given = np.asarray(seams)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise InputError(f"seams of dtype {given.dtype}, shape {given.shape}: give a list of sample indices")
    given = given.astype(np.int64)
    if (np.diff(given) <= 0).any():
        raise InputError(f"seams {given.tolist()}: give each border once, in rising order")
    low, high = EDGE_SAMPLES, n_samples - EDGE_SAMPLES
    if given.size and (given[0] < low or given[-1] > high):
        raise InputError(
            f"seams from {given[0]} to {given[-1]} in {n_samples} samples: give indices from {low} to {high}; "
            "a border within 10 ms of an end cannot be judged, leave it out"
        )
    return given


def wav_bytes(audio: Waveform) -> bytes:
    """The content of a 16-bit WAV file of ``(samples,)`` at 24 kHz; samples beyond full scale are clipped."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((np.clip(audio, -1, 1) * 32_767).astype("<i2").tobytes())
    return content.getvalue()


def seams_between(chunks: Iterable[Waveform | int]) -> list[int]:
    """Where chunks meet.

    Args:
        chunks: waveforms ``(samples,)``, or their lengths in samples, in the order they were played.

    Returns:
        The index of the first sample of each chunk but the first; empty for one chunk or none.
    """
    lengths = [chunk if isinstance(chunk, int) else len(chunk) for chunk in chunks]
    return [int(border) for border in np.cumsum(lengths)[:-1]]
