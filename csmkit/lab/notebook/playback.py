"""One answer on its way to a listener: read from its source in a thread, handed on chunk by chunk, stopped at once."""

from __future__ import annotations

import atexit
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from csmkit.audio import SAMPLE_RATE, as_mono
from csmkit.errors import InputError
from csmkit.timing import Arrivals

if TYPE_CHECKING:
    from csmkit.audio import Waveform
    from csmkit.chat.events import Event

    Source = Iterable[Waveform | Event] | Waveform

LEAVE_S = 20.0  # at the end of the program a chunk being made is waited for; a thread inside torch cannot be cut off


class Playback:
    """The chunks of one answer, from a source or pushed one by one.

    Args:
        deliver: takes each chunk, ``(samples,)`` float32 at 24 kHz; called in the thread that has the chunk.
        on_stop: called once, by the thread that stops.

    Attributes:
        chunks: what was delivered.
        sent: when, in seconds since this object was made.
        error: what the source raised, or None.
    """

    def __init__(self, deliver: Callable[[np.ndarray], None], on_stop: Callable[[], object] | None = None) -> None:
        self.chunks: list[np.ndarray] = []
        self.sent = Arrivals()
        self.error: BaseException | None = None
        self._deliver, self._on_stop = deliver, on_stop
        self._started_s = perf_counter()
        self._stopped, self._done = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._items: Iterator[Waveform | Event] | None = None  # None where chunks are pushed
        self._thread: threading.Thread | None = None

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before its end."""
        return self._stopped.is_set()

    @property
    def done(self) -> bool:
        """Whether nothing more will be delivered, and the source is closed."""
        return self._done.is_set()

    @property
    def age_s(self) -> float:
        """Seconds since this object was made: the clock of ``sent``."""
        return perf_counter() - self._started_s

    @property
    def sounds_s(self) -> float:
        """When the sound ends that is played as it was sent, by the same clock; 0 without any."""
        starts = self.sent.starts_s()
        return starts[-1] + self.sent.durations_s[-1] if starts else 0.0

    @property
    def audio(self) -> np.ndarray:
        """What was delivered so far, ``(samples,)`` float32."""
        return np.concatenate([np.zeros(0, np.float32), *self.chunks])

    def start(
        self,
        items: Iterator[Waveform | Event],
        on_event: Callable[[Event], object] | None,
        then: Callable[[], None],
    ) -> None:
        """Read chunks and events in a thread; returns at once.

        Args:
            items: chunks and events, as `items_of` returns them.
            on_event: takes each event, in the thread.
            then: called in the thread when all is delivered, stopped or failed.
        """
        self._items = items

        def read() -> None:
            atexit.register(self._leave)
            self._read(items, on_event)
            atexit.unregister(self._leave)
            then()

        self._thread = threading.Thread(target=read, name="csmkit-player", daemon=True)
        self._thread.start()

    def send(self, chunk: Waveform) -> bool:
        """Deliver a chunk of any length; False, and nothing delivered, once it was stopped or has ended.

        Raises:
            InputError: not a waveform, see `csmkit.audio.as_mono`.
        """
        samples = as_mono(chunk)
        if self.stopped or self.done:
            return False
        if len(samples):
            self.chunks.append(samples.copy())  # the caller may reuse its memory
            self.sent.add(self.age_s, len(samples) / SAMPLE_RATE)
            self._deliver(self.chunks[-1])
        return True

    def end(self) -> None:
        """Say that nothing more is sent."""
        self._done.set()

    def stop(self) -> None:
        """Stop, from any thread; again and after the end it does nothing.

        A generator can only be closed by the thread that reads it, which does so before its next chunk. Streams of the
        package may be closed from here and end within a frame.
        """
        with self._lock:
            if self.stopped or self.done:
                return
            self._stopped.set()
        try:
            if self._on_stop is not None:
                self._on_stop()
        finally:
            if self._items is None:
                self.end()
            elif not inspect.isgenerator(self._items):
                _close(self._items)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is delivered, at most ``timeout`` seconds; whether it is."""
        return self._done.wait(timeout)

    def _read(self, items: Iterator[Waveform | Event], on_event: Callable[[Event], object] | None) -> None:
        try:
            try:
                for item in items:
                    if self.stopped or not self._take(item, on_event):
                        break
            finally:
                _close(items)
        except BaseException as error:  # the thread's top frame: kept for the caller, to whom `Player.wait` raises it
            self.error = error
        finally:
            self.end()

    def _take(self, item: Any, on_event: Callable[[Event], object] | None) -> bool:
        if not isinstance(item, dict):
            return self.send(item)
        taken = self.send(item["data"]) if item.get("type") == "audio_chunk" else True
        if on_event is not None:
            on_event(item)
        return taken

    def _leave(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(LEAVE_S)


def items_of(source: Source) -> Iterator[Any]:
    """Chunks and events one by one; a whole waveform is one chunk. Raises InputError for what cannot be played."""
    if hasattr(source, "ndim"):
        return iter([source])
    if isinstance(source, str | bytes | dict) or not isinstance(source, Iterable):
        kinds = "chunks of samples, a chatbot's events, or one array of samples"
        raise InputError(f"cannot play a {type(source).__name__}: give an iterable of {kinds}")
    return iter(source)


def _close(items: Iterator[Any]) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()
