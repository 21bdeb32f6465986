"""A user made of recorded clips: what is said when, over which noise, and what was really said."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from csmkit.audio import SAMPLE_RATE, read
from csmkit.errors import MissingDependencyError
from csmkit.live.recorded import Listener

SPEECH_DBFS = -24.0  # of all clips
NO_ANSWER_S = 4.0  # the user goes on if nobody has answered by then

VOICES = {
    "espeak-us": ("espeak-ng", "-v", "en-us", "-s", "150", "-w"),
    "espeak-gb-f": ("espeak-ng", "-v", "en-gb+f3", "-s", "155", "-w"),
    "espeak-scotland": ("espeak-ng", "-v", "en-gb-scotland", "-s", "145", "-w"),
    "flite-awb": ("flite", "-voice", "awb", "-o"),
    "flite-kal": ("flite", "-voice", "kal16", "-o"),
}
# A bar is a pause of the speaker; its length is drawn between 0.15 and 0.42 s.
SENTENCES = (
    "good morning, how are you today?",
    "i would like | a cup of tea, please.",
    "what is the weather like?",
    "my brother is | a little sad today.",
    "do you like music?",
    "can you tell me | what time it is?",
    "i went to the market | and bought some apples.",
    "where do you live?",
    "it is very cold outside.",
    "tell me | something about dogs.",
    "thank you, | that was very kind.",
    "what should i | cook for dinner?",
)
INTERRUPTIONS = ("stop, please.", "wait a moment.", "no, something else.")


@dataclass(frozen=True)
class Item:
    """Something that the user does.

    Attributes:
        sound: ``(samples,)`` at 24 kHz.
        kind: ``turn``; ``barge_in``, a turn over the voice; ``cough``, no speech.
        wait_s: silence before it: after the voice has ended, or after it has begun where ``over_voice``.
        text: what is said.
        over_voice: it comes while the voice speaks.
    """

    sound: np.ndarray
    kind: str
    wait_s: float
    text: str = ""
    over_voice: bool = False


@dataclass
class Said:
    """An item as it came: from and to, in seconds of the microphone's sound."""

    item: Item
    start_s: float
    end_s: float


@dataclass
class ScriptedUser:
    """Does one item after the other, each at its time, over noise. The microphone's side of a conversation.

    Attributes:
        items: in order.
        noise_dbfs: level of the noise; -120 for none.
        seed: of the noise.
        said: what was done so far.
    """

    items: Sequence[Item]
    noise_dbfs: float = -120.0
    seed: int = 0
    said: list[Said] = field(default_factory=list)
    _next: int = 0
    _voice_began_s: float | None = None
    _voice_ended_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def speak(self, start: int, end: int, listener: Listener) -> np.ndarray | None:
        """As `csmkit.live.recorded.RecordedUser.speak`."""
        now_s = start / SAMPLE_RATE
        self._look(now_s, listener)
        if self._next < len(self.items) and self._is_time(now_s):
            item = self.items[self._next]
            self.said.append(Said(item, now_s, now_s + len(item.sound) / SAMPLE_RATE))
            self._next += 1
        if self._next == len(self.items) and now_s > max(self.said[-1].end_s, self._voice_ended_s) + NO_ANSWER_S:
            return None
        frame = self._random.normal(0, 10 ** (self.noise_dbfs / 20), end - start).astype(np.float32)
        for done in self.said[-2:]:
            at = start - round(done.start_s * SAMPLE_RATE)
            part = done.item.sound[max(0, at) : max(0, at + end - start)]
            frame[: len(part)] += part
        return frame

    def _look(self, now_s: float, listener: Listener) -> None:
        if listener.is_playing(now_s):
            self._voice_began_s = now_s if self._voice_began_s is None else self._voice_began_s
            self._voice_ended_s = now_s
        else:
            self._voice_began_s = None

    def _is_time(self, now_s: float) -> bool:
        item, last_s = self.items[self._next], self.said[-1].end_s if self.said else 0.0
        if now_s < last_s:
            return False
        waited_s = now_s - max(last_s, self._voice_ended_s)
        if item.over_voice:
            over = self._voice_began_s is not None and now_s - max(self._voice_began_s, last_s) >= item.wait_s
            return over or waited_s > NO_ANSWER_S
        if self._voice_began_s is not None:
            return False
        answered = self._voice_ended_s > last_s or not self.said or self.said[-1].item.kind == "cough"
        return waited_s >= (item.wait_s if answered else NO_ANSWER_S)


def say(voice: str, text: str, random: np.random.Generator) -> np.ndarray:
    """A sentence in a voice, ``(samples,)`` at 24 kHz, a pause at each bar.

    Raises:
        MissingDependencyError: espeak-ng or flite is not installed.
    """
    parts: list[np.ndarray] = []
    for piece in text.split("|"):
        parts += [_spoken(voice, piece.strip()), np.zeros(round(random.uniform(0.15, 0.42) * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts[:-1])


def cough(random: np.random.Generator) -> np.ndarray:
    """Two bursts of noise that die away, about as loud as speech."""
    times = np.arange(round(0.16 * SAMPLE_RATE)) / SAMPLE_RATE
    burst = random.normal(0, 1, len(times)) * np.exp(-times / 0.04)
    both = np.concatenate([burst, np.zeros(SAMPLE_RATE // 20), 0.7 * burst]).astype(np.float32)
    return both * np.float32(10 ** (SPEECH_DBFS / 20) / np.sqrt(np.mean(both**2)))


def script(voice: str, random: np.random.Generator) -> list[Item]:
    """A conversation in one voice: a dozen turns, three interruptions, four coughs, two of those over the voice."""
    items = []
    for number, text in enumerate(SENTENCES):
        items.append(Item(say(voice, text, random), "turn", float(random.uniform(0.6, 1.2)), text.replace(" |", "")))
        if number % 4 == 1:
            said = INTERRUPTIONS[number // 4]
            items.append(Item(say(voice, said, random), "barge_in", float(random.uniform(0.5, 1.0)), said, True))
        elif number % 4 == 2:
            items.append(Item(cough(random), "cough", float(random.uniform(0.4, 0.9)), over_voice=number != 6))
    return [Item(cough(random), "cough", 0.5), *items]


def _spoken(voice: str, text: str) -> np.ndarray:
    command = VOICES[voice]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        words = [text] if command[0] == "espeak-ng" else ["-t", text]
        try:
            subprocess.run([*command, str(path), *words], check=True, capture_output=True)
        except FileNotFoundError as error:
            raise MissingDependencyError(f"{command[0]} is not installed: apt-get install {command[0]}") from error
        sound = read(path)
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1]
    return sound * np.float32(10 ** (SPEECH_DBFS / 20) / np.sqrt(np.mean(sound**2)))
