"""csmkit talk: a spoken conversation, by microphone and loudspeaker or from a recording."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from csmkit.audio import SAMPLE_RATE, check_wav_path, read, write
from csmkit.cli import models
from csmkit.cli.console import Console
from csmkit.cli.loudspeaker import SoundCard, import_sounddevice
from csmkit.cli.options import ChatOptions, ModelOptions, OutputOptions, SpeechOptions
from csmkit.errors import DeviceError, InputError

if TYPE_CHECKING:
    from csmkit.live.conversation import LiveConversation
    from csmkit.live.events import LiveEvent
    from csmkit.live.turn_detector import TurnDetector

FRAME_MS = 20  # length of a block of the microphone


@dataclass(frozen=True)
class TurnEndOptions:
    """What ends a turn of the user; None for the default of `csmkit.live.turn_detector.TurnDetection`."""

    threshold: Annotated[float | None, "Least probability of speech, 0 to 1; default 0.5."] = None
    silence_ms: Annotated[float | None, "Silence that ends your turn, in milliseconds; default 500."] = None
    end_of_turn: Annotated[Path | None, "End-of-turn model: an ONNX file."] = None

    def detector(self) -> TurnDetector:
        """The detector of turns; raises InputError for a number out of its range or a file that is no such model."""
        from csmkit.live.turn_detector import TurnDetection, TurnDetector
        from csmkit.live.voice_activity import EndOfTurnModel

        usual = TurnDetection()
        threshold = usual.threshold if self.threshold is None else self.threshold
        silence_ms = usual.silence_ms if self.silence_ms is None else self.silence_ms
        wanted = TurnDetection(
            threshold=threshold,
            silence_ms=silence_ms,
            probable_end_ms=min(usual.probable_end_ms, silence_ms),
            barge_in_threshold=max(usual.barge_in_threshold, threshold),
        )
        return TurnDetector(wanted, end_of_turn=None if self.end_of_turn is None else EndOfTurnModel(self.end_of_turn))


def talk(
    load: ModelOptions,
    speech: SpeechOptions,
    others: ChatOptions,
    turns: TurnEndOptions,
    output: OutputOptions,
    *,
    input: Annotated[Path | None, "Recording in place of the microphone; needs --save."] = None,
    save: Annotated[Path | None, "WAV file of both sides; needs --input."] = None,
) -> None:
    """Talk: speak, listen to the answer, interrupt it by speaking. Headphones are best. Ctrl-C ends it."""
    from csmkit.asr.directory import live_note
    from csmkit.live.conversation import LiveConversation
    from csmkit.live.recorded import SoundClock

    console = output.console()
    recording = _check_files(input, save)
    options = speech.given() | {"voice": speech.voice_prompt()}
    models.check_turn(load, **options)
    options |= others.given(speech.seed)
    clock = SoundClock() if recording is not None else None
    with ExitStack() as opened:
        sound_card = None if recording is not None else opened.enter_context(_open_sound_card())
        stack = opened.enter_context(models.open_stack(load, speech.seed))
        note = live_note(others.whisper, stack.models.asr_preset)
        options["clock"] = clock or time.perf_counter
        models.announce_voice(stack, console, options["voice"])
        asr = models.announce_recogniser(stack, others.whisper, console)
        chatbot = opened.enter_context(models.announce_chatbot(stack, console, asr=False, **options))
        live = LiveConversation(chatbot, asr, clock=options["clock"])
        live.detector = turns.detector()
        if note is not None:
            console.say(note, note=note)
        if recording is not None:
            assert clock is not None and save is not None
            _talk_to_recording(live, recording, save, console, clock)
        else:
            assert sound_card is not None
            _talk_by_devices(live, sound_card, console)


def _check_files(recording: Path | None, save: Path | None) -> Any:
    """The samples of the recording, None for the microphone; raises InputError or AudioFileError."""
    if (recording is None) != (save is None):
        given, missing = ("--save", "--input") if recording is None else ("--input", "--save")
        raise InputError(f"{given} without {missing}: give both, or neither for the microphone and the loudspeaker")
    if recording is None or save is None:
        return None
    check_wav_path(save)
    return read(recording)


def _talk_to_recording(live: LiveConversation, recording: Any, save: Path, console: Console, clock: Any) -> None:
    """Run the conversation on the clock of the recording, and save both sides."""
    from csmkit.live.recorded import Recording, converse

    sides = converse(live, Recording(recording), clock, frame_ms=FRAME_MS, on_event=lambda event: show(event, console))
    n_samples = max(len(sides.microphone), len(sides.voice))
    write(save, sum(np.pad(sound, (0, n_samples - len(sound))) for sound in (sides.microphone, sides.voice)))
    console.say(f"Saved {save}", saved=str(save))


def _open_sound_card() -> SoundCard:
    """The loudspeaker, opened before any model is loaded; raises as `SoundCard`."""
    try:
        return SoundCard()
    except DeviceError as error:
        cure = "on a machine without a sound card give --input speech.wav --save both.wav, or use Talk() in a notebook"
        raise DeviceError(f"{error}; {cure}") from error


def _talk_by_devices(live: LiveConversation, speaker: SoundCard, console: Console) -> None:
    """Talk until Ctrl-C."""
    sounddevice = import_sounddevice()
    n_frame = SAMPLE_RATE * FRAME_MS // 1000

    def record(samples: Any, n_samples: int, at: Any, status: Any) -> None:
        if speaker.is_playing:
            live.played(speaker.played_ms)
        live.put(samples[:, 0].copy())

    try:
        microphone = sounddevice.InputStream(
            SAMPLE_RATE, blocksize=n_frame, channels=1, dtype="float32", callback=record
        )
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"no usable microphone ({error}): plug one in, or give --input") from error
    with live, microphone:
        console.say("Speak; interrupt an answer by speaking, Ctrl-C ends the conversation.")
        reader = threading.Thread(target=_play_events, args=(live, speaker, console), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.2)
        except KeyboardInterrupt:
            speaker.silence()


def _play_events(live: LiveConversation, speaker: SoundCard, console: Console) -> None:
    """Play, fall silent, and report how much was played by then."""
    turn = None
    for event in live.events():
        if event["type"] == "audio_chunk":
            if event["turn"] != turn:
                turn = event["turn"]
                speaker.begin()
            speaker.put(event["data"])
        elif event["type"] in ("interrupted", "answer_dropped"):
            speaker.silence()
            if event["turn"] == turn:
                live.stopped(speaker.played_ms)
        show(event, console)


def show(event: LiveEvent, console: Console) -> None:
    """Print one event, as a line for people or as JSON."""
    facts: dict[str, Any] = {k: v if k != "data" else len(v) for k, v in event.items()}
    if console.as_json:
        console.say("", **facts)
        return
    match event["type"]:
        case "user_text":
            console.say(f"You: {event['text']}", user=event["text"])
        case "nothing_heard":
            console.say("(no words)", nothing_heard=True)
        case "llm_response":
            console.say(f"csmkit: {event['text']}", user=event["text"])
        case "interrupted":
            console.say(f"Interrupted after: {event['text']!r}", broken_off=True)
        case "error":
            console.say(f"This turn failed: {event['message']}", error=event["message"])
        case "turn_done":
            audible_ms = event["metrics"]["end_to_audible_ms"]
            if audible_ms is not None:
                console.say(f"  answered {audible_ms:.0f} ms after you stopped", audible_ms=audible_ms)
