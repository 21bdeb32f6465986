"""The models of a preset for the lab: each loaded when it is first asked for, and kept."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.settings import ChatModels, chat_models
from csmkit.speech.generator import Generator

if TYPE_CHECKING:
    from csmkit.speech.base import SpeechGenerator


class Stack:
    """One voice and several recognisers.

    Args:
        preset: ``pocket``, ``sesame``, or models of your own; None asks CSMKIT_PRESET and means pocket.

    Raises:
        InputError: an unknown preset.
    """

    def __init__(self, preset: str | ChatModels | None = None) -> None:
        self.models = chat_models(preset)
        self._recognisers: dict[str, StreamingWhisperASR] = {}

    @cached_property
    def voice(self) -> SpeechGenerator:
        """The voice, warmed up.

        Raises:
            CsmkitError: it cannot be loaded; the leaf says why.
        """
        voice = Generator.load(self.models.speech)
        voice.warm_up()
        return voice

    def recogniser(self, name: str) -> StreamingWhisperASR:
        """The recogniser of a model's name, such as ``base.en``, warmed up on a moment of silence.

        Raises:
            CsmkitError: as `StreamingWhisperASR.transcribe`.
        """
        if name not in self._recognisers:
            recogniser = StreamingWhisperASR(name, preset=self.models.asr_preset)
            recogniser.transcribe(np.zeros(SAMPLE_RATE // 2, np.float32))
            self._recognisers[name] = recogniser
        return self._recognisers[name]

    def close(self) -> None:
        """Let the recognisers and the voice go; what is asked for later is loaded again."""
        while self._recognisers:
            self._recognisers.popitem()[1].close()
        vars(self).pop("voice", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
