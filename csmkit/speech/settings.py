"""What is asked of a generation: settings, the segments spoken before, one request. All frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Waveform, resample
from csmkit.checks import is_finite, is_integer
from csmkit.csm.config import Sampling
from csmkit.errors import InputError
from csmkit.speech.guards import ORDINARY, Guards, whole_frames

__all__ = ["Request", "Sampling", "Segment", "SpeechSettings", "check_context", "check_speaker", "check_text"]

MOST_LETTERS = 100_000


@dataclass(frozen=True, eq=False)
class Segment:
    """One turn that was spoken before.

    Attributes:
        speaker: a non-negative integer.
        text: the words of the turn.
        audio: how it sounded, in any shape and type that `csmkit.audio.as_mono` takes; kept as ``(samples,)`` float32
            at 24 kHz. None where only the text is known.
        sample_rate: sample rate of ``audio`` as it was given, in Hz; 24 000 afterwards.
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
            # A copy: the caller may change the buffer afterwards, while the codes made from it are kept.
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


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """How text is spoken: what requests, turns, trials, sweeps, the command line and the studio share.

    Others extend it by inheriting from it; every default stands here alone.

    Attributes:
        speaker: a non-negative integer that the model was trained with.
        max_audio_length_ms: the longest sound, cut down to whole frames of 80 ms; at least 80. None is the default.
        temperature: sampling temperature; 0 is greedy. None is the checkpoint's own, 0.9 where it has none.
        topk: number of most probable codes to sample from, at least 1. None is the checkpoint's own, or 50.
        chunk_frames: frames of 80 ms in a chunk, or a schedule such as ``(1, 2, 4, 6)`` whose last number repeats. It
            never changes the sound.
        seed: seeds the noise, in [0, 2**63); the same seed gives the same codes. None draws one.
        guards: limits that end speech which has run away; None for no limits.
        raw_text: pass the text to the model as it is, in one generation; else numbers and signs are spoken in words,
            and a text longer than one generation carries is spoken in several.

    Raises:
        InputError: a value outside these ranges.
    """

    speaker: int = 0
    max_audio_length_ms: float = 8_000
    temperature: float | None = None
    topk: int | None = None
    chunk_frames: int | Sequence[int] = 6
    seed: int | None = None
    guards: Guards = ORDINARY
    raw_text: bool = False

    def __post_init__(self) -> None:
        defaults = {"max_audio_length_ms": SpeechSettings.max_audio_length_ms, "guards": Guards.off()}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if isinstance(self.chunk_frames, list):  # as JSON and notebooks give it
            object.__setattr__(self, "chunk_frames", tuple(self.chunk_frames))
        _check(self)
        chunk_schedule(self.chunk_frames)
        self.sampling(Sampling())

    @property
    def schedule(self) -> tuple[int, ...]:
        """Number of frames of each chunk; the last number repeats."""
        return chunk_schedule(self.chunk_frames)

    def sampling(self, own: Sampling) -> Sampling:
        """How codes are drawn: the checkpoint's ``own`` sampling, but for what is set here."""
        asked = {"temperature": self.temperature, "topk": self.topk}
        return replace(own, **{name: value for name, value in asked.items() if value is not None})

    def as_request(self, text: str, context: Sequence[Segment] = (), own: Sampling | None = None) -> Request:
        """What a generator is asked for; raises InputError for a text or a context that cannot be used.

        Args:
            text: the text to speak.
            context: earlier turns, oldest first.
            own: the checkpoint's sampling.
        """
        sampling = self.sampling(own or Sampling())
        return Request(
            text, self.speaker, check_context(context), sampling, self.max_audio_length_ms, self.seed, self.guards
        )

    def changed(self, **changes: Any) -> Self:
        """These settings with other values; raises InputError for an unknown name or a value out of its range."""
        known = [field.name for field in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise InputError(f"no setting {', '.join(unknown)}: there are {', '.join(known)}")
        return replace(self, **changes)


@dataclass(frozen=True)
class Request:
    """One utterance to speak, with all that decides its codes.

    Attributes:
        text: the text to speak; not blank.
        speaker, max_audio_length_ms, seed, guards: the settings of these names in `SpeechSettings`.
        context: earlier turns, oldest first.
        sampling: how codes are drawn.

    Raises:
        InputError: a value outside these ranges.
    """

    text: str
    speaker: int = SpeechSettings.speaker
    context: tuple[Segment, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    max_audio_length_ms: float = SpeechSettings.max_audio_length_ms
    seed: int | None = None
    guards: Guards = ORDINARY

    def __post_init__(self) -> None:
        check_text(self.text)
        _check(self)

    @property
    def max_frames(self) -> int:
        """The most frames this request may yield, guards apart: room for all of them is needed."""
        return whole_frames(self.max_audio_length_ms)


def chunk_schedule(chunk_frames: int | Sequence[int]) -> tuple[int, ...]:
    """Check ``chunk_frames``: an integer of at least 1, or several, such as ``(1, 2, 4, 6)``.

    Raises:
        InputError: anything else.
    """
    sizes = tuple(chunk_frames) if isinstance(chunk_frames, Sequence) else (chunk_frames,)
    if not sizes or any(not is_integer(n) or n < 1 for n in sizes):
        raise InputError(
            f"chunk_frames={chunk_frames!r}: give a number of frames of at least 1 (6 are 0.48 s), "
            "or a schedule such as (1, 2, 4, 6)"
        )
    return sizes


def _check_codes(codes: object) -> None:
    """Raise InputError unless ``codes`` are a tensor ``(n_codebooks, n_frames)`` of int64, none of them negative."""
    advice = "give an int64 tensor of shape (n_codebooks, n_frames), such as the codes of a stream, or audio instead"
    if not isinstance(codes, Tensor):
        raise InputError(f"segment codes of type {type(codes).__name__}: {advice}")
    if codes.ndim != 2 or codes.dtype != torch.int64:
        raise InputError(f"segment codes of shape {tuple(codes.shape)} and {codes.dtype}: {advice}")
    if codes.numel() and int(codes.min()) < 0:
        raise InputError(f"segment codes down to {int(codes.min())}: codes are never negative; {advice}")


def _check(asked: SpeechSettings | Request) -> None:
    """Raise InputError for a value that no request can have."""
    check_speaker(asked.speaker)
    length, seed, guards = asked.max_audio_length_ms, asked.seed, asked.guards
    if not is_finite(length) or length < FRAME_MS:
        raise InputError(f"max_audio_length_ms={length!r}: give at least one frame, {FRAME_MS} ms")
    if seed is not None and not (is_integer(seed) and 0 <= seed < 2**63):
        raise InputError(f"seed={seed!r}: give an integer in [0, 2**63), or None for a new one each time")
    if not isinstance(guards, Guards):
        kind = type(guards).__name__
        raise InputError(f"guards of type {kind}: give Guards(), with what you change, or Guards.off() for none")


def check_context(context: object) -> tuple[Segment, ...]:
    """Return the turns of a context as a tuple; raises InputError unless they are Segments in a list."""
    given = isinstance(context, Sequence)
    strangers = [item for item in context if not isinstance(item, Segment)] if given else [context]
    if strangers:
        raise InputError(f"context holds a {type(strangers[0]).__name__}: give a list of Segments, oldest first")
    return tuple(context)


def check_speaker(speaker: object) -> None:
    """Raise InputError unless ``speaker`` is a non-negative integer."""
    if not is_integer(speaker) or speaker < 0:
        raise InputError(f"speaker={speaker!r}: give a non-negative integer such as 0 or 1")


def check_text(text: object) -> None:
    """Raise InputError unless ``text`` is a string with something to say, of at most 100 000 letters."""
    if isinstance(text, str) and len(text) > MOST_LETTERS:  # at once: tokenizing megabytes takes seconds
        raise InputError(f"text of {len(text)} letters: give at most {MOST_LETTERS}, an hour of speech and more")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"text={text!r}: give a sentence to speak")
