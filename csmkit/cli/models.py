"""Loads the models of a command, and prints how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import csmkit
from csmkit.cli.console import Console
from csmkit.cli.options import ModelOptions

if TYPE_CHECKING:
    from csmkit.asr.streaming import StreamingWhisperASR
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.speech.base import SpeechGenerator
    from csmkit.speech.generator import Generator
    from csmkit.speech.settings import Segment
    from csmkit.stack import Stack


CUDA_MODES = ("graph", "compiled")  # execution modes that do not launch each kernel of a frame by itself


def open_stack(load: ModelOptions, seed: int | None = None) -> Stack:
    """The models that the options name, each loaded when it is first used; ``seed`` is that of the language model."""
    from csmkit.stack import Stack, find_models

    models = find_models(load.preset)
    models = replace(models, llm_options={"seed": seed, **models.llm_options}, speech=load.model or models.speech)
    return Stack(models, voice=load.loading())


def describe_voice(generator: Generator) -> str:
    """Device, execution mode and dtype of a generator, in one line."""
    import torch

    device, mode = generator.model.device, generator.execution
    weights = str(generator.model.projection.dtype).removeprefix("torch.")
    if device.type == "cuda":
        state = "enabled" if mode in CUDA_MODES else "off"
        return f"CUDA optimizations {state} on {torch.cuda.get_device_name(device)} ({mode}, {weights})"
    n_threads = torch.get_num_threads()
    threads = f"{n_threads} thread{'s' * (n_threads > 1)}"
    return f"running on the CPU ({threads}, {mode}, {weights}): CUDA optimizations are off"


def check_turn(load: ModelOptions, **options: Any) -> None:
    """Raise InputError for options of the models or of the turns that cannot be used, before a model is loaded."""
    from csmkit.chat.settings import turn_options

    turn_options(open_stack(load).models).changed(**options)


def load_generator(load: ModelOptions, console: Console, voice: Sequence[Segment] = ()) -> Generator:
    """The generator that the options name, loaded and warmed up; raises as `announce_voice`."""
    return announce_voice(open_stack(load), console, voice)


def announce_voice(stack: Stack, console: Console, voice: Sequence[Segment] = ()) -> Generator:
    """Load a stack's generator and print what it runs on; InputError where it cannot follow the prompt ``voice``."""
    generator = cast("Generator", stack.voice)
    generator.abilities.check_prompt(voice)
    seconds, where = stack.load_s["speech"], generator.model.device
    console.say(f"csmkit {csmkit.__version__}, {describe_voice(generator)}", csmkit=csmkit.__version__)
    dtype = str(generator.model.projection.dtype).removeprefix("torch.")
    facts = {"csm_ready_s": seconds, "device": str(where), "execution": generator.execution, "dtype": dtype}
    console.say(f"CSM ready on {where} ({seconds:.1f}s)", **facts)
    return generator


def announce_recogniser(stack: Stack, whisper: str, console: Console) -> StreamingWhisperASR:
    """Load a recogniser of a stack, and print its name."""
    asr = stack.recogniser(whisper)
    seconds = stack.load_s["asr"]
    console.say(f"Whisper ready: {whisper} ({seconds:.1f}s)", whisper_ready_s=seconds, whisper=whisper)
    return asr


def announce_chatbot(stack: Stack, console: Console, **options: Any) -> StreamingConversationalChatbot:
    """Make a chatbot of a stack, whose language model is loaded with it, and print how long that took."""
    from csmkit.chat.chatbot import StreamingConversationalChatbot

    chatbot = StreamingConversationalChatbot(preset=stack, **options)
    seconds = chatbot.load_s["llm"]
    console.say(f"Language model ready ({seconds:.1f}s)", llm_ready_s=seconds)
    return chatbot


@contextmanager
def load_chatbot(
    load: ModelOptions, whisper: str, console: Console, **options: Any
) -> Iterator[StreamingConversationalChatbot]:
    """A chatbot of the models that the options name, for a ``with`` block, which closes it."""
    with open_stack(load, options.get("seed")) as stack:
        generator = announce_voice(stack, console, options.get("voice", ()))
        asr = announce_recogniser(stack, whisper, console)
        with announce_chatbot(stack, console, asr=asr, **options) as chatbot:
            announce_prompt(generator, chatbot.options.voice, console)
            yield chatbot


def announce_prompt(generator: SpeechGenerator, voice: Sequence[Segment], console: Console) -> None:
    """Let the generator read a speaker prompt, if any, so that no text waits for it, and print how long that took."""
    from csmkit.audio import FRAME_RATE

    if not voice:
        return
    start = time.perf_counter()
    generator.warm_up(voice)
    seconds, voice_s = time.perf_counter() - start, sum(segment.n_frames for segment in voice) / FRAME_RATE
    line = f"Speaker prompt ready: {voice_s:.1f}s of sound ({seconds:.1f}s)"
    console.say(line, voice_ready_s=seconds, voice_s=voice_s)
