"""One generator for many listeners: streams join and leave while others speak.

with SharedGenerator(Generator.load("pocket"), n_streams=16) as shared:
    for chunk in shared.generate_streaming("Hello there."):  # from any number of threads
        ...
"""

from __future__ import annotations

from collections.abc import Sequence

from csmkit.checks import check_integer, check_number
from csmkit.closing import Closing
from csmkit.codec import Codec
from csmkit.speech.base import SpeechGenerator, seeded
from csmkit.speech.scheduler import FrameMaker, Limits, ScheduledUtterance, Scheduler
from csmkit.speech.settings import Request, Segment


class SharedGenerator(Closing, SpeechGenerator):
    """A generator whose streams share every pass of the model, from any number of threads.

    One thread, ``csmkit-speech``, makes all frames. A request joins at the next frame, its prompt is read in pieces
    between frames, and in float32 its codes are those that it has alone, whichever streams join or leave. The stream
    that needs sound soonest is served first: one that has none yet, then the one with the least in hand.

    Each call returns an ordinary stream at once; reading it blocks its own thread only. Frames are made ahead of a slow
    reader up to ``ahead_ms``; then it is left out of the passes until half of that was read. ``close`` of a stream does
    not block, and gives its place back within a frame, as does dropping the stream. An error ends the streams that it
    concerns, and is raised where they are read; the others continue.

    Args:
        generator: makes the frames. It may also be used alone. It keeps the cache rows of as many prompts as streams
            may speak, so that each conversation continues from its own.
        n_streams: number of streams that speak at once, at least 1.
        n_waiting: number of streams that wait until one of those has ended, at least 0. More are refused at the call
            with `csmkit.errors.CapacityError`.
        ahead_ms: milliseconds of sound that are made before a listener needs them, at least 160.

    Attributes:
        generator: the generator that makes the frames.

    Raises:
        InputError: a value outside these ranges.
    """

    def __init__(
        self, generator: SpeechGenerator, n_streams: int = 16, n_waiting: int = 16, ahead_ms: float = 2_000
    ) -> None:
        check_integer("n_streams", n_streams)
        check_integer("n_waiting", n_waiting, 0)
        check_number("ahead_ms", ahead_ms, 160)
        super().__init__(generator.codec, generator.sampling)
        self.generator = generator
        self.abilities, self.n_warm_ups = generator.abilities, generator.n_warm_ups
        generator.keep_prompts(n_streams)
        self._limits = Limits(n_streams, n_waiting, ahead_ms / 1000)
        self._scheduler = Scheduler(generator.new_batch(generator.codec), self._limits)
        self._scheduler.start_thread()

    @property
    def device(self) -> str:
        return self.generator.device

    @property
    def n_speaking(self) -> int:
        """Number of streams that speak now."""
        return min(self._scheduler.n_streams, self._limits.n_streams)

    @property
    def n_waiting(self) -> int:
        """Number of streams that wait for one of them to end."""
        return max(0, self._scheduler.n_streams - self._limits.n_streams)

    def new_batch(self, codec: Codec | None) -> FrameMaker:
        return self.generator.new_batch(codec)

    def start(
        self, requests: Sequence[Request], schedules: Sequence[Sequence[int]], codec: Codec | None
    ) -> list[ScheduledUtterance]:
        """As `SpeechGenerator.start`; with the generator's codec, or None, they share the passes of all others.

        Raises:
            CapacityError: as many streams speak and wait as may.
            StateError: it is closed.
        """
        if codec is not None and codec is not self.codec:
            return self.generator.start(requests, schedules, codec)
        return self._scheduler.start(seeded(requests), schedules, codec is not None)

    def fit(self, request: Request, n_lead: int = 0) -> Request:
        return self.generator.fit(request, n_lead)

    def warm_up(self, context: Sequence[Segment] = (), n_streams: int = 1) -> None:
        """Warm the generator up for all streams that may speak at once, or for more."""
        self.generator.warm_up(context, max(n_streams, self._limits.n_streams))

    def close(self) -> None:
        """End all streams, which then are "interrupted", and the thread; more than once."""
        self._scheduler.close_all()
