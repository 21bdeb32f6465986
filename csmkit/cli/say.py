"""csmkit say: speak a text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from csmkit.cli import models
from csmkit.cli.loudspeaker import find_loudspeaker
from csmkit.cli.options import ModelOptions, OutputOptions, SpeechOptions


def say(
    load: ModelOptions,
    speech: SpeechOptions,
    output: OutputOptions,
    text: Annotated[str, "The text to speak."],
    *,
    save: Annotated[Path, "WAV file, written chunk by chunk."] = Path("speech.wav"),
    play: Annotated[str, "Play on this machine's sound card: yes, no, or auto, where there is one."] = "no",
) -> None:
    """Speak a text of any length, without a chatbot."""
    from csmkit.audio import SAMPLE_RATE, WavWriter
    from csmkit.speech.long_text import Page, speak_text
    from csmkit.speech.settings import SpeechSettings
    from csmkit.timing import Arrivals

    console = output.console()
    given, context = speech.given(), speech.voice_prompt()
    settings = SpeechSettings(**given)
    generator = models.load_generator(load, console, context)
    models.announce_prompt(generator, context, console)
    arrivals, start = Arrivals(), time.perf_counter()
    request = generator.request(text, context=context, **given)
    page = Page(request, each_ms=speech.max_audio_ms or 0, raw=settings.raw_text)
    stream = speak_text(generator, page, settings.schedule)
    with find_loudspeaker(play, console) as speaker, WavWriter(save) as wav, stream:
        for chunk in stream:
            arrivals.add(time.perf_counter() - start, len(chunk) / SAMPLE_RATE)
            wav.write(chunk)
            speaker.put(chunk)
            first = "  <- first audio" if len(arrivals) == 1 else ""
            now = arrivals.times_s[-1]
            console.say(f"Chunk {len(arrivals)} ready at {now:.2f}s{first}", chunk=len(arrivals), t=now)
        row = arrivals.row() | {"finish_reason": stream.finish_reason, "seed": stream.seed, "saved": str(wav.path)}
        rtf = "-" if row["rtf"] is None else f"{row['rtf']:.2f}"
        console.say(
            f"{row['audio_s']:.2f}s of speech, real-time factor {rtf}, {stream.finish_reason}: {wav.path}", **row
        )
        speaker.wait()
