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
    """The chunks of one answer, read from their source in a thread.

    Args:
        deliver: takes each chunk, ``(samples,)`` float32 at 24 kHz, in the thread.
        on_stop: called once, by the thread that stops.

    Attributes:
        sent: when, in seconds since this object was made.
        error: what the source raised, or None.
    """

    def __init__(
        self,
        items: Iterator[Waveform | Event],
        deliver: Callable[[np.ndarray], None],
        on_event: Callable[[Event], object],
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        self.chunks: list[np.ndarray] = []
        self.sent = Arrivals()
        self.error: BaseException | None = None
        self._items, self._deliver, self._on_event, self._on_stop = items, deliver, on_event, on_stop
        self._started_s = perf_counter()
        self._stopped, self._done = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before its end."""
        return self._stopped.is_set()

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

    def start(self, then: Callable[[], None]) -> None:
        """Read in a thread, which calls ``then`` when all is delivered, stopped or failed; returns at once."""
        self._thread = threading.Thread(target=self._run, args=[then], name="csmkit-player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, from any thread; again and after the end it does nothing.

        A generator can only be closed by the thread that reads it, which does so before its next chunk. Streams of the
        package may be closed from here and end within a frame.
        """
        with self._lock:
            if self.stopped or self._done.is_set():
                return
            self._stopped.set()
        try:
            if self._on_stop is not None:
                self._on_stop()
        finally:
            if not inspect.isgenerator(self._items):
                _close(self._items)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is delivered, at most ``timeout`` seconds; whether it is."""
        return self._done.wait(timeout)

    def _run(self, then: Callable[[], None]) -> None:
        atexit.register(self._leave)
        try:
            self._read()
        except BaseException as error:  # the thread's top frame: kept for the caller, to whom `Player.wait` raises it
            self.error = error
        finally:
            self._done.set()
        atexit.unregister(self._leave)
        then()

    def _read(self) -> None:
        try:
            for item in self._items:
                if self.stopped:
                    break
                if not isinstance(item, dict):
                    self._send(item)
                    continue
                if item.get("type") == "audio_chunk":
                    self._send(item["data"])
                self._on_event(item)
        finally:
            _close(self._items)

    def _send(self, chunk: Waveform) -> None:
        samples = as_mono(chunk)
        if len(samples):
            self.chunks.append(samples.copy())  # the source may reuse its memory
            self.sent.add(self.age_s, len(samples) / SAMPLE_RATE)
            self._deliver(self.chunks[-1])

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
