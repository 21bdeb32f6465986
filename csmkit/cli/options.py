"""Options that several commands have, grouped in classes: models, speech, conversation, output."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from csmkit.cli.console import Console
from csmkit.errors import InputError
from csmkit.stack import SPOKEN_STYLE, Models, VoiceLoading

if TYPE_CHECKING:
    from csmkit.llm.contract import LLM
    from csmkit.speech.settings import Segment


@dataclass(frozen=True)
class ModelOptions:
    """The models and their device."""

    preset: Annotated[str | None, "pocket or sesame; default CSMKIT_PRESET, else pocket."] = None
    model: Annotated[str | None, "Voice instead of the preset's: a checkpoint directory or a hub id."] = None
    codec_weights: Annotated[str | None, "Weights of the codec: directory, file or hub id; default the voice's."] = None
    device: Annotated[str | None, "cpu or cuda; default CUDA where there is one."] = None
    dtype: Annotated[str | None, "Weights of the voice: float32, bfloat16, float16; default by the device."] = None
    execution: Annotated[str, "How a frame runs: auto, eager, graph, compiled, int8, int4."] = "auto"
    int8: Annotated[bool, "Weights of 8 bits on a CPU: the same as --execution int8."] = False

    def loading(self) -> VoiceLoading:
        """How the voice is loaded; raises InputError for ``--int8`` with another mode, or another dtype."""
        if self.int8 and self.execution not in ("auto", "int8"):
            raise InputError(f"--int8 with --execution {self.execution}: give one of them")
        return VoiceLoading(self.codec_weights, self.device, self.dtype, "int8" if self.int8 else self.execution)


@dataclass(frozen=True)
class SpeechOptions:
    """How a text is spoken; None for the default of the preset, else of `csmkit.speech.settings.SpeechSettings`."""

    chunk_frames: Annotated[str | None, "Frames of 80 ms in a chunk, or a schedule such as 1,2,4,6; default 6."] = None
    temperature: Annotated[float | None, "Temperature of sampling; 0 is greedy; default the checkpoint's own."] = None
    topk: Annotated[int | None, "Number of codes to sample from; default the checkpoint's own."] = None
    max_audio_ms: Annotated[float | None, "Longest sound of a clause, in milliseconds; default 8000."] = None
    speaker: Annotated[int | None, "Number of the speaker; default 0."] = None
    voice: Annotated[Path | None, "Recording to speak like, up to 30 s; with --voice-text."] = None
    voice_text: Annotated[str | None, "The words spoken in the recording."] = None
    seed: Annotated[int | None, "The same seed gives the same words and the same sound."] = None
    guards: Annotated[str | None, "on stops what repeats, is silent or endless; off lets it go on; default on."] = None
    raw_text: Annotated[bool, "Give the voice the text as it is written, with its numbers and signs."] = False

    def given(self) -> dict[str, Any]:
        """The fields of `SpeechSettings` that were given; raises InputError for ``--chunk-frames`` and ``--guards``."""
        from csmkit.speech.guards import Guards

        if self.guards not in (None, "on", "off"):
            raise InputError(f"--guards {self.guards!r}: give on or off")
        settings = {
            "chunk_frames": None if self.chunk_frames is None else parse_schedule(self.chunk_frames),
            "temperature": self.temperature,
            "topk": self.topk,
            "max_audio_length_ms": self.max_audio_ms,
            "speaker": self.speaker,
            "seed": self.seed,
            "guards": {None: None, "on": Guards(), "off": Guards.off()}[self.guards],
            "raw_text": self.raw_text or None,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def voice_prompt(self) -> list[Segment]:
        """The speaker prompt of ``--voice``, as segments; empty without one.

        Raises:
            AudioFileError: the file does not exist or is not a sound file.
            InputError: one of the two is missing, or the recording is silent or too long.
        """
        if self.voice is None and self.voice_text is None:
            return []
        if self.voice is None or self.voice_text is None:
            given, missing = ("--voice-text", "--voice") if self.voice is None else ("--voice", "--voice-text")
            raise InputError(f"{given} without {missing}: give the recording and the words that are spoken in it")
        from csmkit.speech.settings import SpeechSettings
        from csmkit.speech.speaker_prompt import voice_prompt

        speaker = SpeechSettings.speaker if self.speaker is None else self.speaker
        return [voice_prompt(self.voice, self.voice_text, speaker)]


@dataclass(frozen=True)
class ChatOptions:
    """The recogniser and the language model of a conversation."""

    whisper: Annotated[
        str, "tiny.en, base.en, small.en, a directory or a hub id; openai/base.en for a person's voice."
    ] = Models.asr
    llm: Annotated[str | None, "Language model: a plugin such as echo, a directory or a hub id."] = None
    llm_url: Annotated[str | None, "OpenAI-compatible server that has the model of --llm."] = None

    def given(self, seed: int | None) -> dict[str, LLM | str]:
        """The argument ``llm`` of a chatbot, where one of the options was given.

        Args:
            seed: seed of a server's model; None draws a new one for each answer.

        Raises:
            InputError: an address without the name of a model, or an address that is not one.
            MissingDependencyError: the client library is not installed.
        """
        if self.llm_url is None:
            return {} if self.llm is None else {"llm": self.llm}
        if self.llm is None:
            raise InputError(f"--llm-url {self.llm_url} without --llm: give the name of the model on that server")
        from csmkit.llm.server import ServerLLM

        return {"llm": ServerLLM(self.llm, base_url=self.llm_url, system_prompt=SPOKEN_STYLE, seed=seed)}


@dataclass(frozen=True)
class OutputOptions:
    """What is printed."""

    json: Annotated[bool, "Print one JSON object for each event."] = False
    quiet: Annotated[bool, "Print only what is said, and errors."] = False

    def console(self) -> Console:
        """The console that prints; raises InputError for both options at once."""
        return Console(self.json, self.quiet)


def parse_schedule(text: str) -> int | tuple[int, ...]:
    """A number of frames, such as ``"6"``, or a schedule, such as ``"1,2,4,6"``; raises InputError for another text."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--chunk-frames {text!r}: give frames such as 6, or a schedule such as 1,2,4,6") from error
    return numbers[0] if len(numbers) == 1 else numbers


def parse_prebuffer(text: str) -> float | Literal["auto"]:
    """``"auto"``, or a number of milliseconds; raises InputError for another text."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--prebuffer {text!r}: give milliseconds such as 500, or auto") from error


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command of typer; the help of each option is the text in its ``Annotated`` type.

    A parameter that may be given by position becomes an argument, one that is given by its name alone an option, and
    a dataclass an option for each of its fields that has a help. Other annotations than a text are left to typer.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: _with_help(hint) for name, hint in hints.items() if is_dataclass(hint)}
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            shown += [_shown(option, hint, getattr(hints[name], option)) for option, hint in groups[name].items()]
        else:
            by_name = parameter.kind is parameter.KEYWORD_ONLY
            shown.append(_shown(name, hints[name], parameter.default, typer.Option if by_name else typer.Argument))

    @wraps(command)
    def gathered(**given: Any) -> None:
        for name, options in groups.items():
            given[name] = hints[name](**{option: given.pop(option) for option in options})
        command(**given)

    gathered.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return gathered


def _with_help(group: type) -> dict[str, Any]:
    """The annotated fields of a dataclass, each with its type and help."""
    types = get_type_hints(group, include_extras=True)
    return {f.name: types[f.name] for f in fields(group) if get_origin(types[f.name]) is Annotated}


def _shown(name: str, hint: Any, default: Any, kind: Callable[..., Any] = typer.Option) -> inspect.Parameter:
    """The parameter as typer reads it; a switch that is off gets no ``--no-NAME``."""
    plain, text = get_args(hint)
    if isinstance(text, str):
        names = [f"--{name.replace('_', '-')}"] if default is False else []
        hint = Annotated[plain, kind(*names, help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
