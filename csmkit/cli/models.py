"""Loading the models of a command, announced one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import csmkit
from csmkit.cli.console import Teller
from csmkit.cli.options import ModelOptions
from csmkit.cli.speaker_options import time_reading
from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.llm.transformers import LLM
    from csmkit.speech.generator import Generator


def describe_device(device: Any) -> str:
    """What the optimisations rest on, in a line."""
    import torch

    if device.type == "cuda":
        return f"CUDA optimizations enabled on {torch.cuda.get_device_name(device)} (bfloat16)"
    n_threads = torch.get_num_threads()
    threads = f"{n_threads} thread{'s' * (n_threads > 1)}"
    return f"running on the CPU ({threads}, float32): CUDA optimizations are off"


def check_turn(load: ModelOptions, **options: Any) -> None:
    """Raise InputError for a preset or an option of the turns that cannot be, before anything is loaded."""
    from csmkit.chat.settings import chat_models

    chat_models(load.preset).options.changed(**options)


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
    from csmkit.chat.settings import SPOKEN_STYLE
    from csmkit.llm.server import ServerLLM

    return ServerLLM(name, base_url=url, system_prompt=SPOKEN_STYLE, seed=seed)


def load_generator(load: ModelOptions, teller: Teller) -> Generator:
    """The preset's voice, announced."""
    from csmkit.chat.settings import chat_models
    from csmkit.speech.generator import Generator

    start = time.perf_counter()
    generator = Generator.load(chat_models(load.preset).speech, device=load.device, execution=load.mode())
    generator.warm_up()
    seconds = time.perf_counter() - start
    where = generator.model.device
    teller.say(f"csmkit {csmkit.__version__}, {describe_device(where)}", csmkit=csmkit.__version__)
    facts = {"csm_ready_s": seconds, "device": str(where), "execution": generator.execution}
    teller.say(f"CSM ready on {where} ({seconds:.1f}s)", **facts)
    return generator


@contextmanager
def load_chatbot(
    load: ModelOptions, whisper: str, teller: Teller, **options: Any
) -> Iterator[StreamingConversationalChatbot]:
    """All of the preset's models, announced one by one; closed at the end."""
    from csmkit.asr.streaming import StreamingWhisperASR
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.settings import chat_models

    generator = load_generator(load, teller)
    start = time.perf_counter()
    asr = StreamingWhisperASR(whisper, preset=chat_models(load.preset).asr_preset)
    asr.prepare()
    seconds = time.perf_counter() - start
    teller.say(f"Whisper ready: {whisper} ({seconds:.1f}s)", whisper_ready_s=seconds, whisper=whisper)
    start = time.perf_counter()
    with asr, StreamingConversationalChatbot(generator=generator, asr=asr, preset=load.preset, **options) as chatbot:
        seconds = time.perf_counter() - start
        teller.say(f"Language model ready ({seconds:.1f}s)", llm_ready_s=seconds)
        if chatbot.options.voice:
            teller.voice(time_reading(generator, chatbot.options.voice))
        yield chatbot
