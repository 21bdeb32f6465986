"""The models that all clients of a server share, and the names by which clients choose them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from csmkit.asr.streaming import StreamingWhisperASR
from csmkit.audio import SAMPLE_RATE
from csmkit.chat.settings import TurnOptions, turn_options
from csmkit.errors import AudioFileError, InputError
from csmkit.live.voice_activity import VoiceActivity
from csmkit.llm.contract import LLM
from csmkit.serve.errors import RequestError, invalid
from csmkit.serve.settings import Limits
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.settings import Segment
from csmkit.speech.shared import SharedGenerator
from csmkit.speech.speaker_prompt import voice_prompt
from csmkit.stack import VoiceLoading, find_models, load_language_model, load_recogniser, load_voice

USUAL_NAMES = {
    "speech": ("csm", "tts-1"),
    "transcription": ("whisper", "whisper-1"),
    "realtime": ("csm", "gpt-realtime"),
}
"""Names that clients may use whatever is loaded, by task: ours, and the one that many clients send unasked."""
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Speaker:
    """A voice by name.

    Attributes:
        name: the value of ``voice`` in a request.
        number: the speaker of the model.
        prompt: segments that lead the context, such as a recording to speak like.
    """

    name: str
    number: int
    prompt: tuple[Segment, ...] = ()


PLAIN = (Speaker("speaker-0", 0), Speaker("speaker-1", 1))  # the model's own, without a recording


@dataclass
class ServedModels:
    """The models of a server; all may be used from many threads at once.

    Attributes:
        name: name of the voice, as `/v1/models` lists it.
        voice: generates the speech.
        asr: recognises it; None for a server without.
        llm: writes the answers of conversations; None for a server without.
        options: how turns are spoken.
        speakers: speakers by their names; the first is the default.
        new_activity: makes what tells speech from silence, one for each conversation; what is None is Silero's model.
    """

    name: str
    voice: SpeechGenerator
    asr: StreamingWhisperASR | None
    llm: LLM | None
    options: TurnOptions = field(default_factory=TurnOptions)
    speakers: Mapping[str, Speaker] = field(default_factory=lambda: {plain.name: plain for plain in PLAIN})
    new_activity: Callable[[], VoiceActivity | None] = lambda: None

    def warm_up(self) -> None:
        """Speak and listen once, so that the first client does not wait for it."""
        self.voice.warm_up()
        for speaker in self.speakers.values():
            if speaker.prompt:
                self.voice.warm_up(speaker.prompt)
        if self.asr is not None:
            self.asr.transcribe(np.zeros(SAMPLE_RATE // 2, np.float32))

    def close(self) -> None:
        """End the threads of voice and recogniser."""
        if isinstance(self.voice, SharedGenerator):
            self.voice.close()
        if self.asr is not None:
            self.asr.close()

    def names(self) -> dict[str, list[str]]:
        """The names that requests may give as ``model``, by task."""
        names = {"speech": [self.name, *USUAL_NAMES["speech"]]}
        if self.asr is not None:
            names["transcription"] = [self.asr.model_name, *USUAL_NAMES["transcription"]]
        if self.llm is not None and self.asr is not None:
            names["realtime"] = [self.name, *USUAL_NAMES["realtime"]]
        return names

    def check_name(self, task: str, name: object) -> None:
        """Raise RequestError unless a task has a model of that name; the name is used for nothing else."""
        names = self.names().get(task)
        if names is None:
            raise RequestError(404, f"this server has no model for {task}", "model_not_found", "model")
        if name not in names:
            raise RequestError(
                404, f"no model of that name for {task}: give one of {', '.join(names)}", "model_not_found", "model"
            )

    def speaker(self, voice: object) -> Speaker:
        """Find the speaker of a request's ``voice``: a name, ``{"id": name}``, or the speaker's number.

        Raises:
            RequestError: no speaker of that name.
        """
        name = voice.get("id") if isinstance(voice, dict) else voice
        if isinstance(name, str) and name in self.speakers:
            return self.speakers[name]
        if isinstance(name, str) and (numbered := f"speaker-{name}") in self.speakers:
            return self.speakers[numbered]
        raise invalid(f"no voice of that name: give one of {', '.join(self.speakers)}", "voice", "voice_not_found")


def read_speakers(folder: Path) -> list[Speaker]:
    """Read the voices of a folder: ``anna.wav`` and its words in ``anna.txt`` make the voice ``anna``.

    Args:
        folder: has the recordings, up to 30 s each.

    Raises:
        InputError: no recording, a recording without its text, a name of other characters, or silence.
        AudioFileError: no such folder, or a file that is no sound.
    """
    if not folder.is_dir():
        raise AudioFileError(f"no folder {str(folder)!r}: give one with recordings, such as anna.wav beside anna.txt")
    recordings = sorted(path for path in folder.iterdir() if path.suffix.lower() in RECORDINGS)
    if not recordings:
        raise InputError(f"no recording in {str(folder)!r}: put sound files there, such as anna.wav beside anna.txt")
    return [_read_speaker(path) for path in recordings]


def _read_speaker(path: Path) -> Speaker:
    text = path.with_suffix(".txt")
    if not _NAME.fullmatch(path.stem):
        raise InputError(f"recording {path.name!r}: name it by letters, digits, '.', '_' and '-', up to 64")
    if not text.is_file():
        raise InputError(f"recording {path.name!r} without {text.name!r}: write the words there that are said in it")
    words = " ".join(text.read_text(encoding="utf-8").split())
    return Speaker(path.stem, 0, (voice_prompt(path, words),))


@dataclass(frozen=True, kw_only=True)
class ModelChoice(VoiceLoading):
    """Which models a server loads; it can be sent to another process, which loads them there.

    Attributes:
        preset: ``pocket`` or ``sesame``; None asks CSMKIT_PRESET and means pocket.
        speech: the voice in place of the preset's, a checkpoint directory or a hub id.
        whisper: model of the recogniser; None for the preset's.
        max_audio_s: seconds of sound that the recogniser takes.
        max_streams: utterances that are generated at the same time.
        speakers: recordings to speak like, beside the plain speakers.
    """

    preset: str | None = None
    speech: str | None = None
    whisper: str | None = None
    max_audio_s: float = Limits.max_audio_s
    max_streams: int = Limits.max_streams
    speakers: Sequence[Speaker] = ()

    def load(self) -> ServedModels:
        """Load everything and warm it up.

        Raises:
            CsmkitError: a model cannot be loaded; the leaf says why.
        """
        chosen = find_models(self.preset)
        speech = self.speech or chosen.speech
        # A passage may begin before the previous one has left its row, so as many may wait as may speak.
        voice = SharedGenerator(load_voice(speech, self), self.max_streams, self.max_streams)
        whisper = self.whisper or chosen.asr
        asr = StreamingWhisperASR(whisper, preset=chosen.asr_preset, max_audio_s=self.max_audio_s)
        models = ServedModels(
            name=_public_name(speech),
            voice=voice,
            asr=load_recogniser(asr, chosen.asr_preset),
            llm=load_language_model(chosen.llm, chosen.llm_options),
            options=turn_options(chosen),
            speakers={speaker.name: speaker for speaker in (*PLAIN, *self.speakers)},
        )
        models.warm_up()
        return models

    __call__ = load  # so that a choice is a function that loads the models, as servers take it


def _public_name(speech: object) -> str:
    """The name by which clients choose a voice; for a checkpoint directory its last part only."""
    if not isinstance(speech, str):
        return "csm"
    return Path(speech).resolve().name if Path(speech).is_dir() else speech


Load = Callable[[], ServedModels]
