"""Admission of requests: which start, which wait, and which are refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

from csmkit.serve.errors import RequestError
from csmkit.serve.settings import Limits

FIRST_GUESS_S = 2.0  # assumed duration of an utterance before any was timed
LONGEST_RETRY_S = 60


class Admission:
    """Counts the work in progress; used in one event loop.

    Attributes:
        n_active: utterances and answers being generated.
        n_waiting: requests that wait for their turn.
        n_sessions: number of open conversations.
        n_other: requests that need no stream, such as transcriptions.
        draining: no new work is taken.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(limits.max_streams)  # first come, first served
        self._usual_s = FIRST_GUESS_S
        self.n_active = self.n_waiting = self.n_sessions = self.n_other = 0
        self.draining = False

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress; open conversations that are silent do not count."""
        return not (self.n_active or self.n_waiting or self.n_other)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[None]:
        """Hold one of the streams; waits for it in a bounded queue.

        Raises:
            RequestError: 429 where the queue is full or the wait is too long, 503 while draining.
        """
        self.check_open()
        if self._free.locked() and self.n_waiting >= self._limits.max_waiting:
            raise self._full()
        self.n_waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._full() from None
        finally:
            self.n_waiting -= 1
        self.n_active += 1
        started = monotonic()
        try:
            yield
        finally:
            self._usual_s += 0.2 * (monotonic() - started - self._usual_s)
            self.n_active -= 1
            self._free.release()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold a conversation; raises RequestError, 429 where there are too many, 503 while draining."""
        self.check_open()
        if self.n_sessions >= self._limits.max_sessions:
            raise RequestError(429, "all conversations are taken: ask again later", "busy", None, 5)
        self.n_sessions += 1
        try:
            yield
        finally:
            self.n_sessions -= 1

    @contextmanager
    def other(self) -> Iterator[None]:
        """Count a request that needs no stream; errors as `session`."""
        self.check_open()
        if self.n_other >= self._limits.max_streams + self._limits.max_waiting:
            raise self._full()
        self.n_other += 1
        try:
            yield
        finally:
            self.n_other -= 1

    def check_open(self) -> None:
        """Raise RequestError, 503, while draining."""
        if self.draining:
            raise RequestError(503, "the server is shutting down: ask another one, or again later", "draining", None, 5)

    def _full(self) -> RequestError:
        rounds = (self.n_waiting + 1) / self._limits.max_streams
        seconds = min(LONGEST_RETRY_S, max(1, math.ceil(self._usual_s * rounds)))
        return RequestError(429, f"all streams are taken: ask again in {seconds} s", "busy", None, seconds)
