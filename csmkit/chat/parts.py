"""A chatbot's parts, from what its user gives: an object, a plugin's name, or the name of a model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from csmkit import plugins
from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.chat.settings import ChatModels
from csmkit.errors import InputError
from csmkit.llm.transformers import LLM

if TYPE_CHECKING:
    from csmkit.speech.base import SpeechGenerator


def find_voice(generator: SpeechGenerator | str) -> SpeechGenerator:
    """The voice; errors as `csmkit.speech.generator.Generator.load`."""
    if not isinstance(generator, str):
        return generator
    if generator in plugins.available("speech") or ":" in generator:
        return _made("speech", generator)
    return plugins.load("speech", "csm")(generator)


def find_language_model(llm: LLM | ChatModels | str, seed: int | None = None) -> LLM:
    """The language model; those of a preset are given as its models. Errors as `TransformersLLM`.

    A ``seed`` is for one that is loaded here; one that was made elsewhere, or is a plugin, has its own.
    """
    if isinstance(llm, ChatModels):
        return plugins.load("llm", "transformers")(llm.llm, **({"seed": seed} | llm.llm_options))
    if not isinstance(llm, str):
        return llm
    if llm in plugins.available("llm") or ":" in llm:
        return _made("llm", llm)
    return plugins.load("llm", "transformers")(llm, seed=seed)


def find_recogniser(asr: StreamingWhisperASR | str | bool, preset: str) -> StreamingWhisperASR | None:
    """The recogniser, loaded unless it was given; None for False. Errors as `StreamingWhisperASR.prepare`."""
    if asr is False:
        return None
    if isinstance(asr, str):
        if asr in plugins.available("asr") or ":" in asr:
            asr = StreamingWhisperASR(asr, transcriber=_made("asr", asr))
        else:
            asr = StreamingWhisperASR(asr, preset=preset)
        asr.prepare()
    assert not isinstance(asr, bool)
    return asr


def _made(kind: str, name: str) -> Any:
    """A plugin by its name alone; InputError where it cannot be made without more."""
    factory = plugins.load(kind, name)
    try:
        inspect.signature(factory).bind()
    except ValueError:  # it does not tell what it takes
        pass
    except TypeError as error:
        raise InputError(f"{kind} plugin {name!r} by its name alone: {error}; make it and give the object") from error
    return factory()
