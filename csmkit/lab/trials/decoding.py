"""The same codes under another codec plugin, chunk by chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

import csmkit.plugins as plugins
from csmkit.errors import InputError
from csmkit.mimi.codecs import Codec, IndependentCodec, MimiCodec
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.long_text import Speech
from csmkit.speech.settings import Request
from csmkit.speech.streams import FrameStream

_codecs: WeakKeyDictionary[SpeechGenerator, dict[str, Codec]] = WeakKeyDictionary()


def codec_of(generator: SpeechGenerator, name: str) -> Codec:
    """The codec plugin of a name with the weights of a voice's own codec; loaded once for each voice.

    Raises:
        PluginError: no codec of that name.
        InputError: the voice's codec has no files that another could be loaded from.
    """
    factory, own = plugins.load("codec", name), generator.codec
    if type(own) is factory:
        return own
    if not isinstance(own, MimiCodec):
        raise InputError(
            f"codec={name!r} for a voice whose codec is a {type(own).__name__}, without files to load another from: "
            "give a voice with a codec of Mimi's weights, or the name of that codec"
        )
    known = _codecs.setdefault(generator, {})
    if name not in known:
        known[name] = factory.load(own.files.path, device=own.device)
    return known[name]


def decoded(
    generator: SpeechGenerator, requests: Sequence[Request], codec: Codec, schedules: Sequence[Sequence[int]]
) -> list[Speech]:
    """The sound of requests in chunks, each by its own schedule.

    A codec decodes frame by frame, but one that decodes every call alone gets each chunk in one call.
    """
    if isinstance(codec, IndependentCodec):
        pairs = zip(generator.run_batch(requests), schedules, strict=True)
        return [ChunksAlone(frames, codec, schedule) for frames, schedule in pairs]
    return list(generator.speak_batch(requests, schedules, codec))


class ChunksAlone(Iterator[Tensor]):
    """Chunks each decoded alone in one call, as stateless servers do it; no guard hears them.

    All else, such as ``codes`` and ``close``, is that of the stream of frames.
    """

    def __init__(self, frames: FrameStream, codec: IndependentCodec, schedule: Sequence[int]) -> None:
        self._frames, self._codec = frames, codec
        self._sizes = itertools.chain(schedule, itertools.repeat(schedule[-1]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    def __next__(self) -> Tensor:
        frames = list(itertools.islice(self._frames, next(self._sizes)))
        if not frames:
            raise StopIteration
        return self._codec.stream().decode(torch.stack(frames, dim=1))
