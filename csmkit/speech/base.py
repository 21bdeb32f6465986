"""What every generator of speech shares, and one without a model for tests."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator as FrameGenerator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import csmkit.plugins as plugins
from csmkit.codec import Codec, CodecStream
from csmkit.csm.config import Sampling
from csmkit.errors import DeviceError, InputError
from csmkit.machine import out_of_memory
from csmkit.speech.abilities import Abilities
from csmkit.speech.batch import SpeechBatch
from csmkit.speech.frames import END_OF_SPEECH, INTERRUPTED, End, Frame
from csmkit.speech.guards import Guards
from csmkit.speech.long_text import Page, Speech, speak_text
from csmkit.speech.scheduler import FrameMaker, ScheduledUtterance, Scheduler
from csmkit.speech.settings import Request, Segment, SpeechSettings, chunk_schedule
from csmkit.speech.streams import FrameStream, SpeechStream


class SpeechGenerator(ABC):
    """What every generator shares: requests, streams and whole audio on top of the frames that a subclass makes.

    Args:
        codec: turns codes into sound and sound into codes.
        sampling: how codes are drawn where a call does not say.

    Attributes:
        abilities: what the checkpoint can do, such as the longest text of one generation.
        n_warm_ups: number of utterances to generate before timings are representative.
        device: where the model runs, such as "cpu" or "cuda:0".
    """

    def __init__(self, codec: Codec, sampling: Sampling) -> None:
        self.codec, self.sampling = codec, sampling
        self.abilities = Abilities()
        self.n_warm_ups = 1

    @property
    def device(self) -> str:
        return "cpu"

    def request(
        self, text: str, speaker: int = SpeechSettings.speaker, context: Sequence[Segment] = (), **settings: Any
    ) -> Request:
        """Build a request, with this checkpoint's sampling where nothing else is asked for.

        Args:
            text: the text to speak.
            speaker: a non-negative integer that the model was trained with.
            context: earlier turns, oldest first.
            settings: fields of `SpeechSettings`.

        Raises:
            InputError: a value that cannot be used.
        """
        asked = SpeechSettings(speaker=speaker, **settings)
        self.abilities.check_speaker(speaker)
        return asked.as_request(text, context, self.sampling)

    @abstractmethod
    def new_batch(self, codec: Codec | None) -> FrameMaker:
        """Make what computes the frames of utterances that share their passes.

        Args:
            codec: decodes the frames; None for codes alone.
        """

    @abstractmethod
    def fit(self, request: Request, n_lead: int = 0) -> Request:
        """The request without the oldest segments that leave no room; whole segments go, never parts.

        Args:
            request: a request whose prompt may be of any length.
            n_lead: number of segments at the head of its context, such as a speaker prompt, that stay in any case.

        Raises:
            ContextOverflowError: the text and those segments are too long.
        """

    def keep_prompts(self, n_prompts: int) -> None:  # noqa: B027
        """Keep what was read of so many of the last prompts, so that it is not read again; 1 unless this is called.

        A prompt of CSM-1B's 2 048 positions takes 67 MB in bfloat16.
        """

    def read_ahead(self, context: Sequence[Segment]) -> Iterator[None]:
        """Read a context while the text that will follow it is being written, so that its speech begins sooner.

        What was read is kept as for `keep_prompts`. A generator that cannot read ahead does nothing.

        Args:
            context: the beginning of the context of a later request, oldest segment first.

        Yields:
            After each piece of at most 64 rows; the caller may stop at any of them.
        """
        return iter(())

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        """Start requests that share every pass of the model; nothing is computed before a frame is taken.

        Args:
            requests: what is spoken.
            schedules: a schedule for each request: the number of frames of each chunk that its listener gets.
            codec: decodes the frames; None for codes alone.

        Raises:
            ContextOverflowError: prompt and answer exceed the positions of the model.
        """
        scheduler = Scheduler(self.new_batch(codec))
        return scheduler.start(seeded(requests), schedules, codec is not None)

    def run_batch(self, requests: Sequence[Request]) -> list[FrameStream]:
        """Start several requests that share their passes, as codes; raises as `start`."""
        return [FrameStream(utterance) for utterance in self.start(requests, [(1,)] * len(requests), None)]

    def run(self, request: Request) -> FrameStream:
        """Start a request, as codes: `frames` for a request that was built before."""
        (frames,) = self.run_batch([request])
        return frames

    def speak_batch(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None = None
    ) -> list[SpeechStream]:
        """Start several requests that share their passes, as sound; raises as `start`.

        Args:
            requests: what is spoken.
            schedules: a schedule for each request: the number of frames of each chunk; the last number repeats.
            codec: decodes in place of the generator's own.
        """
        utterances = self.start(requests, schedules, codec or self.codec)
        return [SpeechStream(utterance, schedule) for utterance, schedule in zip(utterances, schedules, strict=True)]

    def speak(self, request: Request, schedule: Sequence[int], codec: Codec | None = None) -> SpeechStream:
        """Start a request, as sound: `generate_streaming` for a request that was built before."""
        (stream,) = self.speak_batch([request], [schedule], codec)
        return stream

    def frames(
        self, text: str, speaker: int = SpeechSettings.speaker, context: Sequence[Segment] = (), **settings: Any
    ) -> FrameStream:
        """Speak, as codes; arguments as `generate_streaming`, of which ``chunk_frames`` changes nothing.

        Codes alone cannot tell a silence: that guard works in `generate_streaming` and `generate` only.

        Yields:
            ``(n_codebooks,)`` int64 on the CPU; nothing runs before the first is asked for. A frame on which a guard
            strikes is the last.

        Raises:
            InputError: an argument that cannot be used; at the call.
            ContextOverflowError: prompt and answer exceed the positions of the model; at the call.
        """
        return self.run(self.request(text, speaker, context, **settings))

    def generate_streaming(
        self,
        text: str,
        speaker: int = SpeechSettings.speaker,
        context: Sequence[Segment] = (),
        max_audio_length_ms: float | None = SpeechSettings.max_audio_length_ms,
        temperature: float | None = SpeechSettings.temperature,
        topk: int | None = SpeechSettings.topk,
        chunk_frames: int | Sequence[int] = SpeechSettings.chunk_frames,
        seed: int | None = SpeechSettings.seed,
        guards: Guards | None = SpeechSettings.guards,
        raw_text: bool = SpeechSettings.raw_text,
    ) -> Speech:
        """Speak, as chunks of sound.

        Numbers and signs are spoken in words. A text longer than the voice carries in one generation, see
        `csmkit.speech.abilities.Abilities`, is spoken in several, one after another, up to ``max_audio_length_ms``.

        Args:
            text: the text to speak.
            speaker: a non-negative integer that the model was trained with.
            context: earlier turns, oldest first.
            max_audio_length_ms: the longest sound, at least 80; None is 8 000.
            temperature: sampling temperature; 0 is greedy, None is the checkpoint's own (0.9).
            topk: number of most probable codes to sample from; None is the checkpoint's own (50).
            chunk_frames: frames of 80 ms a chunk, or a schedule such as ``(1, 2, 4, 6)`` whose last number repeats. It
                never changes the sound.
            seed: the same seed gives the same codes, whatever the chunk size and whatever was said before; in float32
                also in another execution mode and beside other streams. None draws one, which the stream tells.
            guards: limits that end speech which has run away; None for no limits.
            raw_text: pass the text to the model as it is, in one generation, as `frames` does.

        Yields:
            ``(samples,)`` float32 on the CPU at 24 kHz; the first as soon as its frames are made.

        Raises:
            InputError: an argument that cannot be used; at the call.
            ContextOverflowError: prompt and answer exceed the positions of the model; at the call.
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
        return speak_text(self, Page(request, raw=raw_text), chunk_schedule(chunk_frames))

    def generate(
        self, text: str, speaker: int = SpeechSettings.speaker, context: Sequence[Segment] = (), **settings: Any
    ) -> Tensor:
        """Speak, whole: the chunks of `generate_streaming` joined, ``(samples,)``; empty if no frame was made."""
        with self.generate_streaming(text, speaker, context, **settings) as chunks:
            return torch.cat([torch.zeros(0), *chunks])

    def generate_streaming_batch(
        self, requests: Iterable[Request], chunk_frames: int | Sequence[int] = SpeechSettings.chunk_frames
    ) -> SpeechBatch:
        """Speak several utterances at once, for throughput; in float32 each sounds as it does alone.

        Args:
            requests: made by `request`, each with its own text, context, sampling, limit, guards and seed.
            chunk_frames: frames of each chunk of every row, as for `generate_streaming`.

        Yields:
            ``(row, chunk)``; the row is the place among ``requests``. Rows that have ended cost nothing more.

        Raises:
            InputError: no requests, or something else among them; at the call.
            ContextOverflowError: prompt and answer exceed the positions of the model; at the call.
        """
        schedule = chunk_schedule(chunk_frames)
        several = list(requests) if isinstance(requests, Iterable) else [requests]
        strangers = [type(item).__name__ for item in several if not isinstance(item, Request)]
        if strangers or not several or several[0] is requests:
            given = f"a {strangers[0]} among the requests" if strangers else "no list of requests"
            raise InputError(f"{given}: give a list made by generator.request(text, ...)")
        return SpeechBatch(self.speak_batch(several, [schedule] * len(several)))

    def warm_up(self, context: Sequence[Segment] = (), n_streams: int = 1) -> None:
        """Make two frames and drop them, so that memory is allocated and kernels are chosen before the first real call.

        Args:
            context: turns that later calls begin with, such as a speaker prompt: they are encoded and read here and not
                again.
            n_streams: number of streams that may speak at once; on a GPU, frames of as many are recorded.

        Raises:
            ContextOverflowError: such a context leaves no room to speak.
        """
        request = self.request("Hello.", context=context, max_audio_length_ms=160, seed=0, guards=None)
        request = self.fit(request, n_lead=len(context))
        for _ in range(self.n_warm_ups):
            for _ in self.speak(request, (1,)):
                pass


def seeded(requests: Sequence[Request]) -> list[tuple[Request, int]]:
    """Requests that start, each with the seed it asks for or a new one."""
    return [
        (request, torch.Generator().seed() % 2**63 if request.seed is None else request.seed) for request in requests
    ]


class FakeGenerator(SpeechGenerator):
    """A generator without a model: two frames a word, codes from the text and the seed, sound from its codec.

    Args:
        codec: None for a `FakeCodec`.
        frame_s: seconds every frame takes, to play a slow machine.
        fails_after: number of frames after which it raises, to play a broken one; None never.

    Attributes:
        requests: all requests that were started.
    """

    def __init__(self, codec: Codec | None = None, *, frame_s: float = 0.0, fails_after: int | None = None) -> None:
        super().__init__(plugins.load("codec", "fake")() if codec is None else codec, Sampling())
        self.frame_s, self.fails_after = frame_s, fails_after
        self.requests: list[Request] = []

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        self.requests += requests
        return super().start(requests, schedules, codec)

    def new_batch(self, codec: Codec | None) -> FrameMaker:
        return FakeBatch(self, codec)

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        """The request itself: a fake has room for any context."""
        return request

    def codes_of(self, request: Request, seed: int) -> FrameGenerator[Tensor, None, None]:
        """Yield the codes of each frame, ``(n_codebooks,)``, up to the end of speech; a subclass may yield others."""
        letters = torch.tensor(list(request.text.encode()))
        rows = torch.arange(1, self.codec.n_codebooks + 1)
        for index in range(2 * len(request.text.split())):
            if index == self.fails_after:
                raise DeviceError(f"the fake generator was told to fail after {index} frames")
            time.sleep(self.frame_s)
            # The index makes repeated words differ, so that no guard takes them for a repetition.
            pitch = int(letters[index % len(letters)]) * 7 + 13 * index + 101 * request.speaker + seed
            yield 1 + (pitch * rows) % (self.codec.codebook_size - 1)  # never 0, which would be the end


FakeRow = tuple[FrameGenerator[Tensor, None, None], CodecStream | None]  # the codes of an utterance, and its sound


class FakeBatch:
    """Makes the frames of a `FakeGenerator`, each row on its own."""

    def __init__(self, generator: FakeGenerator, codec: Codec | None) -> None:
        self._generator, self._codec = generator, codec

    def open(self, request: Request, seed: int) -> FakeRow:
        return self._generator.codes_of(request, seed), None if self._codec is None else self._codec.stream()

    def prepare(self, row: FakeRow) -> bool:
        return True

    def make(self, rows: Sequence[FakeRow]) -> list[Frame | End]:
        return [self._next(*row) for row in rows]

    def close(self, rows: Iterable[FakeRow]) -> None:
        for codes, _ in rows:
            codes.close()

    def _next(self, frames: Iterator[Tensor], sound: CodecStream | None) -> Frame | End:
        began_s = time.perf_counter()
        try:
            with out_of_memory("decoding a frame"):
                codes = next(frames, None)
                if codes is None:
                    return End(END_OF_SPEECH)
                decoded = None if sound is None else sound.decode(codes.unsqueeze(1))
        except Exception as error:
            return End(INTERRUPTED, error)
        return Frame(codes, decoded, (began_s, time.perf_counter()))
