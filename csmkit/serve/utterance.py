"""A text of any length as one stream of sound: clause after clause, each a generation of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.serve.models import ServedModels, Speaker
from csmkit.speech.settings import Segment
from csmkit.text.clauses import Clause, ClauseSplitter

if TYPE_CHECKING:
    from csmkit.speech.streams import SpeechStream


@dataclass(frozen=True)
class Wording:
    """What is spoken, and how.

    Attributes:
        clauses: the text in pieces that the voice can speak.
        speaker: who speaks.
        chunk_frames: frames of a chunk, or a schedule.
        seed: of the first clause, counted up from clause to clause; None differs every time.
        temperature, topk, max_audio_length_ms: of each clause; None for the voice's own.
    """

    clauses: Sequence[Clause]
    speaker: Speaker
    chunk_frames: int | Sequence[int] = (1, 2, 4, 6)
    seed: int | None = None
    temperature: float | None = None
    topk: int | None = None
    max_audio_length_ms: float | None = None

    def sampling(self, number: int, models: ServedModels) -> dict[str, Any]:
        """Keywords of the request for a clause, counted from 0."""
        options = models.options
        return {
            "temperature": options.temperature if self.temperature is None else self.temperature,
            "topk": options.topk if self.topk is None else self.topk,
            "max_audio_length_ms": self.max_audio_length_ms or options.max_audio_length_ms,
            "seed": None if self.seed is None else self.seed + number,
            "guards": options.guards,
        }


def clauses_of(text: str, models: ServedModels) -> list[Clause]:
    """A text in clauses that the voice can speak; empty where there is nothing to say."""
    splitter = ClauseSplitter(models.options.first_words, models.options.most_words)
    return [*splitter.push(text), *splitter.flush()]


class Utterance(Iterator[np.ndarray]):
    """Chunks of sound, ``(samples,)`` float32 at 24 kHz. One thread iterates and closes; any may call `stop_soon`.

    Attributes:
        n_frames: frames made so far.
        finish_reasons: of the clauses that have ended.
    """

    def __init__(self, models: ServedModels, wording: Wording) -> None:
        self._models, self._wording = models, wording
        self._clauses = iter(enumerate(wording.clauses))
        self._text = ""
        self._stream: SpeechStream | None = None
        self._stopped = False
        self._spoken: list[Segment] = []
        self._n_frames = 0
        self.finish_reasons: list[str] = []

    @property
    def n_frames(self) -> int:
        stream = self._stream
        return self._n_frames + (0 if stream is None else stream.n_frames)

    def check(self) -> None:
        """Raise what the first clause would raise, such as InputError for a temperature that is none."""
        text = self._wording.clauses[0].spoken
        self._models.voice.request(text, self._wording.speaker.number, **self._wording.sampling(0, self._models))

    def __next__(self) -> np.ndarray:
        while not self._stopped:
            stream = self._stream or self._next_stream()
            if stream is None:
                break
            if self._stopped:  # `stop_soon` may have come before there was a stream to stop
                break
            chunk = next(stream, None)
            if chunk is not None:
                return chunk.numpy()
            self._end(stream)
        raise StopIteration

    def stop_soon(self) -> None:
        """End after the frame that is being made; never blocks."""
        self._stopped = True
        stream = self._stream
        if stream is not None:
            stream.stop_soon()

    def close(self) -> None:
        """Stop and free; blocks for at most one frame."""
        self._stopped = True
        if self._stream is not None:
            self._stream.close()
            self._end(self._stream)

    def _next_stream(self) -> SpeechStream | None:
        number, clause = next(self._clauses, (0, None))
        if clause is None:
            return None
        wording, voice = self._wording, self._models.voice
        asked = wording.sampling(number, self._models)
        lead = list(wording.speaker.prompt)
        request = voice.request(clause.spoken, wording.speaker.number, [*lead, *self._spoken], **asked)
        context = voice.fit(request, n_lead=len(lead)).context
        self._text = clause.spoken
        self._stream = voice.generate_streaming(
            clause.spoken, wording.speaker.number, context, chunk_frames=wording.chunk_frames, **asked
        )
        return self._stream

    def _end(self, stream: SpeechStream) -> None:
        """Note how a clause went; where the voice needs its earlier sound to stay the same, keep that for the next."""
        self._stream = None
        self._n_frames += stream.n_frames
        if stream.finish_reason is not None:
            self.finish_reasons.append(stream.finish_reason)
        if self._models.options.context_turns and stream.n_frames and stream.has_spoken:
            self._spoken.append(Segment(self._wording.speaker.number, self._text, codes=stream.codes))
