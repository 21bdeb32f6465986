"""What a generation hands out while it runs: frames of codes, chunks of sound, and why it ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor

from csmkit.codec import CodecStream
from csmkit.errors import DeviceMemoryError, InputError, NotFiniteError
from csmkit.speech.finish_reasons import INTERRUPTED, SILENCE
from csmkit.speech.guard_monitor import Watch


class Frames(Protocol):
    """Frames being made, ``(n_codebooks,)`` int64 on the CPU; closing them frees what they hold."""

    def __next__(self) -> Tensor: ...

    def close(self) -> None: ...


@dataclass
class Outcome:
    """How a generation went.

    Attributes:
        seed: of its noise; give it again to hear the same.
        finish_reason: one of `csmkit.speech.finish_reasons`; None while it runs.
        frames: what it yielded, ``(n_codebooks,)`` int64 each.
    """

    seed: int
    finish_reason: str | None = None
    frames: list[Tensor] = field(default_factory=list)


class FrameStream(Iterator[Tensor]):
    """The frames of one generation, ``(n_codebooks,)`` int64 on the CPU; the first comes when the prompt was read.

    Closing it frees the generation's state at once. `close` may be called from any thread: it waits for the frame being
    made, no longer. A frame that its guards do not let go on is the last one, and the state is freed with it.

    Args:
        frames: the generation; closing it frees what it holds.
        outcome: which the generation fills.
        watch: the guards; silence is only found where somebody lets them hear.
        on_finish: told the reason when it is known, once.
    """

    def __init__(self, frames: Frames, outcome: Outcome, watch: Watch, on_finish: Callable[[str], None]) -> None:
        self.watch = watch
        self._frames: Frames | None = frames
        self._outcome, self._on_finish = outcome, on_finish
        self._lock = threading.RLock()

    @property
    def finish_reason(self) -> str | None:
        """Why it ended; None while it runs."""
        return self._outcome.finish_reason if self._frames is None else None

    @property
    def n_frames(self) -> int:
        """Frames yielded so far."""
        return len(self._outcome.frames)

    @property
    def seed(self) -> int:
        """The seed of its noise, also where none was given."""
        return self._outcome.seed

    @property
    def codes(self) -> Tensor:
        """The frames yielded so far, ``(n_codebooks, n_frames)`` int64."""
        frames = self._outcome.frames
        return torch.stack(frames, dim=1) if frames else torch.zeros(0, 0, dtype=torch.int64)

    def __next__(self) -> Tensor:
        with self._lock:
            if self._frames is None:
                raise StopIteration
            frame: Tensor | None = None
            try:
                frame = next(self._frames)
            except torch.OutOfMemoryError as error:
                raise DeviceMemoryError.during("making a frame", error) from error
            finally:
                if frame is None:  # the end, an error and Ctrl-C alike: nothing more comes
                    self.close()
            self._outcome.frames.append(frame)
            reason = self.watch.see(frame)
            if reason is not None:
                self.close(reason)
            return frame

    def close(self, reason: str = INTERRUPTED, n_dropped: int = 0) -> None:
        """Stop and free; again and after the end it does nothing. Blocks for at most one frame.

        Args:
            reason: why, unless the generation has given one itself.
            n_dropped: of the last frames, those that count as never made.
        """
        with self._lock:
            if self._frames is None:
                return
            self._frames.close()
            self._frames = None
            if n_dropped:
                del self._outcome.frames[-n_dropped:]
            self._outcome.finish_reason = self._outcome.finish_reason or reason
            self._on_finish(self._outcome.finish_reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class SpeechStream(Iterator[Tensor]):
    """The sound of one generation in chunks, 1-D float32 on the CPU at 24 kHz; the last may be shorter.

    The codec is called once a frame and the samples are grouped here, so the chunk size cannot change them. A long
    silence is kept back until it proves to be a pause, see `Guards.tail_ms`; one that does not is neither sound nor
    codes of this stream.

    Args:
        frames: of the generation.
        decoder: a new stream of its codec.
        schedule: frames of each chunk; the last number repeats.

    Attributes:
        frame_spans: from when to when each frame and its sound were made, by `time.perf_counter`; the first with the
            reading of the prompt.
    """

    def __init__(self, frames: FrameStream, decoder: CodecStream, schedule: Sequence[int]) -> None:
        self._frames, self._schedule = frames, schedule
        self._decoder: CodecStream | None = decoder
        self._ready: deque[Tensor] = deque()  # (1920,) each
        self._n_chunks = 0
        self.frame_spans: list[tuple[float, float]] = []

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, one of `csmkit.speech.finish_reasons`; None while it runs."""
        return self._frames.finish_reason

    @property
    def has_spoken(self) -> bool:
        """Whether there was anything but silence so far."""
        return self._frames.watch.has_spoken

    @property
    def n_frames(self) -> int:
        """Frames made so far, 80 ms each."""
        return self._frames.n_frames

    @property
    def seed(self) -> int:
        """The seed of its noise, also where none was given."""
        return self._frames.seed

    @property
    def codes(self) -> Tensor:
        """The codes made so far, ``(n_codebooks, n_frames)`` int64: a `Segment` can carry them instead of the sound."""
        return self._frames.codes

    def __next__(self) -> Tensor:
        wanted = self._schedule[min(self._n_chunks, len(self._schedule) - 1)]
        samples: list[Tensor] = []
        complete = False
        try:
            while len(samples) < wanted and (sound := self._next_sound()) is not None:
                samples.append(sound)
            complete = bool(samples) and self._decoder is not None  # another thread may have closed it meanwhile
        finally:
            if not complete:
                self.close()
        if not complete:
            raise StopIteration
        self._n_chunks += 1
        return torch.cat(samples)

    def _next_sound(self) -> Tensor | None:
        """The samples of the next frame to hand out; None at the end."""
        ready, watch = self._ready, self._frames.watch  # `close` may replace the one while this thread fills it
        while not ready and (decoder := self._decoder) is not None:
            started = perf_counter()
            frame = next(self._frames, None)
            if frame is None:
                ready.extend(watch.release())
                break
            try:
                sound = decoder.decode(frame.unsqueeze(1))
            except torch.OutOfMemoryError as error:
                raise DeviceMemoryError.during("decoding a frame", error) from error
            if not bool(sound.isfinite().all()):
                raise NotFiniteError.in_frame(self.n_frames, "sound", "of the codec")
            ready.extend(watch.hear(sound))
            self.frame_spans.append((started, perf_counter()))
            if watch.too_silent and self._frames.finish_reason is None:
                self._frames.close(SILENCE, n_dropped=len(watch.release()))
        return ready.popleft() if ready else None

    def stop_soon(self) -> None:
        """Let whoever reads find the end after the frame being made; never blocks, also within a signal handler."""
        self._decoder = None

    def close(self) -> None:
        """Stop and free; from any thread, more than once. Blocks for at most one frame."""
        self._decoder = None
        self._ready = deque()
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def chunk_schedule(chunk_frames: int | Sequence[int]) -> tuple[int, ...]:
    """Check ``chunk_frames``: an integer of at least 1, or several, such as ``(1, 2, 4, 6)``.

    Raises:
        InputError: anything else.
    """
    sizes = tuple(chunk_frames) if isinstance(chunk_frames, Sequence) else (chunk_frames,)
    if not sizes or any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
        raise InputError(
            f"chunk_frames={chunk_frames!r}: give a number of frames of at least 1 (6 are 0.48 s), "
            "or a schedule such as (1, 2, 4, 6)"
        )
    return sizes
