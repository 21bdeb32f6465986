"""POST /v1/audio/transcriptions: a sound file, recognised, whole or text by text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from time import monotonic, sleep
from typing import Any

import numpy as np

from csmkit.asr.streaming import TranscriptionStream
from csmkit.asr.transcriber import Transcript
from csmkit.audio import SAMPLE_RATE
from csmkit.serve.errors import check_choice, check_names, invalid
from csmkit.serve.feed import Feed
from csmkit.serve.service import Service
from csmkit.serve.speech import event

IGNORED = ("prompt", "temperature", "timestamp_granularities[]")  # hints; other fields would change the answer
FIELDS = ("file", "language", "model", *IGNORED, "response_format", "stream")
FORMATS = ("json", "text", "verbose_json")
PIECE_S = 2.0  # seconds of sound that the recogniser gets at once
POLL_S = 0.02


def check_fields(fields: dict[str, Any]) -> None:
    """Raise RequestError for a field that has no effect here or a value that is none."""
    check_names(fields, FIELDS)
    if fields.get("language", "en") not in ("en", "english"):
        raise invalid("language other than en: these recognisers know English alone", "language")
    check_choice(fields, "response_format", FORMATS)


def recognise(
    stream: TranscriptionStream, sound: np.ndarray, deadline: float, partials: bool
) -> Generator[Transcript, None, None]:
    """Read a sound, piece by piece where partial texts are wanted; the final text comes last.

    Args:
        stream: cancelled at the end.
        sound: ``(samples,)`` float32 at 24 kHz, not empty.
        deadline: moment by `monotonic` at which the final text must be there.
        partials: whether to wait for partial texts.
    """
    n_piece = int(PIECE_S * SAMPLE_RATE) if partials else len(sound)
    try:
        for start in range(0, len(sound), n_piece):
            stream.put_audio_chunk(sound[start : start + n_piece])
            if start + n_piece < len(sound):
                _wait_until_read(stream, (start + n_piece) / SAMPLE_RATE - PIECE_S / 2, deadline)
            yield stream.get_latest_partial()
        stream.finish()
        yield stream.get_final(max(0.1, deadline - monotonic()))
    finally:
        stream.cancel()


def _wait_until_read(stream: TranscriptionStream, audio_s: float, deadline: float) -> None:
    """Wait until the recogniser has read most of its sound, so that there are partial texts to send."""
    while not stream.settled and monotonic() < deadline and stream.get_latest_partial().audio_s < audio_s:
        sleep(POLL_S)


async def texts(service: Service, sound: np.ndarray, partials: bool) -> AsyncGenerator[Transcript, None]:
    """The texts of a sound, see `recognise`. Closing it drops the utterance."""
    asr = service.models.asr
    assert asr is not None
    with service.admission.other():
        deadline = monotonic() + service.limits.turn_s
        stream = await asyncio.to_thread(asr.stream)
        feed = Feed(recognise(stream, sound, deadline, partials), stream.cancel, service.threads, 1)
        try:
            while (text := await feed.next()) is not None:
                yield text
        finally:
            await feed.close()


async def last(found: AsyncGenerator[Transcript, None]) -> Transcript:
    """The final text."""
    async with aclosing(found):
        return [text async for text in found][-1]


async def as_events(found: AsyncGenerator[Transcript, None]) -> AsyncGenerator[bytes, None]:
    """Server-sent events: ``transcript.text.delta`` with words that stay, then ``transcript.text.done``.

    Deltas are what several readings agreed on. The final reading may differ: its text is in ``done``.
    """
    sent = ""
    async with aclosing(found):
        async for text in found:
            if delta := new_words(text, sent):
                yield event({"type": "transcript.text.delta", "delta": delta})
                sent += delta
    yield event({"type": "transcript.text.done", "text": text.text, "usage": usage(text)})


def new_words(text: Transcript, sent: str) -> str:
    """The words of a partial text that are certain and not among those ``sent``; empty where these have changed."""
    return text.committed[len(sent) :] if text.committed.startswith(sent) else ""


def usage(text: Transcript) -> dict[str, Any]:
    """The usage object of a recognised text."""
    return {"type": "duration", "seconds": round(text.audio_s, 3)}


def as_body(text: Transcript, response_format: str) -> Any:
    """The whole answer: an object, or the text for ``text``."""
    if response_format == "text":
        return text.text + "\n"
    if response_format == "json":
        return {"text": text.text, "usage": usage(text)}
    words = [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in text.words]
    return {"task": "transcribe", "language": "english", "duration": text.audio_s, "text": text.text, "words": words}
