"""csmkit talk: a spoken conversation, by microphone and loudspeaker or from a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csmkit.audio import SAMPLE_RATE, check_wav_path, read, write
from csmkit.cli import models
from csmkit.cli.console import Console
from csmkit.cli.loudspeaker import SoundCard, import_sounddevice
from csmkit.cli.options import Json, ModelOptions, SpeechOptions, takes_options
from csmkit.errors import DeviceError, InputError

if TYPE_CHECKING:
    from csmkit.live.conversation import LiveConversation
    from csmkit.live.events import LiveEvent
    from csmkit.live.recorded import Conversation
    from csmkit.stack import Stack

FRAME_MS = 20  # length of a block of the microphone


@takes_options
def talk(
    load: ModelOptions,
    speech: SpeechOptions,
    input_: Annotated[
        Path | None, typer.Option("--input", help="Recording in place of the microphone; needs --save.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="WAV file of both sides; needs --input.")] = None,
    whisper: Annotated[
        str, typer.Option(help="openai/base.en for a person; tiny.en, base.en, small.en, a directory or a hub id.")
    ] = "base.en",
    llm: Annotated[
        str | None, typer.Option(help="Language model: a plugin such as echo, a directory or a hub id.")
    ] = None,
    llm_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server that has the model of --llm.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least probability of speech, 0 to 1; default 0.5.")] = None,
    silence_ms: Annotated[
        float | None, typer.Option(help="Silence that ends your turn, in milliseconds; default 500.")
    ] = None,
    end_of_turn: Annotated[Path | None, typer.Option(help="End-of-turn model: an ONNX file.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the conversation.")] = False,
) -> None:
    """Talk: speak, listen to the answer, interrupt it by speaking. Headphones are best. Ctrl-C ends it."""
    from csmkit.asr.directory import live_note
    from csmkit.live.recorded import SoundClock

    console = Console(as_json, quiet)
    recording = _check_files(input_, save)
    options = speech.given() | {"voice": speech.voice_prompt()}
    models.check_turn(load, **options)
    if (answering := models.choose_llm(llm, llm_url, speech.seed)) is not None:
        options["llm"] = answering
    clock = SoundClock() if recording is not None else None
    with ExitStack() as opened:
        sound_card = None if recording is not None else opened.enter_context(_open_sound_card())
        stack = opened.enter_context(models.open_stack(load, speech.seed))
        note = live_note(whisper, stack.models.asr_preset)
        live = _load(opened, stack, whisper, console, clock or time.perf_counter, options)
        live.detector = _detector(threshold, silence_ms, end_of_turn)
        if note is not None:
            console.say(note, note=note)
        if recording is not None:
            assert clock is not None and save is not None
            _talk_to_recording(live, recording, save, console, clock)
        else:
            assert sound_card is not None
            _talk_by_devices(live, sound_card, console)


def _check_files(recording: Path | None, save: Path | None) -> Any:
    """The samples of the recording, or None for the microphone.

    Raises:
        InputError: only one of the two files is given.
        AudioFileError: the recording cannot be read, or the other file cannot be written.
    """
    if (recording is None) != (save is None):
        given, missing = ("--save", "--input") if recording is None else ("--input", "--save")
        raise InputError(f"{given} without {missing}: give both, or neither for the microphone and the loudspeaker")
    if recording is None or save is None:
        return None
    check_wav_path(save)
    return read(recording)


def _detector(threshold: float | None, silence_ms: float | None, end_of_turn: Path | None) -> Any:
    from csmkit.live.end_of_turn import EndOfTurnModel
    from csmkit.live.turn_detector import TurnDetection, TurnDetector

    usual = TurnDetection()
    threshold = usual.threshold if threshold is None else threshold
    silence_ms = usual.silence_ms if silence_ms is None else silence_ms
    wanted = TurnDetection(
        threshold=threshold,
        silence_ms=silence_ms,
        probable_end_ms=min(usual.probable_end_ms, silence_ms),
        barge_in_threshold=max(usual.barge_in_threshold, threshold),
    )
    return TurnDetector(wanted, end_of_turn=None if end_of_turn is None else EndOfTurnModel(end_of_turn))


def _load(
    opened: ExitStack,
    stack: Stack,
    whisper: str,
    console: Console,
    clock: Callable[[], float],
    options: dict[str, Any],
) -> LiveConversation:
    """Load all models, and print each; ``opened`` closes the chatbot."""
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.live.conversation import LiveConversation

    models.announce_voice(stack, console).abilities.check_prompt(options.get("voice", ()))
    asr = stack.recogniser(whisper)
    seconds = stack.load_s["asr"]
    console.say(f"Whisper ready: {whisper} ({seconds:.1f}s)", whisper_ready_s=seconds, whisper=whisper)
    began = time.perf_counter()
    chatbot = opened.enter_context(StreamingConversationalChatbot(asr=False, preset=stack, clock=clock, **options))
    seconds = time.perf_counter() - began
    console.say(f"Language model ready ({seconds:.1f}s)", llm_ready_s=seconds)
    return LiveConversation(chatbot, asr, clock=clock)


def _talk_to_recording(live: LiveConversation, recording: Any, save: Path, console: Console, clock: Any) -> None:
    """Run the conversation on the clock of the recording, and save both sides."""
    from csmkit.live.recorded import Recording, converse

    sides = converse(live, Recording(recording), clock, frame_ms=FRAME_MS, on_event=lambda event: show(event, console))
    write(save, _mixed(sides))
    console.say(f"Saved {save}", saved=str(save))


def _mixed(sides: Conversation) -> Any:
    import numpy as np

    n_samples = max(len(sides.microphone), len(sides.voice))
    return sum(np.pad(sound, (0, n_samples - len(sound))) for sound in (sides.microphone, sides.voice))


def _open_sound_card() -> SoundCard:
    """The loudspeaker, opened before any model is loaded.

    Raises:
        MissingDependencyError: sounddevice is not installed.
        DeviceError: there is no usable sound card.
    """
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
