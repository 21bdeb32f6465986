"""The interface of a codec: streams, batches of streams, and what may be given to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.audio import Waveform


class CodecStream(ABC):
    """One stream of sound: what it has decoded colours what comes next. Dropping it is all there is to closing it."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            codes: ``(n_codebooks, n_frames)`` integers in [0, codebook_size); any number of frames, fastest is one.

        Returns:
            ``(n_frames * 1920,)`` float32 on the CPU, at 24 kHz, about [-1, 1]; not clipped.

        Raises:
            InputError: codes of another shape, dtype or range. The stream is untouched then.
        """


class CodecBatch(ABC):
    """Streams that begin together and go on frame by frame, such as the rows of a batch."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next frame of each stream.

        Args:
            codes: ``(batch, n_codebooks)`` integers in [0, codebook_size).

        Returns:
            ``(batch, 1920)`` float32 on the CPU; each row within 1e-5 of full scale of what its stream gives alone.

        Raises:
            InputError: codes of another shape, dtype or range. The streams are untouched then.
        """

    @abstractmethod
    def take(self, rows: Sequence[int]) -> None:
        """Go on with these streams alone, in this order; the others end."""


class _SeparateStreams(CodecBatch):
    """A batch of a codec that knows single streams only."""

    def __init__(self, streams: Sequence[CodecStream]) -> None:
        self._streams = list(streams)

    def decode(self, codes: Tensor) -> Tensor:
        pairs = zip(self._streams, codes, strict=True)
        return torch.stack([stream.decode(frame.unsqueeze(1)) for stream, frame in pairs])

    def take(self, rows: Sequence[int]) -> None:
        self._streams = [self._streams[row] for row in rows]


class Codec(ABC):
    """Codes to sound and back.

    Attributes:
        n_codebooks: codes a frame.
        codebook_size: codes are below it.
    """

    n_codebooks: int
    codebook_size: int

    @abstractmethod
    def stream(self) -> CodecStream:
        """A new stream, independent of all others."""

    def streams(self, batch: int) -> CodecBatch:
        """Several new streams that go on together."""
        return _SeparateStreams([self.stream() for _ in range(batch)])

    @abstractmethod
    def encode(self, audio: Waveform) -> Tensor:
        """Codes of a whole waveform.

        Args:
            audio: ``(samples,)`` at 24 kHz, as `csmkit.audio.as_mono` takes it.

        Returns:
            ``(n_codebooks, ceil(samples / 1920))`` int64 on the CPU.

        Raises:
            InputError: audio of the wrong shape or dtype.
        """

    def decode_whole(self, codes: Tensor) -> Tensor:
        """Decode from silence on; arguments, result and errors as `CodecStream.decode`."""
        return self.stream().decode(codes)

    def check(self, codes: Tensor) -> Tensor:
        """The codes as int64 on the CPU.

        Raises:
            InputError: they are not integers of ``(n_codebooks, n_frames)`` in [0, codebook_size).
        """
        if not isinstance(codes, Tensor) or codes.is_floating_point() or codes.dtype in (torch.bool, torch.complex64):
            kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
            raise InputError(f"codes of {kind}: give an int64 tensor of shape ({self.n_codebooks}, n_frames)")
        if codes.ndim != 2 or codes.shape[0] != self.n_codebooks:
            raise InputError(
                f"codes of shape {tuple(codes.shape)}: give ({self.n_codebooks}, n_frames), one row a codebook"
            )
        codes = codes.to("cpu", torch.int64)
        if codes.numel():
            low, high = (int(bound) for bound in codes.aminmax())
            if low < 0 or high >= self.codebook_size:
                raise InputError(
                    f"codes from {low} to {high}: the codebooks hold 0 to {self.codebook_size - 1}; "
                    "leave out special and end frames"
                )
        return codes
