"""What a sweep can vary: each axis by name, how its values are checked, and its value where nothing is said."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csmkit.plugins as plugins
from csmkit.asr.directory import NAMES, resolve
from csmkit.checks import check_integer
from csmkit.csm.config import Sampling
from csmkit.errors import CheckpointNotFoundError, InputError
from csmkit.speech.settings import Request
from csmkit.speech.streams import chunk_schedule

NO_RECOGNISER = "none"
CONTEXTS = ("sound", "text")


@dataclass(frozen=True)
class Axis:
    """One thing that may differ between trials.

    Attributes:
        check: takes a value and the preset of the recogniser, returns the value as rows have it; raises InputError.
        default: value of a recipe that does not name the axis; None is the voice's own.
        batch: whether rows of one batch may differ in it.
    """

    check: Callable[[Any, str], Any]
    default: Any
    batch: bool


def acts(axis: str, row: Mapping[str, Any]) -> bool:
    """Whether an axis could change a trial: what kind of context it has does not where there is none."""
    return axis != "context" or row.get("context_turns") != 0


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about a wrong word: the nearest right one, if one is near, and all there are."""
    choices = list(allowed)
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.5)
    did_you_mean = f"did you mean {close[0]!r}? " if close else ""
    return f"{did_you_mean}there are {', '.join(choices)}"


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of some words; InputError with the nearest for anything else."""
    choices = list(allowed)
    if value not in choices:
        raise InputError(f"{name}={value!r}: {nearest(value, choices)}")
    return str(value)


def _chunk_frames(value: Any, _: str) -> int | tuple[int, ...]:
    schedule = chunk_schedule(value)
    return schedule[0] if len(schedule) == 1 else schedule


def _codec(value: Any, _: str) -> str:
    return value if ":" in str(value) else check_choice("codec", value, plugins.available("codec"))


def _whisper(value: Any, preset: str) -> str:
    if value == NO_RECOGNISER:
        return NO_RECOGNISER
    try:
        resolve(str(value), preset)
    except CheckpointNotFoundError as error:
        choices = nearest(str(value), [*NAMES, NO_RECOGNISER])
        raise InputError(f"whisper={value!r}: {choices}, or give a directory or a hub id") from error
    return str(Path(value)) if Path(str(value)).is_dir() else str(value)


AXES: dict[str, Axis] = {
    "chunk_frames": Axis(_chunk_frames, 6, batch=False),
    "temperature": Axis(lambda value, _: float(Sampling(temperature=value).temperature), None, batch=True),
    "topk": Axis(lambda value, _: int(Sampling(topk=value).topk), None, batch=True),
    "max_audio_length_ms": Axis(
        lambda value, _: float(Request("a", max_audio_length_ms=value).max_audio_length_ms), None, batch=True
    ),
    "speaker": Axis(lambda value, _: check_integer("speaker", value, 0), 0, batch=True),
    "codec": Axis(_codec, "streaming", batch=False),
    "whisper": Axis(_whisper, None, batch=False),
    "context_turns": Axis(lambda value, _: check_integer("context_turns", value, 0), 0, batch=True),
    "context": Axis(lambda value, _: check_choice("context", value, CONTEXTS), "sound", batch=True),
}
