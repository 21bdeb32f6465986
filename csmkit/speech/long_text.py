"""A text of any length, spoken: cut into passages that fit the voice, one generation each, one after another."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS
from csmkit.closing import Closing
from csmkit.errors import InputError
from csmkit.speech.settings import Request, Segment
from csmkit.speech.streams import END_OF_SPEECH, INTERRUPTED, MAX_LENGTH, REPETITION
from csmkit.text.passages import cut_passages, shortened, unspeakable

log = logging.getLogger(__name__)

LETTERS_PER_S = 14.0  # of ordinary speech
_SLOWEST = 2.5  # a passage may take so many times as long as ordinary speech


class Speech(Protocol):
    """One generation being spoken, as `SpeechStream` has it."""

    @property
    def finish_reason(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def codes(self) -> Tensor: ...
    def __next__(self) -> Tensor: ...
    def close(self) -> None: ...


Start = Callable[[Request, Sequence[int]], Speech]
"""Starts one generation, in chunks by a schedule, such as `SpeechGenerator.speak`."""


@dataclass(frozen=True)
class Page:
    """A text to be spoken in passages.

    Attributes:
        request: the text, of any length, with its settings; its limit is that of all passages together, unless
            ``each_ms`` is given.
        each_ms: limit of each passage in milliseconds; the whole text is then spoken. 0 derives the limit of a passage
            from the length of its text.
    """

    request: Request
    each_ms: float | None = None

    def limit_ms(self, text: str, n_frames_before: int) -> float:
        """The most audio of a passage after so many frames; below one frame where nothing may follow."""
        if self.each_ms is None:
            return self.request.max_audio_length_ms - n_frames_before * FRAME_MS
        return self.each_ms or max(Request.max_audio_length_ms, 1_000 * _SLOWEST * len(text) / LETTERS_PER_S)


@dataclass(frozen=True)
class Passage:
    """A passage that is spoken, and its sound."""

    text: str
    stream: Speech

    @property
    def n_frames(self) -> int:
        """Frames made so far."""
        codes = self.stream.codes
        return codes.shape[1] if codes.numel() else 0

    def segment(self, speaker: int) -> Segment | None:
        """The passage as context of a later one; None where the voice made nothing or repeated itself."""
        if not self.n_frames or self.stream.finish_reason == REPETITION:
            return None
        return Segment(speaker, self.text, codes=self.stream.codes)


class Reading:
    """A text being spoken: the requests of its passages, one at a time, and what came of them.

    Passage k has the seed of the first one plus k, and the passages before it in its context. A passage that a guard
    stops does not stop the text. Words without Latin letters are left out, with a warning in the log.

    Args:
        generator: a `csmkit.speech.base.SpeechGenerator`; its `abilities` say how long a passage may be, and how many
            lead the next one.
        page: the text, and how it is spoken.

    Attributes:
        passages: those begun so far.
        finish_reason: why the text ended, the first reason of a passage that is not the end of speech; None before.

    Raises:
        InputError: nothing of the text can be spoken.
    """

    def __init__(self, generator: Any, page: Page) -> None:
        self.passages: list[Passage] = []
        self.finish_reason: str | None = None
        self._generator, self._page = generator, page
        text, abilities = page.request.text, generator.abilities
        texts = cut_passages(text, abilities.most_words, abilities.most_sentences)
        first, second = next(texts, None), next(texts, None)
        if first is None:
            raise InputError(
                f"text={shortened(text)!r}: there is nothing in it that this voice can say; give words in Latin "
                "letters, or raw_text=True to pass a text to the voice as it is"
            )
        if left_out := unspeakable(text):
            log.warning("left out %r: the voice speaks words in Latin letters", shortened(left_out))
        self.is_one = second is None
        self._texts = itertools.chain([first], [] if second is None else [second], texts)

    def following(self) -> Request | None:
        """The request of the next passage, once the one before has ended; None at the end of the text.

        Raises:
            ContextOverflowError: the passage does not fit beside the request's own context.
        """
        text = None if self.finish_reason is not None else next(self._texts, None)
        if text is None:
            self.finish_reason = self.finish_reason or self._reason()
            return None
        limit_ms = self._page.limit_ms(text, self.n_frames)
        if limit_ms < FRAME_MS:
            self.finish_reason = MAX_LENGTH
            return None
        request = replace(self._page.request, text=text, max_audio_length_ms=limit_ms)
        if not self.passages:
            return request
        context = (*request.context, *self._last_segments())
        seed = (self.seed + len(self.passages)) % 2**63
        return self._generator.fit(replace(request, context=context, seed=seed), n_lead=len(request.context))

    def add(self, request: Request, stream: Speech) -> None:
        """Note that a passage is being spoken."""
        self.passages.append(Passage(request.text, stream))

    @property
    def seed(self) -> int:
        """The seed of the first passage."""
        return self.passages[0].stream.seed

    @property
    def n_frames(self) -> int:
        """Frames made so far, 80 ms each."""
        return sum(passage.n_frames for passage in self.passages)

    @property
    def codes(self) -> Tensor:
        """The codes made so far, ``(n_codebooks, n_frames)`` int64."""
        codes = [passage.stream.codes for passage in self.passages]
        return torch.cat([some for some in codes if some.numel()] or codes[:1], dim=1)

    def _last_segments(self) -> list[Segment]:
        n_context = self._generator.abilities.context_passages
        last = self.passages[-n_context:] if n_context else []
        segments = [passage.segment(self._page.request.speaker) for passage in last]
        return [segment for segment in segments if segment is not None]

    def _reason(self) -> str:
        reasons = (passage.stream.finish_reason or INTERRUPTED for passage in self.passages)
        return next((reason for reason in reasons if reason != END_OF_SPEECH), END_OF_SPEECH)


def speak_text(generator: Any, page: Page, schedule: Sequence[int], start: Start | None = None) -> Speech:
    """Speak a text: numbers and signs in words, in as many generations as the voice needs for its length.

    Args:
        generator: speaks each passage.
        page: the text, and how it is spoken.
        schedule: frames of each chunk; the last number repeats. The last chunk of a passage may be shorter.
        start: how a generation is started; None is the generator's `speak`.

    Returns:
        What ``start`` returns where the text fits one generation, else a `PassageStream`.

    Raises:
        InputError: nothing of the text can be spoken; at the call.
        ContextOverflowError: the first passage and its context do not fit the voice; at the call.
    """
    start = start or generator.speak
    stream = PassageStream(generator, page, start, schedule)
    if stream.is_one:
        request = stream.following()
        assert request is not None
        return start(request, schedule)
    stream.begin_next()
    return stream


class PassageStream(Closing, Reading, Iterator[Tensor]):
    """The sound of several generations, one after another; read and closed as a `SpeechStream`.

    Args:
        generator: the voice, as for `Reading`.
        page: the text, and how it is spoken.
        start: starts a passage.
        schedule: frames of each chunk; the last number repeats.
    """

    def __init__(self, generator: Any, page: Page, start: Start, schedule: Sequence[int]) -> None:
        super().__init__(generator, page)
        self._start, self._schedule = start, schedule
        self._n_chunks = 0
        self._lock = threading.RLock()

    @property
    def texts(self) -> list[str]:
        """The passages begun so far, as they are spoken."""
        return [passage.text for passage in self.passages]

    @property
    def frame_spans(self) -> list[tuple[float, float]]:
        """From when to when each frame was made, as `SpeechStream.frame_spans`."""
        return [span for stream in self._streams for span in getattr(stream, "frame_spans", ())]

    @property
    def has_spoken(self) -> bool:
        """Whether there was anything but silence so far."""
        return any(getattr(stream, "has_spoken", True) for stream in self._streams)

    @property
    def _streams(self) -> list[Speech]:
        return [passage.stream for passage in self.passages]

    def __next__(self) -> Tensor:
        while self.finish_reason is None:
            try:
                chunk = next(self._streams[-1], None)
                if chunk is None:
                    self.begin_next()
            except BaseException:  # such as Ctrl-C
                self.close()
                raise
            if chunk is not None:
                self._n_chunks += 1
                return chunk
        raise StopIteration

    def begin_next(self) -> None:
        """Start the next passage, or end."""
        with self._lock:
            streams = self._streams
            if streams and streams[-1].finish_reason == INTERRUPTED:
                self.finish_reason = INTERRUPTED
            request = self.following()
            if request is not None:
                rest = self._schedule[self._n_chunks :] or self._schedule[-1:]
                self.add(request, self._start(request, rest))

    def stop_soon(self) -> None:
        """End after the frame being made; never blocks, also in a signal handler."""
        self.finish_reason = self.finish_reason or INTERRUPTED
        stream = self._streams[-1]
        getattr(stream, "stop_soon", stream.close)()

    def close(self) -> None:
        """Stop and free; from any thread, more than once. Blocks for at most one frame."""
        with self._lock:
            self.finish_reason = self.finish_reason or INTERRUPTED
            self._streams[-1].close()
