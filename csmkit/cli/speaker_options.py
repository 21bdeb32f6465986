"""The part of the command line that says how a voice sounds and when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from csmkit.errors import InputError

if TYPE_CHECKING:
    from csmkit.speech.base import SpeechGenerator
    from csmkit.speech.guards import Guards
    from csmkit.speech.settings import Segment


def parse_guards(text: str) -> Guards:
    """``"on"`` or ``"off"``.

    Raises:
        InputError: anything else.
    """
    from csmkit.speech.guards import Guards

    if text not in ("on", "off"):
        raise InputError(f"--guards {text!r}: give on or off")
    return Guards() if text == "on" else Guards.off()


def read_voice(path: Path | None, text: str | None, speaker: int | None) -> list[Segment]:
    """The segments that lead the context: the voice prompt, or none.

    Raises:
        AudioFileError: the file is absent or not a sound file.
        InputError: one of the two is missing, only silence, or too long.
    """
    if path is None and text is None:
        return []
    if path is None or text is None:
        given, missing = ("--voice-text", "--voice") if path is None else ("--voice", "--voice-text")
        raise InputError(f"{given} without {missing}: give the recording and the words that are said in it")
    from csmkit.speech.settings import SpeechSettings
    from csmkit.speech.speaker_prompt import voice_prompt

    return [voice_prompt(path, text, SpeechSettings.speaker if speaker is None else speaker)]


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
