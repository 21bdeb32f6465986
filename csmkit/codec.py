"""What a codec is: single streams of sound, and streams that are decoded together.

A codec plugin is a subclass of `Codec` with a class method ``load(path, *, device, dtype)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from csmkit.audio import Waveform
from csmkit.errors import InputError, PluginError
from csmkit.plugins import load as load_plugin


class CodecStream(ABC):
    """One stream of sound. It keeps the state that later frames need; to end it, drop the object."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            codes: ``(n_codebooks, n_frames)`` integers in [0, codebook_size); any number of frames, best one.

        Returns:
            ``(n_frames * 1920,)`` float32 on the CPU, at 24 kHz, about [-1, 1]; not clipped.

        Raises:
            InputError: codes of another shape, dtype or range; the stream is not changed.
        """


class CodecBatch(ABC):
    """Streams that are decoded together, a frame of each at a time. They may begin and end at different frames."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next frame of each stream.

        Args:
            codes: ``(batch, n_codebooks)`` integers in [0, codebook_size).

        Returns:
            ``(batch, 1920)`` float32 on the CPU; each row is within 1e-5 of full scale of the same stream alone.

        Raises:
            InputError: codes of another shape, dtype or range; the streams are not changed.
        """

    @abstractmethod
    def take(self, rows: Sequence[int]) -> None:
        """Keep these streams, in this order; the others end."""

    @abstractmethod
    def split(self, rows: Sequence[int]) -> Self:
        """Move these streams, in this order, to a new batch; call `take` next, to keep only the others here."""

    @abstractmethod
    def join(self, other: Self) -> None:
        """Continue the streams of another batch of the same codec in rows after the present ones."""


class BatchOfRows(CodecBatch):
    """A batch that keeps each stream as an item of a list, so that moving streams copies nothing.

    Args:
        codec: decodes the streams.
        rows: the streams, as the codec keeps them.
    """

    def __init__(self, codec: Any, rows: Iterable[Any]) -> None:
        self._codec, self._rows = codec, list(rows)

    def take(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]

    def split(self, rows: Sequence[int]) -> Self:
        return type(self)(self._codec, [self._rows[row] for row in rows])

    def join(self, other: Self) -> None:
        self._rows += other._rows


class _SeparateStreams(BatchOfRows):
    """The batch of a codec that has only single streams: one call for each row."""

    def decode(self, codes: Tensor) -> Tensor:
        pairs = zip(self._rows, codes, strict=True)
        return torch.stack([stream.decode(frame.unsqueeze(1)) for stream, frame in pairs])


class FrameDecoderState(Protocol):
    """The state of a batch of streams, in tensors that stay at their addresses."""

    def restart(self) -> None:
        """Begin new streams in all rows."""

    def load(self, other: Any, rows: Sequence[int], start: int = 0) -> None:
        """Copy these streams of another state of the same decoder into this one, to the rows from ``start`` on."""


class FrameDecoder(Protocol):
    """A decoder that can run inside a frame: on one device, without waiting for it, at constant shapes.

    `csmkit.mimi.decoder.MimiDecoder` is one.
    """

    def new_state(self, batch: int) -> Any:
        """A `FrameDecoderState` of ``batch`` new streams."""

    def __call__(self, codes: Tensor, state: Any) -> Tensor:
        """Decode ``(batch, n_codebooks, 1)`` int64 on the device to ``(batch, 1920)``; changes ``state`` in place."""


class Codec(ABC):
    """Turns codes into sound and sound into codes.

    Attributes:
        n_codebooks: number of codes in a frame.
        codebook_size: number of different codes; all are in [0, codebook_size).
        device: device that the codec decodes on.
        frame_decoder: the same decoder for use inside a frame on ``device``; None if it cannot run there.
    """

    n_codebooks: int
    codebook_size: int
    device: torch.device = torch.device("cpu")
    frame_decoder: FrameDecoder | None = None

    @abstractmethod
    def stream(self) -> CodecStream:
        """Begin a new stream, independent of all others."""

    def streams(self, batch: int) -> CodecBatch:
        """Begin ``batch`` new streams that are decoded together."""
        return _SeparateStreams(self, [self.stream() for _ in range(batch)])

    @abstractmethod
    def encode(self, audio: Waveform) -> Tensor:
        """Encode a whole waveform.

        Args:
            audio: ``(samples,)`` at 24 kHz, as `csmkit.audio.as_mono` takes it.

        Returns:
            ``(n_codebooks, ceil(samples / 1920))`` int64 on the CPU.

        Raises:
            InputError: audio of the wrong shape or dtype.
        """

    def decode_whole(self, codes: Tensor) -> Tensor:
        """Decode all frames of an utterance in a stream of their own; as `CodecStream.decode`."""
        return self.stream().decode(codes)

    def check(self, codes: Tensor) -> Tensor:
        """Check codes; returns them as int64 on the CPU.

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


def load_codec(name: str, path: Any, **options: Any) -> Codec:
    """Load a codec plugin.

    Args:
        name: name of the plugin, as `csmkit.plugins.load` takes it.
        path: directory or file of its weights.
        options: keywords of its ``load``, such as ``device``.

    Raises:
        PluginError: the plugin is not a class with a method ``load``, or ``load`` does not return a `Codec`.
    """
    plugin = load_plugin("codec", name)
    load = getattr(plugin, "load", None)
    if not callable(load):
        raise PluginError(
            f"codec plugin {name!r} is {_described(plugin)} without a class method load(path, *, device, dtype): "
            "register a subclass of csmkit.codec.Codec that has one"
        )
    codec = load(path, **options)
    if not isinstance(codec, Codec):
        raise PluginError(
            f"codec plugin {name!r}: its load returned {_described(codec)}: return an instance of csmkit.codec.Codec"
        )
    return codec


def _described(thing: object) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return f"an object of type {type(thing).__name__}"
