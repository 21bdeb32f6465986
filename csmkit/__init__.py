"""Low-latency conversational speech with CSM, on a notebook.

The names below are imported when first used, so that ``import csmkit`` loads neither torch nor a model::

    from csmkit import Generator

    for chunk in Generator.load("pocket").generate_streaming("Hello there."):
        ...
"""

from __future__ import annotations

import os

# Idle OpenMP threads that spin take the core away from the other stages; libgomp reads this once, when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from csmkit import moved
from csmkit.version import __version__ as __version__

if TYPE_CHECKING:
    from csmkit.asr.streaming import StreamingWhisperASR as StreamingWhisperASR
    from csmkit.audio import SAMPLE_RATE as SAMPLE_RATE
    from csmkit.chat.chatbot import StreamingConversationalChatbot as StreamingConversationalChatbot
    from csmkit.chat.settings import TurnOptions as TurnOptions
    from csmkit.csm.config import Sampling as Sampling
    from csmkit.errors import CsmkitError as CsmkitError
    from csmkit.live.conversation import LiveConversation as LiveConversation
    from csmkit.llm.contract import EchoLLM as EchoLLM
    from csmkit.llm.contract import FakeLLM as FakeLLM
    from csmkit.llm.server import ServerLLM as ServerLLM
    from csmkit.llm.transformers import TransformersLLM as TransformersLLM
    from csmkit.speech.abilities import Abilities as Abilities
    from csmkit.speech.base import FakeGenerator as FakeGenerator
    from csmkit.speech.generator import Generator as Generator
    from csmkit.speech.guards import Guards as Guards
    from csmkit.speech.settings import Request as Request
    from csmkit.speech.settings import Segment as Segment
    from csmkit.speech.settings import SpeechSettings as SpeechSettings
    from csmkit.speech.speaker_prompt import voice_prompt as voice_prompt
    from csmkit.stack import Models as Models
    from csmkit.stack import Stack as Stack

_HOME = {
    "SAMPLE_RATE": "csmkit.audio",
    "Abilities": "csmkit.speech.abilities",
    "CsmkitError": "csmkit.errors",
    "EchoLLM": "csmkit.llm.contract",
    "FakeGenerator": "csmkit.speech.base",
    "FakeLLM": "csmkit.llm.contract",
    "Generator": "csmkit.speech.generator",
    "Guards": "csmkit.speech.guards",
    "Models": "csmkit.stack",
    "Request": "csmkit.speech.settings",
    "Sampling": "csmkit.csm.config",
    "Segment": "csmkit.speech.settings",
    "ServerLLM": "csmkit.llm.server",
    "SpeechSettings": "csmkit.speech.settings",
    "Stack": "csmkit.stack",
    "StreamingConversationalChatbot": "csmkit.chat.chatbot",
    "LiveConversation": "csmkit.live.conversation",
    "StreamingWhisperASR": "csmkit.asr.streaming",
    "TransformersLLM": "csmkit.llm.transformers",
    "TurnOptions": "csmkit.chat.settings",
    "voice_prompt": "csmkit.speech.speaker_prompt",
}
__all__ = list(_HOME)


moved.install()


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'csmkit' has no attribute {name!r}; public are {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
