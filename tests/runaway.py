"""Voices that follow a script: they ramble, repeat themselves, fall silent, or speak slowly."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from csmkit.mimi.codecs import CodecStream, FakeCodec
from csmkit.speech.base import FakeGenerator
from csmkit.speech.settings import Request

SILENT = 1  # the first code of a frame without sound


def loud(number: int) -> list[int]:
    """A frame with sound, another one for every number below 60 000."""
    return [2 + number // 1000, 1 + number % 1000]


def silent(number: int = 0) -> list[int]:
    """A frame without sound, another one for every number."""
    return [SILENT, 1 + number]


class LevelCodec(FakeCodec):
    """Noise of -60 dBFS for silent frames, a tone for the others; counts its calls."""

    def __init__(self) -> None:
        super().__init__(n_codebooks=2)
        self.n_calls = 0

    def stream(self) -> CodecStream:
        return _LevelStream(self)


class _LevelStream(CodecStream):
    def __init__(self, codec: LevelCodec) -> None:
        self._codec, self._tone = codec, FakeCodec.stream(codec)

    def decode(self, codes: Tensor) -> Tensor:
        assert codes.shape == (2, 1), "one call a frame"
        self._codec.n_calls += 1
        tone = self._tone.decode(codes)
        return 0.001 * tone.sign() if int(codes[0, 0]) == SILENT else tone


class ScriptedVoice(FakeGenerator):
    """Says a script, and notes how many frames were made and how many generations are open.

    Args:
        script: gives the frames, in order; where it ends, speech ends.
    """

    def __init__(self, script: Callable[[], Iterator[list[int]]]) -> None:
        super().__init__(LevelCodec())
        self.script = script
        self.n_made = self.n_open = 0

    def codes_of(self, request: Request, seed: int) -> Generator[Tensor, None, None]:
        self.n_made, self.n_open = 0, self.n_open + 1
        try:
            for frame in self.script():
                self.n_made += 1
                yield torch.tensor(frame)
        finally:
            self.n_open -= 1


def voice_of(*parts: Any) -> ScriptedVoice:
    """A voice that says its parts one after the other: a number of frames with sound, or functions that give frames."""

    def script() -> Iterator[list[int]]:
        n_loud = 0
        for part in parts:
            if callable(part):
                yield from part()
            else:
                yield from (loud(n_loud + number) for number in range(part))
                n_loud += part

    return ScriptedVoice(script)


def pause(n_frames: int, *, same: bool = False) -> Callable[[], Iterator[list[int]]]:
    """So many frames of silence, each unlike the one before unless they are to be the same."""
    return lambda: (silent(0 if same else number) for number in range(n_frames))


def cycle(length: int, n_frames: int = 10_000) -> Callable[[], Iterator[list[int]]]:
    """The same ``length`` frames with sound over and over."""
    return lambda: (loud(30_000 + number % length) for number in range(n_frames))
