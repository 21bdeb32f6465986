"""Reads the language model in a separate thread, while its first words are already spoken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from time import perf_counter

from csmkit.errors import DeviceMemoryError, LanguageModelError

DEPTH = 256  # largest number of waiting pieces


class ReaderThread:
    """Reads a stream of text pieces in a thread; while `DEPTH` pieces wait, the stream pauses.

    Args:
        start: returns the stream; called in the thread.
        clock: returns the present time in seconds.

    Attributes:
        started_at: time when the stream was started.
        first_at: time of the first piece; None before.
        ended_at: time when the stream ended; None before.
    """

    def __init__(
        self, start: Callable[[], Generator[str, None, None]], clock: Callable[[], float] = perf_counter
    ) -> None:
        self.started_at = clock()
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self._start = start
        self._clock = clock
        self._pieces: deque[str] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="csmkit-llm", daemon=True)
        self._thread.start()

    @property
    def exhausted(self) -> bool:
        """Whether the stream ended by itself, without an error, and every piece was taken."""
        with self._changed:
            ended = self.ended_at is not None and self._error is None
            return ended and not self._pieces and not self._closed

    def take(self, timeout: float | None) -> list[str]:
        """Return the waiting pieces, and remove them.

        Args:
            timeout: seconds to wait for the first piece; 0 does not wait, None waits until there is one or the stream
                ends.

        Raises:
            LanguageModelError: the stream failed, and all pieces before were returned; the cause is its error.
            DeviceMemoryError: the stream failed because the device is out of memory.
        """
        with self._changed:
            if timeout is None or timeout > 0:
                self._changed.wait_for(lambda: self._pieces or self._closed or self.ended_at is not None, timeout)
            pieces = list(self._pieces)
            self._pieces.clear()
            self._changed.notify_all()
            error = self._error
        if error is not None and not pieces and not self._closed:
            if isinstance(error, DeviceMemoryError):
                raise error
            raise LanguageModelError(f"the language model failed while answering: {error}") from error
        return pieces

    def close(self, timeout: float | None = 0) -> None:
        """Stop the stream before its next piece, and wait at most ``timeout`` seconds for it; from any thread."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with closing(self._start()) as stream:
                for piece in stream:
                    if not self._put(piece):
                        break
        except BaseException as failure:  # the thread's top frame: `take` raises it as a cause
            error = failure
        with self._changed:
            self._error = error
            self.ended_at = self._clock()
            self._changed.notify_all()

    def _put(self, piece: str) -> bool:
        with self._changed:
            self.first_at = self.first_at or self._clock()
            self._changed.wait_for(lambda: self._closed or len(self._pieces) < DEPTH)
            if not self._closed:
                self._pieces.append(piece)
                self._changed.notify_all()
            return not self._closed
