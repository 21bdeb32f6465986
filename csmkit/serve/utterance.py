"""A text of any length being spoken for a client: chunks of sound that one thread makes and any may stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from csmkit.serve.models import ServedModels, Speaker
from csmkit.speech.long_text import Page, Reading, Speech, speak_text
from csmkit.speech.streams import chunk_schedule

FIRST_CHUNKS = (1, 1, 1, 2, 2, 3, 4, 6)  # frames: each chunk plays while the next is made, at up to 60 ms a frame


@dataclass(frozen=True)
class Wording:
    """What is spoken, and how.

    Attributes:
        text: a text of any length.
        speaker: speaks the text.
        chunk_frames: frames of a chunk, or a schedule.
        seed: seed of the first passage, counted up from passage to passage; None differs every time.
        temperature, topk: settings of the sampling; None for the voice's own.
        max_audio_length_ms: longest sound of the whole text; None for as long as it takes.
    """

    text: str
    speaker: Speaker
    chunk_frames: int | Sequence[int] = FIRST_CHUNKS
    seed: int | None = None
    temperature: float | None = None
    topk: int | None = None
    max_audio_length_ms: float | None = None

    def page(self, models: ServedModels) -> Page:
        """The text as the voice takes it; raises InputError for a value that cannot be used."""
        request = models.voice.request(
            self.text,
            self.speaker.number,
            self.speaker.prompt,
            max_audio_length_ms=self.max_audio_length_ms,
            temperature=self.temperature,
            topk=self.topk,
            seed=self.seed,
        )
        return Page(request, each_ms=0 if self.max_audio_length_ms is None else None)


class Utterance(Iterator[np.ndarray]):
    """Chunks of sound, ``(samples,)`` float32 at 24 kHz. One thread iterates and closes; any may call `stop_soon`.

    Args:
        models: have the voice.
        wording: what is spoken.

    Raises:
        InputError: a value that cannot be used, or a text without a word.
        ContextOverflowError: the voice's prompt and the text do not fit the model.
    """

    def __init__(self, models: ServedModels, wording: Wording) -> None:
        self._voice, self._page = models.voice, wording.page(models)
        self._schedule = chunk_schedule(wording.chunk_frames)
        Reading(self._voice, self._page)  # raises now for a text without words, not at the first chunk
        self._stream: Speech | None = None
        self._stopped = False

    @property
    def n_frames(self) -> int:
        """Frames made so far."""
        codes = None if self._stream is None else self._stream.codes
        return 0 if codes is None or not codes.numel() else codes.shape[1]

    def __next__(self) -> np.ndarray:
        if self._stream is None and not self._stopped:
            self._stream = speak_text(self._voice, self._page, self._schedule)
        if self._stream is None or self._stopped:  # `stop_soon` may be called before the stream exists
            raise StopIteration
        return next(self._stream).numpy()

    def stop_soon(self) -> None:
        """End after the frame that is being made; never blocks."""
        self._stopped = True
        stream = self._stream
        if stream is not None:
            getattr(stream, "stop_soon", stream.close)()

    def close(self) -> None:
        """Stop and free; blocks for at most one frame."""
        self._stopped = True
        if self._stream is not None:
            self._stream.close()
