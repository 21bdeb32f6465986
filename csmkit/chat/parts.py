"""A chatbot's parts, from what its user gives: an object, a plugin's name, or the name of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csmkit import plugins
from csmkit.asr.worker import StreamingWhisperASR
from csmkit.chat.llm import LLM
from csmkit.chat.options import ChatModels

if TYPE_CHECKING:
    from csmkit.speech import SpeechGenerator


def find_voice(generator: SpeechGenerator | str) -> SpeechGenerator:
    """The voice; errors as `csmkit.generator.Generator.load`."""
    if not isinstance(generator, str):
        return generator
    if generator in plugins.available("speech") or ":" in generator:
        return plugins.load("speech", generator)()
    return plugins.load("speech", "csm")(generator)


def find_language_model(llm: LLM | ChatModels | str) -> LLM:
    """The language model; those of a preset are given as its models. Errors as `csmkit.chat.llm.TransformersLLM`."""
    if isinstance(llm, ChatModels):
        return plugins.load("llm", "transformers")(llm.llm, **llm.llm_options)
    if not isinstance(llm, str):
        return llm
    if llm in plugins.available("llm") or ":" in llm:
        return plugins.load("llm", llm)()
    return plugins.load("llm", "transformers")(llm)


def find_recogniser(asr: StreamingWhisperASR | str | bool, preset: str) -> StreamingWhisperASR | None:
    """The recogniser, loaded unless it was given; None for False. Errors as `StreamingWhisperASR.prepare`."""
    if asr is False:
        return None
    if isinstance(asr, str):
        if asr in plugins.available("asr") or ":" in asr:
            asr = StreamingWhisperASR(asr, transcriber=plugins.load("asr", asr)())
        else:
            asr = StreamingWhisperASR(asr, preset=preset)
        asr.prepare()
    assert not isinstance(asr, bool)
    return asr
