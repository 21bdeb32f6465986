"""The codec plugins: codes of frames to 24 kHz sound, and back.

Each is a `csmkit.codec.Codec`: "streaming" is exact, "independent" is the baseline with clicks at its seams, "fake"
needs no weights. "moshi" is in `csmkit.mimi.moshi`.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, cached_property
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE, Waveform, as_mono
from csmkit.codec import BatchOfRows, Codec, CodecBatch, CodecStream, FrameDecoder
from csmkit.errors import CheckpointError
from csmkit.machine import n_cores
from csmkit.mimi.checkpoint import load_decoder, load_encoder
from csmkit.mimi.decoder import MimiDecoder, MimiState
from csmkit.mimi.files import CodecFiles

if TYPE_CHECKING:
    from transformers import MimiModel

ROWS_OF_A_THREAD = 4  # fewer rows are decoded faster in one pass than by two threads


class MimiCodec(Codec):
    """The base of the codecs with Mimi weights: it has the files and the encoder.

    Args:
        files: files of the codec.
        device: device that the codec runs on.

    Raises:
        CheckpointError: the codec's frame is not 1920 samples at 24 kHz.
    """

    def __init__(self, files: CodecFiles, device: torch.device) -> None:
        config = files.config
        if (config.sample_rate, config.frame_samples) != (SAMPLE_RATE, FRAME_SAMPLES):
            raise CheckpointError(
                f"codec in {str(files.path)!r} with {config.frame_samples} samples a frame at {config.sample_rate} Hz: "
                f"csmkit needs {FRAME_SAMPLES} at {SAMPLE_RATE} Hz"
            )
        self.files, self.device = files, device
        self.n_codebooks, self.codebook_size = config.n_codebooks, config.codebook_size

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load the decoder; the encoder is loaded at the first `encode`.

        Args:
            path: a Mimi or CSM directory, or moshi's file, as for `CodecFiles`.
            device: device that the codec runs on; sound is returned on the CPU.
            dtype: dtype of the weights; float32 is exact to 1e-6, bfloat16 is faster.

        Raises:
            CheckpointNotFoundError: ``path`` does not exist or holds no codec.
            CheckpointError: the files are damaged or partial, or the codec cannot stream.
        """
        return cls.of_files(CodecFiles(path), torch.device(device), dtype)

    @classmethod
    @abstractmethod
    def of_files(cls, files: CodecFiles, device: torch.device, dtype: torch.dtype) -> Self:
        """Load the decoder of these files."""

    @cached_property
    def _encoder(self) -> MimiModel:
        return load_encoder(self.files, self.device)

    def encode(self, audio: Waveform) -> Tensor:
        """As `Codec.encode`; time and memory grow with the sound.

        The last frame is filled up with silence before encoding, as moshi does it; transformers' own padding inside
        the convolutions gives that frame other codes.
        """
        samples = as_mono(audio)
        n_frames = -(-len(samples) // FRAME_SAMPLES)
        if not n_frames:
            return torch.zeros(self.n_codebooks, 0, dtype=torch.int64)
        filled = torch.zeros(1, 1, n_frames * FRAME_SAMPLES)
        filled[0, 0, : len(samples)] = torch.from_numpy(samples)
        with torch.no_grad():
            encoded = self._encoder.encode(filled.to(self.device), num_quantizers=self.n_codebooks, return_dict=True)
        return encoded.audio_codes[0].cpu()


class StreamingCodec(MimiCodec):
    """The exact codec: the samples do not depend on how the frames are divided into calls.

    Args:
        decoder: decoder with its weights, on its device.
        files: files that the decoder was loaded from.
    """

    def __init__(self, decoder: MimiDecoder, files: CodecFiles) -> None:
        super().__init__(files, decoder.tables.device)
        self.decoder = decoder
        self.frame_decoder: FrameDecoder | None = decoder

    @classmethod
    def of_files(cls, files: CodecFiles, device: torch.device, dtype: torch.dtype) -> Self:
        return cls(load_decoder(files, device=device, dtype=dtype), files)

    def stream(self) -> CodecStream:
        return _ExactStream(self)

    def streams(self, batch: int) -> CodecBatch:
        state = self.decoder.new_state(batch)
        return _ExactBatch(self, [(state, row) for row in range(batch)])


class _ExactStream(CodecStream):
    def __init__(self, codec: StreamingCodec) -> None:
        self._codec, self._state = codec, codec.decoder.new_state()

    def decode(self, codes: Tensor) -> Tensor:
        codes = self._codec.check(codes)
        if not codes.shape[1]:
            return torch.zeros(0)
        with torch.no_grad():
            samples = self._codec.decoder(codes.to(self._codec.device), self._state)
        return samples.to("cpu", torch.float32)


class _ExactBatch(BatchOfRows):
    """All rows in one pass, so that the weights are read once for all of them; a row is a state and its row there.

    Streams that leave, come back or change places are copied when they are next decoded, not before. On a CPU with
    one torch thread, many rows are divided among several threads of this class: these wait for one another once a
    frame, torch's own threads at every product.
    """

    def decode(self, codes: Tensor) -> Tensor:
        frames = self._codec.check(codes.t()).t().unsqueeze(2).to(self._codec.device)
        state = self._together()
        bounds = _shares(len(frames), self._codec.device)
        parts = [(frames[start:end], state.view(start, end)) for start, end in pairwise(bounds)]
        others = [_threads(os.getpid()).submit(self._part, *part) for part in parts[1:]]
        try:
            samples = [self._part(*parts[0])]
        finally:
            wait(others)
        return torch.cat([*samples, *(other.result() for other in others)])

    def _part(self, frames: Tensor, state: MimiState) -> Tensor:
        with torch.no_grad():
            return self._codec.decoder(frames, state).to("cpu", torch.float32)

    def _together(self) -> MimiState:
        """The streams as one state: over their memory where they lie there side by side, else copied."""
        state, first = self._rows[0]
        if any(other is not state or row != first + i for i, (other, row) in enumerate(self._rows)):
            with torch.inference_mode(False), torch.no_grad():
                state, first = MimiState.gather(self._rows), 0
            self._rows = [(state, row) for row in range(len(self._rows))]
        return state.view(first, first + len(self._rows))


def _shares(n_rows: int, device: torch.device) -> list[int]:
    """The bounds of the rows of each thread, from 0 to ``n_rows``."""
    n_parts = 1
    if device.type == "cpu" and torch.get_num_threads() == 1:
        n_parts = max(1, min(n_cores(), n_rows // ROWS_OF_A_THREAD))
    return [n_rows * part // n_parts for part in range(n_parts + 1)]


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of a process; a fork does not inherit those of its parent."""
    return ThreadPoolExecutor(n_cores(), thread_name_prefix="csmkit-codec")


class IndependentCodec(StreamingCodec):
    """The baseline: every call is decoded alone, as after silence, so that each seam between calls clicks.

    Arguments as `StreamingCodec`.
    """

    def __init__(self, decoder: MimiDecoder, files: CodecFiles) -> None:
        super().__init__(decoder, files)
        self.frame_decoder = None  # such a decoder keeps its state between calls

    def stream(self) -> CodecStream:
        return _IndependentStream(self)

    def streams(self, batch: int) -> CodecBatch:
        return Codec.streams(self, batch)

    def decode_whole(self, codes: Tensor) -> Tensor:
        return _ExactStream(self).decode(codes)


class _IndependentStream(CodecStream):
    def __init__(self, codec: IndependentCodec) -> None:
        self._codec = codec

    def decode(self, codes: Tensor) -> Tensor:
        return self._codec.decode_whole(codes)


class FakeCodec(Codec):
    """A codec without weights, for tests: each frame is a tone whose pitch and loudness come from its codes.

    The phase continues from frame to frame, and the loudness changes gradually from that of the last frame. So a stream
    that is restarted or shared by mistake has other samples than the whole.

    Args:
        n_codebooks: number of codes in a frame.
        codebook_size: number of different codes.
    """

    def __init__(self, n_codebooks: int = 8, codebook_size: int = 2048) -> None:
        self.n_codebooks, self.codebook_size = n_codebooks, codebook_size

    @classmethod
    def load(cls, path: object = "", **_: object) -> Self:
        """A fake codec of the default sizes; all arguments are ignored."""
        return cls()

    def stream(self) -> CodecStream:
        return _FakeStream(self)

    def encode(self, audio: Waveform) -> Tensor:
        """Codes that follow the loudness of each frame, the same for the same sound."""
        samples = torch.from_numpy(as_mono(audio).copy())
        n_frames = math.ceil(len(samples) / FRAME_SAMPLES)
        filled = torch.nn.functional.pad(samples, (0, n_frames * FRAME_SAMPLES - len(samples)))
        loudness = filled.view(n_frames, FRAME_SAMPLES).abs().mean(1)
        rows = torch.arange(1, self.n_codebooks + 1)[:, None]
        return (loudness * 10_000 * rows).long() % self.codebook_size


class _FakeStream(CodecStream):
    def __init__(self, codec: FakeCodec) -> None:
        self._codec, self._turns, self._loudness = codec, 0.0, 0.0

    def decode(self, codes: Tensor) -> Tensor:
        codes = self._codec.check(codes)
        return torch.cat([torch.zeros(0), *(self._tone(frame) for frame in codes.t())])

    def _tone(self, frame: Tensor) -> Tensor:
        share = frame.double() / self._codec.codebook_size
        step = (100.0 + 400.0 * float(share[0])) / SAMPLE_RATE  # turns a sample, 100 to 500 Hz
        loudness = 0.05 + 0.25 * float(share.mean())
        samples = torch.arange(1, FRAME_SAMPLES + 1, dtype=torch.float64)
        glide = self._loudness + (loudness - self._loudness) * samples / FRAME_SAMPLES
        tone = glide * torch.sin(2 * torch.pi * (self._turns + step * samples))
        self._turns = (self._turns + step * FRAME_SAMPLES) % 1.0
        self._loudness = loudness
        return tone.float()
