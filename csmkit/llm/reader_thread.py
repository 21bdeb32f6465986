"""Reading ahead: the language model writes in a thread of its own while its first words are spoken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from time import perf_counter

from csmkit.errors import DeviceMemoryError, LanguageModelError


class ReadAhead:
    """Runs a stream of text pieces in one thread, a bounded number of them ahead of the reader.

    Args:
        start: gives the stream; called in the thread.
        depth: pieces that may wait for the reader; then the stream waits.
        clock: seconds.

    Attributes:
        started_at: when the stream was started, by the clock.
        first_at: when the first piece came; None before.
        ended_at: when the stream ended; None before.
    """

    def __init__(
        self,
        start: Callable[[], Generator[str, None, None]],
        depth: int = 256,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.started_at = clock()
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self._start = start
        self._clock = clock
        self._depth = depth
        self._pieces: deque[str] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="csmkit-llm", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether nothing more will come, not even an error: all was taken, or the stream was closed."""
        with self._changed:
            return self._closed or (self.ended_at is not None and not self._pieces and self._error is None)

    def take(self, timeout: float | None) -> list[str]:
        """Take the pieces that are there.

        Args:
            timeout: seconds to wait for the first one; None for as long as the stream goes on, 0 not at all.

        Raises:
            LanguageModelError: the stream failed, after the pieces before it were taken; the cause is its error.
            DeviceMemoryError: it failed for want of memory.
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
        """Stop the stream before its next piece and wait for that, at most ``timeout`` seconds. From any thread."""
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
        except BaseException as failure:  # the thread's top frame: the reader gets it as a cause
            error = failure
        with self._changed:
            self._error = error
            self.ended_at = self._clock()
            self._changed.notify_all()

    def _put(self, piece: str) -> bool:
        with self._changed:
            self.first_at = self.first_at or self._clock()
            self._changed.wait_for(lambda: self._closed or len(self._pieces) < self._depth)
            if not self._closed:
                self._pieces.append(piece)
                self._changed.notify_all()
            return not self._closed
