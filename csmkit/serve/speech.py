"""POST /v1/audio/speech: a text, spoken, as one file or as events."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.checks import is_finite, is_integer
from csmkit.serve.errors import RequestError, invalid
from csmkit.serve.feed import Feed
from csmkit.serve.sound_formats import MEDIA_TYPES, new_encoder
from csmkit.serve.utterance import Utterance, Wording
from csmkit.speech.streams import chunk_schedule

if TYPE_CHECKING:
    from csmkit.serve.models import ServedModels
    from csmkit.serve.service import Service

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


@dataclass(frozen=True)
class SpeechRequest:
    """A request that can be answered.

    Attributes:
        text: what was asked for.
        utterance: what is spoken.
        response_format: a key of `MEDIA_TYPES`.
        sse: events instead of a file.
    """

    text: str
    utterance: Utterance
    response_format: str
    sse: bool


def parse(body: Mapping[str, Any], models: ServedModels, max_chars: int) -> SpeechRequest:
    """Check a request's fields.

    Raises:
        RequestError: 422 for a value that cannot be used or a field that has no effect here, 404 for another model.
    """
    for name in body:
        if name == "instructions" and not body[name]:
            continue
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            raise invalid(
                f"{str(name)[:40]!r} has no effect here: the fields are {known}", str(name)[:40], "unknown_field"
            )
    text = body.get("input")
    if not isinstance(text, str) or not text.strip() or len(text) > max_chars:
        given = f"{len(text)} characters" if isinstance(text, str) else "no text"
        raise invalid(f"input with {given}: give a text of 1 to {max_chars} characters", "input")
    models.check_name("speech", body.get("model", "csm"))
    _one_of(body, "response_format", tuple(MEDIA_TYPES), "mp3")
    _one_of(body, "stream_format", ("audio", "sse"), "audio")
    if body.get("speed", 1) != 1:
        raise invalid(
            "speed other than 1 is not supported: leave it out, or change the speed where it is played", "speed"
        )
    wording = Wording(
        text=text,
        speaker=models.speaker(body.get("voice", next(iter(models.speakers)))),
        chunk_frames=_schedule(body.get("chunk_frames", Wording.chunk_frames)),
        seed=_number(body, "seed", is_integer, "an integer in [0, 2**63)"),
        temperature=_number(body, "temperature", is_finite, "a number of at least 0"),
        topk=_number(body, "topk", is_integer, "an integer of at least 1"),
        max_audio_length_ms=_number(body, "max_audio_length_ms", is_finite, "milliseconds, at least 80"),
    )
    utterance = Utterance(models, wording)
    return SpeechRequest(text, utterance, body.get("response_format", "mp3"), body.get("stream_format") == "sse")


def _one_of(body: Mapping[str, Any], name: str, allowed: Sequence[str], default: str) -> None:
    if body.get(name, default) not in allowed:
        raise invalid(f"{name} is none of {', '.join(allowed)}: give one of them", name)


def _number(body: Mapping[str, Any], name: str, check: Callable[[Any], bool], allowed: str) -> Any:
    value = body.get(name)
    if value is not None and not check(value):
        raise invalid(f"{name} of another kind: give {allowed}", name)
    return value


def _schedule(value: Any) -> tuple[int, ...]:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if len(numbers) > 16 or not all(is_integer(n) and 1 <= n <= MOST_CHUNK_FRAMES for n in numbers):
        raise invalid(
            f"chunk_frames: give 1 to {MOST_CHUNK_FRAMES}, or up to 16 such numbers in a list", "chunk_frames"
        )
    return chunk_schedule(tuple(numbers))


async def chunks(service: Service, utterance: Utterance, route: str) -> AsyncIterator[np.ndarray]:
    """The sound of an utterance, ``(samples,)`` float32 each; waits for a stream first. Closing it stops the making.

    Raises:
        RequestError: no stream is free; or nothing was spoken.
        CsmkitError: the voice failed.
    """
    asked = monotonic()
    n_samples = 0
    async with service.admission.stream():
        feed = Feed(utterance, service.threads, N_AHEAD)
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


async def as_file(sound: AsyncIterator[np.ndarray], response_format: str) -> AsyncIterator[bytes]:
    """The bytes of a file, each piece as soon as its encoder has it."""
    encoder = new_encoder(response_format)
    async with aclosing(sound):
        async for samples in sound:
            if piece := encoder.encode(samples):
                yield piece
        if piece := encoder.finish():
            yield piece


async def as_events(sound: AsyncIterator[np.ndarray], request: SpeechRequest) -> AsyncIterator[bytes]:
    """Server-sent events: ``speech.audio.delta`` with the bytes of the file, then ``speech.audio.done``."""
    pieces = as_file(sound, request.response_format)
    async with aclosing(pieces):
        async for piece in pieces:
            yield event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    n_words = len(request.text.split())
    usage = {"input_tokens": n_words, "output_tokens": request.utterance.n_frames}
    yield event({"type": "speech.audio.done", "usage": usage | {"total_tokens": sum(usage.values())}})


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(content)}\n\n".encode()


def error_event(error: BaseException) -> bytes:
    """The event that ends an answer which failed on its way."""
    assert isinstance(error, RequestError)
    return event({"type": "error", **error.body()})
