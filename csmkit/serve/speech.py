"""POST /v1/audio/speech: a text, spoken, as one file or as events."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.checks import is_finite, is_integer
from csmkit.serve.errors import RequestError, check_choice, check_names, invalid
from csmkit.serve.feed import Feed
from csmkit.serve.models import ServedModels
from csmkit.serve.service import Service
from csmkit.serve.sound_formats import MEDIA_TYPES, new_encoder
from csmkit.speech.base import SpeechGenerator
from csmkit.speech.long_text import Page, Reading, Speech, speak_text

FIRST_CHUNKS = (1, 1, 1, 2, 2, 3, 4, 6)  # frames: each chunk plays while the next is made, at up to 60 ms a frame
FIELDS = (
    "input",
    "model",
    "voice",
    "response_format",
    "stream_format",
    "speed",
    "seed",
    "temperature",
    "topk",
    "chunk_frames",
    "max_audio_length_ms",
)
N_AHEAD = 4  # chunks that may wait for the client, at most 24 frames, which are about two seconds of sound
MOST_CHUNK_FRAMES = 125  # ten seconds


@dataclass
class SpeechRequest:
    """A request that can be answered, and the sound that is made for it.

    Attributes:
        text: what was asked for.
        voice: speaks the text.
        page: the text as the voice takes it.
        schedule: number of frames in each chunk; the last one repeats.
        response_format: a key of `MEDIA_TYPES`.
        sse: events instead of a file.
    """

    text: str
    voice: SpeechGenerator
    page: Page
    schedule: Sequence[int]
    response_format: str
    sse: bool
    _stream: Speech | None = None
    _stopped: bool = False

    @property
    def n_frames(self) -> int:
        """Frames made so far."""
        return 0 if self._stream is None else self._stream.n_frames

    def sound(self) -> Generator[np.ndarray, None, None]:
        """Speak the text, in chunks ``(samples,)`` float32 at 24 kHz; raises what `speak_text` does."""
        if self._stopped:
            return
        self._stream = speak_text(self.voice, self.page, self.schedule)
        with closing(self._stream):
            while not self._stopped and (chunk := next(self._stream, None)) is not None:
                yield chunk.numpy()

    def stop_soon(self) -> None:
        """End after the frame that is being made; never blocks, from any thread, also before the stream exists."""
        self._stopped = True
        if (stream := self._stream) is not None:
            stream.stop_soon()


def parse(body: Mapping[str, Any], models: ServedModels, max_chars: int) -> SpeechRequest:
    """Check a request's fields.

    Raises:
        RequestError: 422 for a value that cannot be used or a field that has no effect here, 404 for another model.
        InputError: a value that the voice cannot use, or a text without a word.
        ContextOverflowError: the voice's prompt and the text do not fit the model.
    """
    check_names([name for name in body if name != "instructions" or body[name]], FIELDS)
    text = body.get("input")
    if not isinstance(text, str) or not text.strip() or len(text) > max_chars:
        given = f"{len(text)} characters" if isinstance(text, str) else "no text"
        raise invalid(f"input with {given}: give a text of 1 to {max_chars} characters", "input")
    models.check_name("speech", body.get("model", "csm"))
    check_choice(body, "response_format", tuple(MEDIA_TYPES))
    check_choice(body, "stream_format", ("audio", "sse"))
    if body.get("speed", 1) != 1:
        raise invalid(
            "speed other than 1 is not supported: leave it out, or change the speed where it is played", "speed"
        )
    speaker = models.speaker(body.get("voice", next(iter(models.speakers))))
    schedule = _schedule(body.get("chunk_frames", FIRST_CHUNKS))
    limit_ms = _number(body, "max_audio_length_ms", is_finite, "milliseconds, at least 80")
    request = models.voice.request(
        text,
        speaker.number,
        speaker.prompt,
        max_audio_length_ms=limit_ms,
        temperature=_number(body, "temperature", is_finite, "a number of at least 0"),
        topk=_number(body, "topk", is_integer, "an integer of at least 1"),
        seed=_number(body, "seed", is_integer, "an integer in [0, 2**63)"),
    )
    page = Page(request, each_ms=0 if limit_ms is None else None)
    Reading(models.voice, page)  # raises now for a text without words, not at the first chunk
    sse = body.get("stream_format") == "sse"
    return SpeechRequest(text, models.voice, page, schedule, body.get("response_format", "mp3"), sse)


def _number(body: Mapping[str, Any], name: str, check: Callable[[Any], bool], allowed: str) -> Any:
    value = body.get(name)
    if value is not None and not check(value):
        raise invalid(f"{name} of another kind: give {allowed}", name)
    return value


def _schedule(value: Any) -> tuple[int, ...]:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(numbers) <= 16 or not all(is_integer(n) and 1 <= n <= MOST_CHUNK_FRAMES for n in numbers):
        raise invalid(
            f"chunk_frames: give 1 to {MOST_CHUNK_FRAMES}, or up to 16 such numbers in a list", "chunk_frames"
        )
    return tuple(numbers)


async def chunks(service: Service, request: SpeechRequest, route: str) -> AsyncGenerator[np.ndarray, None]:
    """The sound of a request, ``(samples,)`` float32 each; waits for a stream first. Closing it stops the making.

    Raises:
        RequestError: no stream is free; or nothing was spoken.
        CsmkitError: the voice failed.
    """
    asked = monotonic()
    n_samples = 0
    async with service.admission.stream():
        feed = Feed(request.sound(), request.stop_soon, service.threads, N_AHEAD)
        try:
            while (chunk := await feed.next()) is not None:
                if not n_samples:
                    service.metrics.first_audio(monotonic() - asked)
                n_samples += len(chunk)
                yield chunk
        finally:
            await feed.close()
            service.metrics.count("csmkit_audio_seconds_total", n_samples / SAMPLE_RATE, route=route)
    if not n_samples:
        raise RequestError(500, "the voice said nothing: ask again, or with another seed", "no_speech")


async def as_file(sound: AsyncGenerator[np.ndarray, None], response_format: str) -> AsyncGenerator[bytes, None]:
    """The bytes of a file, each piece as soon as its encoder has it."""
    encoder = new_encoder(response_format)
    async with aclosing(sound):
        async for samples in sound:
            if piece := encoder.encode(samples):
                yield piece
        if piece := encoder.finish():
            yield piece


async def as_events(file: AsyncGenerator[bytes, None], request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    """Server-sent events: ``speech.audio.delta`` with the bytes of the file, then ``speech.audio.done``."""
    async with aclosing(file):
        async for piece in file:
            yield event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    usage = {"input_tokens": len(request.text.split()), "output_tokens": request.n_frames}
    yield event({"type": "speech.audio.done", "usage": usage | {"total_tokens": sum(usage.values())}})


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(content)}\n\n".encode()


def error_event(error: RequestError) -> bytes:
    """The event that ends an answer which failed on its way."""
    return event({"type": "error", **error.body()})
