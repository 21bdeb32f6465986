"""The state that all routes of a server share: models, admission, counters and threads."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from csmkit.serve.admission import Admission
from csmkit.serve.errors import RequestError
from csmkit.serve.metrics import Metrics
from csmkit.serve.models import Load, ServedModels
from csmkit.serve.settings import ServeOptions

log = logging.getLogger(__name__)


class Service:
    """The state of one server. Made anywhere, used in the server's event loop.

    Args:
        options: say where it listens and whom it answers.
        models: warm ones, which are not closed, or a function that loads them, called in a thread when the server
            starts.

    Attributes:
        metrics: what is counted.
        admission: decides who may start.
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
        """Load the models; requests are refused until they are there. An error is kept in ``error``."""
        try:
            given = self._given
            self._models = given if isinstance(given, ServedModels) else await asyncio.to_thread(given)
        except Exception as error:  # the loading thread's top frame: the server ends and reports the error
            self.error = error
            raise

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

    def gauges(self) -> dict[str, float]:
        """The present values of the gauges in `/metrics`."""
        admission = self.admission
        return {
            "csmkit_streams": admission.n_active,
            "csmkit_waiting": admission.n_waiting,
            "csmkit_sessions": admission.n_sessions,
            "csmkit_ready": float(self.ready),
        }
