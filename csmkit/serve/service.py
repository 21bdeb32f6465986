"""The state that all routes share: models, counters, threads, and which requests start, wait or are refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

from csmkit.serve.errors import RequestError
from csmkit.serve.metrics import Metrics
from csmkit.serve.models import Load, ServedModels
from csmkit.serve.settings import Limits, ServeOptions

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


class Service:
    """The state of one server. Made anywhere, used in the server's event loop.

    Args:
        options: say where it listens and whom it answers.
        models: warm ones, which are not closed, or a function that loads them, called in a thread when the server
            starts.

    Attributes:
        metrics: what is counted.
        admission: decides who may start.
        error: why the models could not be loaded; None otherwise.
        threads: where speech is generated and sound is recognised: one for each utterance or request in progress.
    """

    def __init__(self, options: ServeOptions, models: ServedModels | Load) -> None:
        self.options, self.limits = options, options.limits
        self.metrics = Metrics()
        self.admission = Admission(options.limits)
        n_threads = 2 * options.limits.max_streams + options.limits.max_waiting
        self.threads = ThreadPoolExecutor(n_threads, thread_name_prefix="csmkit-serve")
        self.error: BaseException | None = None
        self._given = models
        self._models: ServedModels | None = None

    async def start(self) -> None:
        """Load the models; requests are refused until they are there. Raises what loading them does."""
        given = self._given
        self._models = given if isinstance(given, ServedModels) else await asyncio.to_thread(given)

    async def stop(self) -> None:
        """Close the models and end the threads."""
        models, self._models = self._models, None
        if models is not None and models is not self._given:
            await asyncio.to_thread(models.close)
        self.threads.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._models is not None and not self.admission.draining

    @property
    def models(self) -> ServedModels:
        """The models; raises RequestError, 503, while they are loading or the server drains."""
        self.admission.check_open()
        if self._models is None:
            raise RequestError(503, "the models are loading: ask again in a moment", "loading", None, 2)
        return self._models

    def count_request(self, route: str, status: int | str, code: str = "") -> None:
        """Count an answer by its status, and a refusal also by its ``code``."""
        self.metrics.count("csmkit_requests_total", route=route, status=str(status))
        if status in (429, 503):
            self.metrics.count("csmkit_refused_total", reason=code)

    def gauges(self) -> dict[str, float]:
        """The present values of the gauges in `/metrics`."""
        admission = self.admission
        return {
            "csmkit_streams": admission.n_active,
            "csmkit_waiting": admission.n_waiting,
            "csmkit_sessions": admission.n_sessions,
            "csmkit_ready": float(self.ready),
        }
