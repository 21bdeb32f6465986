"""The command line: csmkit chat | say | convert | doctor."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import csmkit
from csmkit.cli_voice import parse_guards, read_voice, time_reading
from csmkit.errors import CsmkitError, InputError

if TYPE_CHECKING:
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.events import Event
    from csmkit.generator import Generator

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Preset = Annotated[str | None, typer.Option(help="pocket or sesame; default CSMKIT_PRESET, else pocket.")]
Save = Annotated[Path | None, typer.Option(help="WAV file, written while it is spoken.")]
Chunks = Annotated[str, typer.Option(help="Frames of 80 ms a chunk, or a schedule such as 1,2,4,6.")]
Temperature = Annotated[float | None, typer.Option(help="Of the voice; 0 is greedy, default the voice's own.")]
TopK = Annotated[int | None, typer.Option(help="Of the voice; default the voice's own.")]
MaxAudio = Annotated[float | None, typer.Option(help="Longest clause in milliseconds; default 8000.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same speech.")]
Speaker = Annotated[int, typer.Option(help="Which of the voices speaks.")]
GuardsSwitch = Annotated[str, typer.Option("--guards", help="on ends speech that has run away; off lets it run.")]
VoiceFile = Annotated[Path | None, typer.Option(help="Recording to speak like, up to 30 s; with --voice-text.")]
VoiceText = Annotated[str | None, typer.Option(help="What is said in the recording, word for word.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object an event instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; default CUDA where there is one.")]


def parse_schedule(text: str) -> int | tuple[int, ...]:
    """``"6"`` or ``"1,2,4,6"``.

    Raises:
        InputError: not whole numbers.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--chunk-frames {text!r}: give frames such as 6, or a schedule such as 1,2,4,6") from error
    return numbers[0] if len(numbers) == 1 else numbers


def describe_device(device: Any) -> str:
    """What the optimisations rest on, in a line."""
    import torch

    if device.type == "cuda":
        return f"CUDA optimizations enabled on {torch.cuda.get_device_name(device)} (bfloat16)"
    return f"running on the CPU ({torch.get_num_threads()} threads, float32): CUDA optimizations are off"


class Teller:
    """Prints events as lines for people, or as JSON for programs."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, line: str, **facts: Any) -> None:
        """A line for people; its facts for programs."""
        print(json.dumps(facts) if self.as_json else line, flush=True)

    def voice(self, took: dict[str, float]) -> None:
        """A voice prompt was read."""
        self.say(f"Voice prompt ready: {took['voice_s']:.1f}s of sound ({took['voice_ready_s']:.1f}s)", **took)

    def event(self, event: Event) -> None:
        """One event of a turn."""
        if self.as_json:
            print(json.dumps({k: v if k != "data" else len(v) for k, v in event.items()}), flush=True)
            return
        match event["type"]:
            case "llm_response":
                print(f"LLM response at {event['t']:.2f}s: {event['text']}", flush=True)
            case "audio_chunk":
                first = "  <- first audio" if event["chunk_num"] == 1 else ""
                print(f"Chunk {event['chunk_num']} ready at {event['t']:.2f}s{first}", flush=True)
            case "partial_text":
                print(f"  partial: {event['text']}", flush=True)
            case "final_text":
                print(f"Final transcription: {event['text']!r}", flush=True)
            case "complete":
                self._complete(event["metrics"], event["time_to_first_audio"], event["total_time"])

    def _complete(self, metrics: dict[str, Any], first_s: float | None, total_s: float) -> None:
        if metrics.get("asr_error"):
            print(f"No transcription: {metrics['asr_error']}")
        if first_s is None:
            print(f"Nothing was spoken ({metrics['finish_reason']}).", flush=True)
            return
        print(f"Time to first audio: {first_s:.2f}s")
        rtf = metrics["rtf"]
        ended = metrics["finish_reason"]
        print(f"{metrics['audio_s']:.2f}s of speech in {total_s:.2f}s, real-time factor {rtf:.2f}, {ended}", flush=True)


def load_generator(preset: str | None, device: str | None, teller: Teller) -> Generator:
    """The preset's voice, announced."""
    from csmkit.chat.options import chat_models
    from csmkit.generator import Generator

    start = time.perf_counter()
    generator = Generator.load(chat_models(preset).speech, device=device)
    generator.warm_up()
    seconds = time.perf_counter() - start
    where = generator.model.device
    teller.say(f"csmkit {csmkit.__version__}, {describe_device(where)}", csmkit=csmkit.__version__)
    teller.say(f"CSM ready on {where} ({seconds:.1f}s)", csm_ready_s=seconds, device=str(where))
    return generator


def load_chatbot(
    preset: str | None, whisper: str, device: str | None, teller: Teller, **options: Any
) -> StreamingConversationalChatbot:
    """All of the preset's models, announced one by one."""
    from csmkit.asr.worker import StreamingWhisperASR
    from csmkit.chat.chatbot import StreamingConversationalChatbot
    from csmkit.chat.options import chat_models

    generator = load_generator(preset, device, teller)
    start = time.perf_counter()
    asr = StreamingWhisperASR(whisper, preset=chat_models(preset).asr_preset)
    asr.prepare()
    seconds = time.perf_counter() - start
    teller.say(f"Whisper ready: {whisper} ({seconds:.1f}s)", whisper_ready_s=seconds, whisper=whisper)
    start = time.perf_counter()
    chatbot = StreamingConversationalChatbot(generator=generator, asr=asr, preset=preset, **options)
    seconds = time.perf_counter() - start
    teller.say(f"Language model ready ({seconds:.1f}s)", llm_ready_s=seconds)
    if chatbot.options.voice:
        teller.voice(time_reading(generator, chatbot.options.voice))
    return chatbot


@app.command()
def chat(
    text: Annotated[str | None, typer.Argument(help="What you say; without it, a conversation at a prompt.")] = None,
    save: Save = None,
    chunk_frames: Chunks = "6",
    temperature: Temperature = None,
    topk: TopK = None,
    max_audio_ms: MaxAudio = None,
    whisper: Annotated[str, typer.Option(help="tiny.en, base.en, small.en, a directory or a hub id.")] = "base.en",
    preset: Preset = None,
    device: Device = None,
    speaker: Speaker = 0,
    voice: VoiceFile = None,
    voice_text: VoiceText = None,
    seed: Seed = None,
    guards: GuardsSwitch = "on",
    as_json: Json = False,
) -> None:
    """Answer aloud, and transcribe what was spoken while it is spoken."""
    teller = Teller(as_json)
    options = {
        "chunk_frames": parse_schedule(chunk_frames),
        "temperature": temperature,
        "topk": topk,
        "max_audio_length_ms": max_audio_ms,
        "speaker": speaker,
        "seed": seed,
        "guards": parse_guards(guards),
        "voice": read_voice(voice, voice_text, speaker),
    }
    with load_chatbot(preset, whisper, device, teller, **options) as chatbot:
        if text is not None:
            take_turn(chatbot, text, save, teller)
            return
        converse(chatbot, save, teller)


def take_turn(chatbot: StreamingConversationalChatbot, text: str, save: Path | None, teller: Teller) -> None:
    """One turn, told as it happens; Ctrl-C ends it and leaves a valid file of what was spoken."""
    teller.say(f"You: {text}", user=text)
    events = chatbot.process_streaming(text, save_audio_path=save)
    try:
        for event in events:
            teller.event(event)
    except KeyboardInterrupt:
        events.close()
        teller.say("Interrupted.", interrupted=True)
    if save is not None:
        teller.say(f"Saved {save}", saved=str(save))


def converse(chatbot: StreamingConversationalChatbot, save: Path | None, teller: Teller) -> None:
    """Turns at a prompt until the input ends; every turn gets a file of its own name."""
    teller.say("Type what you say; Ctrl-C interrupts an answer, Ctrl-D or an empty line ends.")
    turn = 0
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            text = ""
        if not text:
            return
        turn += 1
        path = None if save is None else save.with_stem(f"{save.stem}-{turn:02d}")
        try:
            take_turn(chatbot, text, path, teller)
        except CsmkitError as error:
            teller.say(f"This turn failed: {error}", error=str(error))


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What is said.")],
    save: Save = Path("speech.wav"),
    chunk_frames: Chunks = "6",
    temperature: Temperature = None,
    topk: TopK = None,
    max_audio_ms: MaxAudio = None,
    preset: Preset = None,
    device: Device = None,
    speaker: Speaker = 0,
    voice: VoiceFile = None,
    voice_text: VoiceText = None,
    seed: Seed = None,
    guards: GuardsSwitch = "on",
    as_json: Json = False,
) -> None:
    """Speak a text, without a chatbot."""
    from csmkit.audio import SAMPLE_RATE, WavWriter
    from csmkit.chat.spoken import in_words, speakable
    from csmkit.timing import Arrivals

    teller = Teller(as_json)
    allowed, context = parse_guards(guards), read_voice(voice, voice_text, speaker)
    generator = load_generator(preset, device, teller)
    if context:
        teller.voice(time_reading(generator, context))
    arrivals, start = Arrivals(), time.perf_counter()
    stream = generator.generate_streaming(
        in_words(speakable(text)),
        speaker,
        context,
        max_audio_length_ms=max_audio_ms,
        temperature=temperature,
        topk=topk,
        chunk_frames=parse_schedule(chunk_frames),
        seed=seed,
        guards=allowed,
    )
    with WavWriter(save or Path("speech.wav")) as wav, stream:
        for chunk in stream:
            arrivals.add(time.perf_counter() - start, len(chunk) / SAMPLE_RATE)
            wav.write(chunk)
            first = "  <- first audio" if len(arrivals) == 1 else ""
            now = arrivals.times_s[-1]
            teller.say(f"Chunk {len(arrivals)} ready at {now:.2f}s{first}", chunk=len(arrivals), t=now)
    row = arrivals.row() | {"finish_reason": stream.finish_reason, "seed": stream.seed, "saved": str(wav.path)}
    rtf = "-" if row["rtf"] is None else f"{row['rtf']:.2f}"
    teller.say(f"{row['audio_s']:.2f}s of speech, real-time factor {rtf}, {stream.finish_reason}: {wav.path}", **row)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint directory, pocket or a hub id.")],
    target: Annotated[Path, typer.Argument(help="A directory that is empty or not there yet.")],
    to: Annotated[str | None, typer.Option(help="transformers or sesame; default the layout SOURCE is not in.")] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="A Mimi directory, moshi's file, a hub id, or none; default SOURCE's own."),
    ] = None,
) -> None:
    """Turn a checkpoint in Sesame's layout into transformers', or back."""
    from csmkit.convert import convert as convert_checkpoint

    done = convert_checkpoint(source, target, to=to, codec=codec)
    print(f"{' -> '.join(done.layouts)}: {done.n_tensors} tensors, {done.n_bytes / 1e6:.1f} MB in {done.target}")
    for note in done.notes:
        print(f"  {note}")


@app.command()
def doctor() -> None:
    """Tell what is installed, which devices and presets work, and what to do about the rest."""
    from csmkit.lab.doctor import examine

    print(f"csmkit {csmkit.__version__}")
    for finding in examine():
        mark = "ok" if finding.ok else "--"
        remedy = f"  -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        print(f"{mark}  {finding.subject:34} {finding.seen}{remedy}")


def run(command: Callable[[], Any] = app) -> None:
    """The entry point: an error of ours is one line and exit status 1, Ctrl-C is 130."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        command()
    except CsmkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    run()
