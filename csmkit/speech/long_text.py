"""A text of any length, spoken: cut into passages that fit the voice, one generation each, one after another."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS
from csmkit.closing import Closing
from csmkit.errors import InputError
from csmkit.speech.abilities import Abilities
from csmkit.speech.frames import END_OF_SPEECH, INTERRUPTED, MAX_LENGTH, REPETITION
from csmkit.speech.settings import Request, Segment
from csmkit.speech.streams import SpeechStream
from csmkit.text.passages import cut_passages, shortened, unspeakable

log = logging.getLogger(__name__)

LETTERS_PER_S = 14.0  # of ordinary speech
_SLOWEST = 2.5  # a passage may take so many times as long as ordinary speech


class Voice(Protocol):
    """Speaks passages, such as a `csmkit.speech.base.SpeechGenerator`."""

    abilities: Abilities

    def fit(self, request: Request, n_lead: int = 0) -> Request: ...
    def speak(self, request: Request, schedule: Sequence[int]) -> SpeechStream: ...


@dataclass(frozen=True)
class Page:
    """A text to be spoken in passages.

    Attributes:
        request: the text, of any length, with its settings; its limit is that of all passages together, unless
            ``each_ms`` is given.
        each_ms: limit of each passage in milliseconds; the whole text is then spoken. 0 derives the limit of a passage
            from the length of its text.
        raw: speak the text as it is, in one generation, as the request says.
    """

    request: Request
    each_ms: float | None = None
    raw: bool = False

    def limit_ms(self, text: str, n_frames_before: int) -> float:
        """The most audio of a passage after so many frames; below one frame where nothing may follow."""
        if self.each_ms is None:
            return self.request.max_audio_length_ms - n_frames_before * FRAME_MS
        return self.each_ms or max(Request.max_audio_length_ms, 1_000 * _SLOWEST * len(text) / LETTERS_PER_S)


@dataclass(frozen=True)
class Passage:
    """A passage that is spoken, and its sound."""

    text: str
    stream: SpeechStream

    @property
    def n_frames(self) -> int:
        """Frames made so far."""
        return self.stream.n_frames

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
        generator: speaks; its `abilities` say how long a passage may be, and how many lead the next one.
        page: the text, and how it is spoken.

    Attributes:
        passages: those begun so far.
        finish_reason: why the text ended, the first reason of a passage that is not the end of speech; None before.

    Raises:
        InputError: nothing of the text can be spoken.
    """

    def __init__(self, generator: Voice, page: Page) -> None:
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

    def add(self, request: Request, stream: SpeechStream) -> None:
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


class PassageStream(Closing, Reading, Iterator[Tensor]):
    """The sound of several generations, one after another; read and closed as a `SpeechStream`.

    Args:
        generator: speaks each passage; the first one is started at once.
        page: the text, and how it is spoken.
        schedule: frames of each chunk; the last number repeats. The last chunk of a passage may be shorter.
        start: starts a passage.

    Raises:
        InputError: nothing of the text can be spoken.
        ContextOverflowError: the first passage and its context do not fit the voice.
    """

    def __init__(self, generator: Voice, page: Page, schedule: Sequence[int], start: Start) -> None:
        super().__init__(generator, page)
        self._start, self._schedule = start, schedule
        self._n_chunks = 0
        self._lock = threading.RLock()
        self._begin_next()

    def __next__(self) -> Tensor:
        while self.finish_reason is None:
            try:
                chunk = next(self._stream, None)
                if chunk is None:
                    self._begin_next()
            except BaseException:  # such as Ctrl-C
                self.close()
                raise
            if chunk is not None:
                self._n_chunks += 1
                return chunk
        raise StopIteration

    def stop_soon(self) -> None:
        """End after the frame being made; never blocks, also in a signal handler."""
        self.finish_reason = self.finish_reason or INTERRUPTED
        self._stream.stop_soon()

    def close(self) -> None:
        """Stop and free; from any thread, more than once. Blocks for at most one frame."""
        with self._lock:
            self.finish_reason = self.finish_reason or INTERRUPTED
            self._stream.close()

    @property
    def _stream(self) -> SpeechStream:
        """The speech of the last passage begun."""
        return self.passages[-1].stream

    def _begin_next(self) -> None:
        """Start the next passage, or end."""
        with self._lock:
            if self.passages and self._stream.finish_reason == INTERRUPTED:
                self.finish_reason = INTERRUPTED
            request = self.following()
            if request is not None:
                rest = self._schedule[self._n_chunks :] or self._schedule[-1:]
                self.add(request, self._start(request, rest))


Speech: TypeAlias = SpeechStream | PassageStream
Start: TypeAlias = Callable[[Request, Sequence[int]], SpeechStream]
"""Starts one generation, in chunks by a schedule, such as `SpeechGenerator.speak`."""


def speak_text(generator: Voice, page: Page, schedule: Sequence[int], start: Start | None = None) -> Speech:
    """Speak a text: numbers and signs in words, in as many generations as the voice needs; a raw page as it is, in one.

    Arguments and errors as `PassageStream`; ``start`` is the generator's `speak` where it is None.

    Returns:
        What ``start`` returns where the text fits one generation, else a `PassageStream`.
    """
    start = start or generator.speak
    if page.raw:
        return start(page.request, schedule)
    stream = PassageStream(generator, page, schedule, start)
    return stream.passages[0].stream if stream.is_one else stream
