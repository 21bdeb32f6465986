"""A user's side of a conversation, spoken by the bundled voice: five turns, of which the third breaks in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from csmkit.audio import SAMPLE_RATE, resample
from csmkit.speech.generator import Generator

TURNS = (  # what is said, and the seconds of silence after it
    ("hello, how are you?", 5.0),
    ("can you tell me a joke?", 2.3),  # the answer takes four seconds: the next turn breaks in
    ("thank you, that is enough.", 5.0),
    ("what is the weather like?", 5.0),
    ("good bye.", 5.0),
)


@dataclass(frozen=True)
class Script:
    """The sound of the user.

    Attributes:
        audio: ``(samples,)`` float32 at 24 kHz.
        texts: of the turns.
    """

    audio: np.ndarray
    texts: tuple[str, ...]

    def write(self, path: Path, rate: int) -> Path:
        """Write a 16-bit WAV at some rate."""
        soundfile.write(path, resample(self.audio, SAMPLE_RATE, rate), rate, subtype="PCM_16")
        return path


def make_script(turns: tuple[tuple[str, float], ...] = TURNS) -> Script:
    """Speak the turns as speaker 1 of the bundled voice, with pauses between them."""
    generator = Generator.load("pocket")
    parts = [np.zeros(SAMPLE_RATE, np.float32)]
    for number, (text, pause_s) in enumerate(turns):
        spoken = generator.generate(text, speaker=1, seed=3 + number).numpy()
        parts += [spoken, np.zeros(round(pause_s * SAMPLE_RATE), np.float32)]
    return Script(np.concatenate(parts), tuple(text for text, _ in turns))
