"""What every generator of speech shares, and one without a model for tests."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator as FrameGenerator
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from csmkit import plugins
from csmkit.codec import Codec
from csmkit.csm.config import Sampling
from csmkit.errors import DeviceError, InputError
from csmkit.speech.abilities import Abilities
from csmkit.speech.batch import SpeechBatch
from csmkit.speech.finish_reasons import END_OF_SPEECH, MAX_LENGTH
from csmkit.speech.guard_monitor import Watch
from csmkit.speech.guards import Guards
from csmkit.speech.long_text import Page, PassageStream, speak_text
from csmkit.speech.settings import Request, Segment, check_speaker
from csmkit.speech.streams import Frames, FrameStream, Outcome, SpeechStream, chunk_schedule


class SpeechGenerator(ABC):
    """What every generator shares: requests, streams and whole audio on top of the frames that a subclass makes.

    Args:
        codec: between frames and sound.
        sampling: where a call leaves it out.

    Attributes:
        codec: as given.
        sampling: as given.
        abilities: what the voice can do, such as the longest text of one generation.
        n_warm_ups: number of utterances to generate before timings are representative.
        device: where the voice runs, such as "cpu" or "cuda:0".
        finish_reason: of the last generation that ended, one of `csmkit.speech.finish_reasons`; None before.
    """

    def __init__(self, codec: Codec, sampling: Sampling) -> None:
        self.codec, self.sampling = codec, sampling
        self.abilities = Abilities()
        self.n_warm_ups = 1
        self.finish_reason: str | None = None

    @property
    def device(self) -> str:
        return "cpu"

    def request(
        self,
        text: str,
        speaker: int = Request.speaker,
        context: Sequence[Segment] = (),
        *,
        max_audio_length_ms: float | None = None,
        temperature: float | None = None,
        topk: int | None = None,
        seed: int | None = None,
        guards: Guards | None = Request.guards,
    ) -> Request:
        """A request with this voice's defaults for what is None; raises InputError for what cannot be used."""
        strangers = (
            [item for item in context if not isinstance(item, Segment)] if isinstance(context, Sequence) else None
        )
        if strangers is None or strangers:
            kind = type(strangers[0] if strangers else context).__name__
            raise InputError(f"context holds a {kind}: give a list of Segments, oldest first")
        check_speaker(speaker)
        self.abilities.check_speaker(speaker)
        asked = {"temperature": temperature, "topk": topk}
        sampling = replace(self.sampling, **{name: value for name, value in asked.items() if value is not None})
        length = Request.max_audio_length_ms if max_audio_length_ms is None else max_audio_length_ms
        guards = Guards.off() if guards is None else guards
        return Request(text, speaker, tuple(context), sampling, length, seed, guards)

    @abstractmethod
    def run_batch(self, requests: Sequence[Request]) -> list[FrameStream]:
        """Start several requests that may share their work."""

    def run(self, request: Request) -> FrameStream:
        """Start a request; what `frames` does once its arguments were put together."""
        (frames,) = self.run_batch([request])
        return frames

    def speak_batch(self, requests: Sequence[Request], schedule: Sequence[int]) -> list[SpeechStream]:
        """Start several requests and make them heard, in chunks by ``schedule``, see `SpeechStream`."""
        return [SpeechStream(frames, self.codec.stream(), schedule) for frames in self.run_batch(requests)]

    def speak(self, request: Request, schedule: Sequence[int]) -> SpeechStream:
        """Start a request and make it heard; what `generate_streaming` does once its arguments were put together."""
        (stream,) = self.speak_batch([request], schedule)
        return stream

    @abstractmethod
    def fit(self, request: Request, n_lead: int = 0) -> Request:
        """The request without the oldest segments that leave no room; whole segments go, never parts.

        Args:
            request: of any length.
            n_lead: so many segments at the head of its context, such as a voice prompt, stay in any case.

        Raises:
            ContextOverflowError: the text and those segments are too long.
        """

    def frames(
        self,
        text: str,
        speaker: int = Request.speaker,
        context: Sequence[Segment] = (),
        max_audio_length_ms: float | None = None,
        temperature: float | None = None,
        topk: int | None = None,
        seed: int | None = None,
        guards: Guards | None = Request.guards,
    ) -> FrameStream:
        """Speak, as codes.

        Args:
            text: what is said.
            speaker: a non-negative integer the voice was trained with.
            context: turns before, oldest first.
            max_audio_length_ms: at least 80; None is 8 000.
            temperature: 0 is greedy; None is the voice's own.
            topk: at least 1; None is the voice's own.
            seed: the same seed gives the same codes, whatever the chunk size and whatever was said before; in float32
                also in another execution mode and beside other rows of a batch. None draws one, which the stream tells.
            guards: what ends speech that has run away; None for nothing. Codes alone cannot tell a silence: that one
                is found by `generate_streaming` and `generate`.

        Yields:
            ``(n_codebooks,)`` int64 on the CPU; nothing runs before the first is asked for. A frame on which a guard
            strikes is the last.

        Raises:
            InputError: an argument that cannot be used; at the call.
            ContextOverflowError: prompt and answer exceed the positions of the model; at the call.
        """
        return self.run(
            self.request(
                text,
                speaker,
                context,
                max_audio_length_ms=max_audio_length_ms,
                temperature=temperature,
                topk=topk,
                seed=seed,
                guards=guards,
            )
        )

    def generate_streaming(
        self,
        text: str,
        speaker: int = Request.speaker,
        context: Sequence[Segment] = (),
        max_audio_length_ms: float | None = None,
        temperature: float | None = None,
        topk: int | None = None,
        chunk_frames: int | Sequence[int] = 6,
        seed: int | None = None,
        guards: Guards | None = Request.guards,
        raw_text: bool = False,
    ) -> SpeechStream | PassageStream:
        """Speak, as chunks of sound; arguments and errors as `frames`.

        Numbers and signs are spoken in words. A text longer than the voice carries in one generation, see
        `csmkit.speech.abilities.Abilities`, is spoken in several, one after another, up to ``max_audio_length_ms``.

        Args:
            raw_text: pass the text to the voice as it is, in one generation, as `frames` does.
            chunk_frames: frames of 80 ms a chunk, or a schedule such as ``(1, 2, 4, 6)`` whose last number repeats. It
                never changes the sound.

        Yields:
            ``(samples,)`` float32 on the CPU at 24 kHz; the first as soon as its frames are made.
        """
        request = self.request(
            text,
            speaker,
            context,
            max_audio_length_ms=max_audio_length_ms,
            temperature=temperature,
            topk=topk,
            seed=seed,
            guards=guards,
        )
        schedule = chunk_schedule(chunk_frames)
        return self.speak(request, schedule) if raw_text else speak_text(self, Page(request), schedule)

    def generate(
        self,
        text: str,
        speaker: int = Request.speaker,
        context: Sequence[Segment] = (),
        max_audio_length_ms: float | None = None,
        temperature: float | None = None,
        topk: int | None = None,
        seed: int | None = None,
        guards: Guards | None = Request.guards,
        raw_text: bool = False,
    ) -> Tensor:
        """Speak, whole: the chunks of `generate_streaming` joined, ``(samples,)``; empty if nothing was said."""
        chunks = self.generate_streaming(
            text,
            speaker,
            context,
            max_audio_length_ms=max_audio_length_ms,
            temperature=temperature,
            topk=topk,
            seed=seed,
            guards=guards,
            raw_text=raw_text,
        )
        with chunks:
            return torch.cat([torch.zeros(0), *chunks])

    def generate_streaming_batch(
        self, requests: Iterable[Request], chunk_frames: int | Sequence[int] = 6
    ) -> SpeechBatch:
        """Speak several utterances at once, for throughput; in float32 each sounds as it does alone.

        Args:
            requests: made by `request`, each with its own text, context, sampling, limit, guards and seed.
            chunk_frames: as for `generate_streaming`, of every row.

        Yields:
            ``(row, chunk)``, a row being a place among ``requests``. Rows that have ended cost nothing more.

        Raises:
            InputError: no requests, or something else among them; at the call.
            ContextOverflowError: as `frames`.
        """
        schedule = chunk_schedule(chunk_frames)
        several = list(requests) if isinstance(requests, Iterable) else [requests]
        strangers = [type(item).__name__ for item in several if not isinstance(item, Request)]
        if strangers or not several or several[0] is requests:
            given = f"a {strangers[0]} among the requests" if strangers else "no list of requests"
            raise InputError(f"{given}: give a list made by generator.request(text, ...)")
        return SpeechBatch(self.speak_batch(several, schedule))

    def warm_up(self, context: Sequence[Segment] = ()) -> None:
        """Speak two frames into the void, so that the first real call meets allocated memory and chosen kernels.

        A context that later calls begin with, such as a voice prompt, is encoded and read here and not again.

        Raises:
            ContextOverflowError: such a context leaves no room to speak.
        """
        reason = self.finish_reason
        request = self.fit(
            self.request("Hello.", context=context, max_audio_length_ms=160, seed=0, guards=None), n_lead=len(context)
        )
        for _ in range(self.n_warm_ups):
            for _ in self.speak(request, (1,)):
                pass
        self.finish_reason = reason

    def _stream(self, request: Request, frames: Frames, outcome: Outcome) -> FrameStream:
        """The stream of a request's frames, under its guards."""

        def note(reason: str) -> None:
            self.finish_reason = reason

        return FrameStream(frames, outcome, Watch(request.guards, request.text), note)


def new_outcome(request: Request) -> Outcome:
    """The outcome of a request that starts, with the seed it asks for or a new one."""
    return Outcome(torch.Generator().seed() % 2**63 if request.seed is None else request.seed)


class FakeGenerator(SpeechGenerator):
    """A generator without a model: two frames a word, codes from the text and the seed, sound from its codec.

    Args:
        codec: None for a `FakeCodec`.
        frame_s: seconds every frame takes, to play a slow machine.
        fails_after: frames after which it raises, to play a broken one; None never.
    """

    def __init__(self, codec: Codec | None = None, *, frame_s: float = 0.0, fails_after: int | None = None) -> None:
        super().__init__(plugins.load("codec", "fake")() if codec is None else codec, Sampling())
        self.frame_s, self.fails_after = frame_s, fails_after
        self.requests: list[Request] = []

    def run_batch(self, requests: Sequence[Request]) -> list[FrameStream]:
        """Start requests and remember them in ``requests``."""
        self.requests += requests
        outcomes = [new_outcome(request) for request in requests]
        pairs = zip(requests, outcomes, strict=True)
        return [self._stream(request, self._generate(request, outcome), outcome) for request, outcome in pairs]

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        """The request itself: a fake has room for any context."""
        return request

    def _generate(self, request: Request, outcome: Outcome) -> FrameGenerator[Tensor, None, None]:
        n_said = 2 * len(request.text.split())
        letters = torch.tensor(list(request.text.encode()))
        rows = torch.arange(1, self.codec.n_codebooks + 1)
        for index in range(min(n_said, request.max_frames)):
            if index == self.fails_after:
                raise DeviceError(f"the fake generator was told to fail after {index} frames")
            time.sleep(self.frame_s)
            # The index sees to it that words said again do not look like a voice that is stuck.
            pitch = int(letters[index % len(letters)]) * 7 + 13 * index + 101 * request.speaker + outcome.seed
            yield 1 + (pitch * rows) % (self.codec.codebook_size - 1)  # never 0, which would be the end
        outcome.finish_reason = END_OF_SPEECH if n_said <= request.max_frames else MAX_LENGTH
