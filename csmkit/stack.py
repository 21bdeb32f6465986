"""Presets and their models: everything else loads, warms up and shares models through this module."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import csmkit.plugins as plugins
from csmkit.closing import Closing
from csmkit.errors import InputError
from csmkit.files.hub import DEFAULT_WHISPER

if TYPE_CHECKING:
    from csmkit.asr.streaming import StreamingWhisperASR
    from csmkit.llm.contract import LLM
    from csmkit.speech.base import SpeechGenerator

log = logging.getLogger(__name__)

SPOKEN_STYLE = "You are heard, not read: answer in one or two short sentences of plain words."
DTYPES = ("float32", "bfloat16", "float16")
_WARM_UP_S = 0.5  # of silence that a recogniser transcribes


@dataclass(frozen=True)
class Models:
    """The models of a preset.

    Attributes:
        speech: name of the voice for `Generator.load`, or of a speech plugin such as ``fake``; or a loaded one.
        llm: name of the language model for `TransformersLLM`, or of an llm plugin such as ``echo``; or a loaded one.
        asr: name of the recogniser for `StreamingWhisperASR`, or of an asr plugin such as ``fake``.
        asr_preset: preset that says which model an ``asr`` such as ``base.en`` names.
        llm_options: keywords of `TransformersLLM`.
        options: defaults for how turns are spoken: fields of `csmkit.chat.settings.TurnOptions`, or such an object.
    """

    speech: str | SpeechGenerator = "pocket"
    llm: str | LLM = "pocket"
    asr: str = DEFAULT_WHISPER
    asr_preset: str = "pocket"
    llm_options: Mapping[str, Any] = field(default_factory=dict)
    options: Any = field(default_factory=dict)


PRESETS: dict[str, Models] = {
    "pocket": Models(options={"first_words": 10}),
    "sesame": Models(
        speech="sesame/csm-1b",
        llm="meta-llama/Llama-3.2-1B-Instruct",
        asr_preset="sesame",
        llm_options={"system_prompt": SPOKEN_STYLE},
        options={"context_turns": 2},  # without its earlier sound, CSM-1B changes its voice with every clause
    ),
}


def find_models(preset: str | Models | None = None) -> Models:
    """The models of a preset: the argument, else the variable CSMKIT_PRESET, else pocket.

    Raises:
        InputError: no preset of that name.
    """
    if isinstance(preset, Models):
        return preset
    name = preset or os.environ.get("CSMKIT_PRESET") or "pocket"
    if name not in PRESETS:
        raise InputError(f"preset {name!r}: the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True)
class VoiceLoading:
    """How a voice is loaded: keywords of `Generator.load`; None is the default of that function.

    Attributes:
        codec_weights: a directory, a file or a hub id with the codec's weights.
        device: device of the voice, such as ``cpu`` or ``cuda:0``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        execution: execution mode of a frame, such as ``eager`` or ``int8``.

    Raises:
        InputError: another dtype.
    """

    codec_weights: str | Path | None = None
    device: str | None = None
    dtype: str | None = None
    execution: str | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"dtype={self.dtype!r}: give {', '.join(DTYPES)}, or None to choose")

    def keywords(self) -> dict[str, Any]:
        """The keywords that are not None."""
        import torch

        values = {each.name: getattr(self, each.name) for each in fields(VoiceLoading)}
        given = {name: value for name, value in values.items() if value is not None}
        return given | ({"dtype": getattr(torch, self.dtype)} if self.dtype else {})


def load_voice(voice: SpeechGenerator | str, how: VoiceLoading | None = None) -> SpeechGenerator:
    """Return a voice: an object unchanged, a name loaded and warmed up.

    Args:
        voice: a generator, a speech plugin's name, or a name for `Generator.load`.
        how: keywords of `Generator.load`.

    Raises:
        CsmkitError: as `csmkit.speech.generator.Generator.load`.
    """
    if not isinstance(voice, str):
        return voice
    if voice != "csm" and (voice in plugins.available("speech") or ":" in voice):
        loaded = _made("speech", voice)
    else:
        loaded = plugins.load("speech", "csm")(voice, **({} if how is None else how.keywords()))
    loaded.warm_up()
    return loaded  # type: ignore[no-any-return]


def load_language_model(llm: LLM | str, options: Mapping[str, Any] | None = None) -> LLM:
    """Return a language model: an object unchanged, a name loaded and warmed up.

    Args:
        llm: a language model, an llm plugin's name, or a name for `TransformersLLM`.
        options: keywords of `TransformersLLM`; a plugin is made without any.

    Raises:
        CsmkitError: as `csmkit.llm.transformers.TransformersLLM`.
    """
    if not isinstance(llm, str):
        return llm
    if llm in plugins.available("llm") or ":" in llm:
        return _made("llm", llm)  # type: ignore[no-any-return]
    loaded = plugins.load("llm", "transformers")(llm, **(options or {}))
    loaded.warm_up()
    return loaded  # type: ignore[no-any-return]


def load_recogniser(
    asr: StreamingWhisperASR | str, preset: str, device: str | None = None, plugin: str = "whisper"
) -> StreamingWhisperASR:
    """Return a recogniser: an object once it is loaded, a name loaded and warmed up on half a second of silence.

    Args:
        asr: a recogniser, an asr plugin's name, or a model's name such as ``base.en``.
        preset: preset that says which model a name means, ``pocket`` or ``sesame``.
        device: device of Whisper; None is the CPU.
        plugin: name of the asr plugin that transcribes; ``whisper`` loads the Whisper of the name ``asr``.

    Raises:
        CsmkitError: as `StreamingWhisperASR.prepare`.
    """
    import numpy as np

    from csmkit.asr.streaming import StreamingWhisperASR
    from csmkit.audio import SAMPLE_RATE

    if not isinstance(asr, str):
        asr.prepare()
        return asr
    if plugin == "whisper" and (asr in plugins.available("asr") or ":" in asr):
        plugin = asr
    if plugin == "whisper":
        chosen = {} if device is None else {"device": device}
        loaded = StreamingWhisperASR(asr, preset=preset, **chosen)
    else:
        loaded = StreamingWhisperASR(asr, transcriber=_made("asr", plugin))
    loaded.transcribe(np.zeros(int(_WARM_UP_S * SAMPLE_RATE), np.float32))
    return loaded


class Stack(Closing):
    """One voice, one language model and several recognisers; each is loaded at its first use, and kept.

    Chatbots, servers and notebooks share models by sharing a stack. Any thread may use it.

    Args:
        preset: ``pocket``, ``sesame``, or a `Models`; None for the variable CSMKIT_PRESET, else pocket.
        voice: how the voice is loaded.
        asr_device: device of Whisper; None is the CPU.
        asr_plugin: name of the asr plugin that transcribes.

    Attributes:
        models: names of the preset's models, and its defaults for turns.
        load_s: seconds that loading and warming up took, by part: ``speech``, ``llm``, ``asr``.

    Raises:
        InputError: an unknown preset.
    """

    def __init__(
        self,
        preset: str | Models | None = None,
        *,
        voice: VoiceLoading | None = None,
        asr_device: str | None = None,
        asr_plugin: str = "whisper",
    ) -> None:
        self.models = find_models(preset)
        self.load_s: dict[str, float] = {}
        self._how, self._asr_device, self._asr_plugin = voice, asr_device, asr_plugin
        self._loaded: dict[tuple[str, str], Any] = {}  # by part and name
        self._lock = threading.RLock()

    @property
    def voice(self) -> SpeechGenerator:
        """The voice, warmed up; raises CsmkitError where it cannot be loaded."""
        return self._once("speech", lambda: load_voice(self.models.speech, self._how))  # type: ignore[no-any-return]

    @property
    def language_model(self) -> LLM:
        """The language model, warmed up, without a seed; raises CsmkitError where it cannot be loaded."""
        models = self.models
        return self._once("llm", lambda: load_language_model(models.llm, models.llm_options))  # type: ignore[no-any-return]

    def recogniser(self, name: str | None = None) -> StreamingWhisperASR:
        """The recogniser of a model's name, warmed up; None for the preset's.

        Raises:
            CsmkitError: as `StreamingWhisperASR.prepare`.
        """
        asr, preset = name or self.models.asr, self.models.asr_preset
        load = partial(load_recogniser, asr, preset, self._asr_device, self._asr_plugin)
        return self._once("asr", load, asr)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Release all models; a model that is used later is loaded again."""
        with self._lock:
            while self._loaded:
                (part, _), model = self._loaded.popitem()
                if part == "asr":
                    model.close()

    def _once(self, part: str, load: Callable[[], Any], name: str = "") -> Any:
        with self._lock:
            if (part, name) not in self._loaded:
                with timed(self.load_s, part):
                    self._loaded[part, name] = load()
            return self._loaded[part, name]


@contextmanager
def timed(load_s: dict[str, float], part: str) -> Iterator[None]:
    """Measure how many seconds a part takes to load, and log it."""
    started = perf_counter()
    yield
    load_s[part] = perf_counter() - started
    log.info("%s ready after %.2f s", part, load_s[part])


def _made(kind: str, name: str) -> Any:
    """Make a plugin by its name alone; InputError where it needs arguments."""
    factory = plugins.load(kind, name)
    try:
        inspect.signature(factory).bind()
    except ValueError:  # a factory whose signature cannot be read
        pass
    except TypeError as error:
        cure = "make it yourself, and give the object in place of the name"
        raise InputError(f"{kind} plugin {name!r} needs arguments ({error}): {cure}") from error
    return factory()
