"""What is asked of a generation: the segments spoken before, and one request. Frozen; defaults live here once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, resample
from csmkit.checks import is_finite, is_integer
from csmkit.csm.config import Sampling
from csmkit.errors import InputError
from csmkit.speech.guards import ORDINARY, Guards, whole_frames

if TYPE_CHECKING:
    from csmkit.audio import Waveform

__all__ = ["Request", "Sampling", "Segment", "check_speaker", "check_text"]


@dataclass(frozen=True, eq=False)
class Segment:
    """One turn that was spoken before.

    Attributes:
        speaker: a non-negative integer.
        text: what was said.
        audio: how it sounded, in any shape and type that `csmkit.audio.as_mono` takes; kept as ``(samples,)`` float32
            at 24 kHz. None where only the text is known.
        sample_rate: of ``audio`` as given, in Hz; 24 000 afterwards.
        codes: ``(n_codebooks, n_frames)`` int64 of that sound, such as `SpeechStream.codes`: spares encoding ``audio``.

    Raises:
        InputError: a value outside these ranges.
    """

    speaker: int
    text: str
    audio: Waveform | None = None
    sample_rate: int = SAMPLE_RATE
    codes: Tensor | None = None

    def __post_init__(self) -> None:
        check_speaker(self.speaker)
        check_text(self.text)
        if self.audio is not None:
            # A copy: the caller may go on using the buffer, while codes once encoded are kept.
            samples = torch.tensor(resample(self.audio, self.sample_rate), dtype=torch.float32)
            object.__setattr__(self, "audio", samples)
            object.__setattr__(self, "sample_rate", SAMPLE_RATE)
        if self.codes is not None:
            _check_codes(self.codes)

    @property
    def n_frames(self) -> int:
        """Frames of its sound, without the end frame; 0 for text alone."""
        if self.codes is not None:
            return self.codes.shape[1]
        return 0 if self.audio is None else math.ceil(len(self.audio) / FRAME_SAMPLES)


@dataclass(frozen=True)
class Request:
    """One utterance to speak.

    Attributes:
        text: what is said; not blank.
        speaker: a non-negative integer that the voice was trained with.
        context: earlier turns, oldest first.
        sampling: how codes are drawn.
        max_audio_length_ms: the most audio, cut down to whole frames of 80 ms.
        seed: of the noise, in [0, 2**63); None draws a new one.
        guards: what else ends it before it ends by itself; they never change what comes before.

    Raises:
        InputError: a value outside these ranges.
    """

    text: str
    speaker: int = 0
    context: tuple[Segment, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    max_audio_length_ms: float = 8_000
    seed: int | None = None
    guards: Guards = ORDINARY

    def __post_init__(self) -> None:
        check_speaker(self.speaker)
        check_text(self.text)
        length = self.max_audio_length_ms
        if not is_finite(length) or length < FRAME_MS:
            raise InputError(f"max_audio_length_ms={length!r}: give at least one frame, {FRAME_MS} ms")
        if self.seed is not None and not (is_integer(self.seed) and 0 <= self.seed < 2**63):
            raise InputError(f"seed={self.seed!r}: give an integer in [0, 2**63), or None for a new one each time")
        if not isinstance(self.guards, Guards):
            kind = type(self.guards).__name__
            raise InputError(f"guards of type {kind}: give Guards(), with what you change, or Guards.off() for none")

    @property
    def max_frames(self) -> int:
        """The most frames this request may yield, guards apart: room for all of them is needed."""
        return whole_frames(self.max_audio_length_ms)


def _check_codes(codes: object) -> None:
    """Raise InputError unless ``codes`` are a tensor ``(n_codebooks, n_frames)`` of int64, none of them negative."""
    advice = "give an int64 tensor of shape (n_codebooks, n_frames), such as the codes of a stream, or audio instead"
    if not isinstance(codes, Tensor):
        raise InputError(f"segment codes of type {type(codes).__name__}: {advice}")
    if codes.ndim != 2 or codes.dtype != torch.int64:
        raise InputError(f"segment codes of shape {tuple(codes.shape)} and {codes.dtype}: {advice}")
    if codes.numel() and int(codes.min()) < 0:
        raise InputError(f"segment codes down to {int(codes.min())}: codes are never negative; {advice}")


def check_speaker(speaker: object) -> None:
    """Raise InputError unless ``speaker`` is a non-negative integer."""
    if not is_integer(speaker) or speaker < 0:
        raise InputError(f"speaker={speaker!r}: give a non-negative integer such as 0 or 1")


def check_text(text: object) -> None:
    """Raise InputError unless ``text`` is a string with something to say."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"text={text!r}: give a sentence to speak")
