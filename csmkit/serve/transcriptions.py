"""POST /v1/audio/transcriptions: a sound file, recognised, whole or text by text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.audio import SAMPLE_RATE
from csmkit.serve.errors import invalid
from csmkit.serve.feed import Feed
from csmkit.serve.speech import event

if TYPE_CHECKING:
    from csmkit.asr.streaming import StreamingWhisperASR
    from csmkit.asr.transcriber import Transcript
    from csmkit.serve.service import Service

IGNORED = ("temperature", "prompt")  # hints that a server may leave out; others would change the answer
FORMATS = ("json", "text", "verbose_json")
PIECE_S = 2.0  # seconds of sound that the recogniser gets at once
POLL_S = 0.02


@dataclass(frozen=True)
class Upload:
    """What was asked for.

    Attributes:
        sound: ``(samples,)`` float32 at 24 kHz.
        response_format: one of `FORMATS`.
        stream: texts as they come.
    """

    sound: np.ndarray
    response_format: str
    stream: bool


def check_fields(fields: dict[str, Any]) -> None:
    """Raise RequestError for a field that has no effect here or a value that is none."""
    known = {"file", "model", "language", "response_format", "stream", *IGNORED, "timestamp_granularities[]"}
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise invalid(
            f"{unknown[0][:40]!r} has no effect here: the fields are {', '.join(sorted(known))}", unknown[0][:40]
        )
    if fields.get("language", "en") not in ("en", "english"):
        raise invalid("language other than en: these recognisers know English alone", "language")
    if fields.get("response_format", "json") not in FORMATS:
        raise invalid(f"response_format is none of {', '.join(FORMATS)}: give one of them", "response_format")


class Recognition(Iterator["Transcript"]):
    """The texts of a sound: partial ones while it is read piece by piece, then the final one. See `Feed`."""

    def __init__(self, asr: StreamingWhisperASR, sound: np.ndarray, timeout_s: float, partials: bool) -> None:
        self._stream, self._sound = asr.stream(), sound
        self._deadline = monotonic() + timeout_s
        n_piece = int(PIECE_S * SAMPLE_RATE) if partials else len(sound)
        self._starts = iter(range(0, len(sound), n_piece))
        self._n_piece, self._over = n_piece, False

    def __next__(self) -> Transcript:
        start = next(self._starts, None)
        if self._over:
            raise StopIteration
        if start is None:
            self._over = True
            self._stream.finish()
            return self._stream.get_final(max(0.1, self._deadline - monotonic()))
        self._stream.put_audio_chunk(self._sound[start : start + self._n_piece])
        if start + self._n_piece < len(self._sound):
            self._wait_for_partial((start + self._n_piece) / SAMPLE_RATE)
        return self._stream.get_latest_partial()

    def _wait_for_partial(self, until_s: float) -> None:
        """Wait until the recogniser has read most of its sound, so that there are partial texts to send."""
        while not self._stream.settled and monotonic() < self._deadline:
            if self._stream.get_latest_partial().audio_s >= until_s - PIECE_S / 2:
                return
            sleep(POLL_S)

    def stop_soon(self) -> None:
        """Drop the utterance; the result of a decode in progress is discarded."""
        self._stream.cancel()

    def close(self) -> None:
        """As `stop_soon`."""
        self._stream.cancel()


async def texts(service: Service, upload: Upload) -> AsyncIterator[Transcript]:
    """Partial texts, the final one last. Closing it drops the utterance."""
    asr = service.models.asr
    assert asr is not None
    with service.admission.other():
        recognition = await asyncio.to_thread(Recognition, asr, upload.sound, service.limits.turn_s, upload.stream)
        feed = Feed(recognition, service.threads, 1)
        try:
            while (text := await feed.next()) is not None:
                yield text
        finally:
            await feed.close()


async def as_events(found: AsyncIterator[Transcript]) -> AsyncIterator[bytes]:
    """Server-sent events: ``transcript.text.delta`` with words that stay, then ``transcript.text.done``.

    Deltas are what several readings agreed on. The final reading may differ: its text is in ``done``.
    """
    sent = ""
    text = None
    async for text in found:
        committed = text.committed if text.committed.startswith(sent) else sent
        if len(committed) > len(sent):
            yield event({"type": "transcript.text.delta", "delta": committed[len(sent) :]})
            sent = committed
    assert text is not None
    usage = {"type": "duration", "seconds": round(text.audio_s, 3)}
    yield event({"type": "transcript.text.done", "text": text.text, "usage": usage})


def as_body(text: Transcript, response_format: str) -> Any:
    """The whole answer: an object, or the text for ``text``."""
    if response_format == "text":
        return text.text + "\n"
    usage = {"type": "duration", "seconds": round(text.audio_s, 3)}
    if response_format == "json":
        return {"text": text.text, "usage": usage}
    words = [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in text.words]
    return {"task": "transcribe", "language": "english", "duration": text.audio_s, "text": text.text, "words": words}
