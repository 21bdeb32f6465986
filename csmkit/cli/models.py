"""Loading the models of a command, announced one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import csmkit
from csmkit.cli.console import Console
from csmkit.cli.options import ModelOptions
from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.llm.contract import LLM
    from csmkit.speech.base import SpeechGenerator
    from csmkit.speech.generator import Generator
    from csmkit.speech.settings import Segment
    from csmkit.stack import Stack


CUDA_MODES = ("graph", "compiled")  # executions that take the launches of single kernels off a frame's time


def open_stack(load: ModelOptions, seed: int | None = None) -> Stack:
    """The models that a command's options name; nothing is loaded yet.

    Raises:
        InputError: an unknown preset or dtype, or modes that exclude each other.
    """
    from csmkit.stack import Stack, VoiceLoading, find_models

    models = find_models(load.preset)
    models = replace(models, llm_options={"seed": seed, **models.llm_options}, speech=load.model or models.speech)
    how = VoiceLoading(load.codec_weights, load.device, load.dtype, load.mode())
    return Stack(models, voice=how)


def describe_voice(generator: Generator) -> str:
    """On what a voice runs, by which execution mode and with which weights, in a line."""
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
    """Raise InputError for a model option or an option of the turns that cannot be used, before anything is loaded."""
    from csmkit.chat.settings import turn_options

    turn_options(open_stack(load).models).changed(**options)


def choose_llm(name: str | None, url: str | None, seed: int | None = None) -> LLM | str | None:
    """What a chatbot takes as its language model; None for the preset's.

    Raises:
        InputError: a server without the name of a model, or one that is no address.
        MissingDependencyError: the client of servers is not installed.
    """
    if url is None:
        return name
    if name is None:
        raise InputError(f"--llm-url {url} without --llm: give the name that the model has on that server")
    from csmkit.llm.server import ServerLLM
    from csmkit.stack import SPOKEN_STYLE

    return ServerLLM(name, base_url=url, system_prompt=SPOKEN_STYLE, seed=seed)


def load_generator(load: ModelOptions, console: Console) -> Generator:
    """The voice that the options name, warmed up and announced."""
    return announce_voice(open_stack(load), console)


def announce_voice(stack: Stack, console: Console) -> Generator:
    """Load the voice of a stack, and say on what it runs."""
    generator = cast("Generator", stack.voice)
    seconds, where = stack.load_s["speech"], generator.model.device
    console.say(f"csmkit {csmkit.__version__}, {describe_voice(generator)}", csmkit=csmkit.__version__)
    dtype = str(generator.model.projection.dtype).removeprefix("torch.")
    facts = {"csm_ready_s": seconds, "device": str(where), "execution": generator.execution, "dtype": dtype}
    console.say(f"CSM ready on {where} ({seconds:.1f}s)", **facts)
    return generator


@contextmanager
def load_chatbot(
    load: ModelOptions, whisper: str, console: Console, **options: Any
) -> Iterator[StreamingConversationalChatbot]:
    """All models that the options name, announced one by one; closed at the end."""
    from csmkit.chat.chatbot import StreamingConversationalChatbot

    with open_stack(load, options.get("seed")) as stack:
        generator = announce_voice(stack, console)
        generator.abilities.check_prompt(options.get("voice", ()))
        asr = stack.recogniser(whisper)
        seconds = stack.load_s["asr"]
        console.say(f"Whisper ready: {whisper} ({seconds:.1f}s)", whisper_ready_s=seconds, whisper=whisper)
        start = time.perf_counter()
        with StreamingConversationalChatbot(asr=asr, preset=stack, **options) as chatbot:
            seconds = time.perf_counter() - start
            console.say(f"Language model ready ({seconds:.1f}s)", llm_ready_s=seconds)
            if chatbot.options.voice:
                console.voice(time_reading(generator, chatbot.options.voice))
            yield chatbot


def time_reading(generator: SpeechGenerator, voice: Sequence[Segment]) -> dict[str, float]:
    """Let the generator encode and read a voice prompt before the first text waits for it; seconds of both.

    Raises:
        ContextOverflowError: the prompt leaves no room to speak.
    """
    from csmkit.audio import FRAME_RATE

    start = time.perf_counter()
    generator.warm_up(voice)
    seconds = time.perf_counter() - start
    return {"voice_ready_s": seconds, "voice_s": sum(segment.n_frames for segment in voice) / FRAME_RATE}
