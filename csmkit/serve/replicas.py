"""The server as replicas on a Ray cluster, one machine or many: ``csmkit serve --engine ray``.

Each replica is a process with its own warm models, its own queue and its own limits. Ray Serve's proxy accepts the
connections and hands each to the replica with the fewest requests in progress. A connection stays with its replica, so
a conversation does too, and a replica that dies ends only the connections it holds; Ray starts another in its place.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from csmkit.checks import check_integer, check_number, check_positive, is_integer
from csmkit.closing import Closing
from csmkit.errors import InputError, StateError
from csmkit.plugins import library
from csmkit.serve.models import Load, ModelChoice
from csmkit.serve.settings import ServeOptions, url

log = logging.getLogger(__name__)

APPLICATION = "csmkit"
OTHER_REQUESTS = 16  # at once in a replica, beside streams and sessions, such as /health and transcriptions
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 5.0, 30.0
SCALING = {  # seconds; Ray's own 30 to start a replica are long for somebody who waits for a voice
    "metrics_interval_s": 1.0,
    "look_back_period_s": 3.0,
    "upscale_delay_s": 2.0,
    "downscale_delay_s": 120.0,
}
START_RETRIES = 3  # before a replica whose models cannot be loaded is given up


@dataclass(frozen=True)
class ReplicaOptions:
    """The number of replicas, and the resources of each.

    Attributes:
        replicas: number of replicas, or the least one where ``most_replicas`` is larger.
        most_replicas: largest number of replicas under load; None keeps the number constant.
        streams_a_replica: requests in progress, open conversations included, above which another replica is started.
        cpus: processors that Ray reserves for a replica, and threads of its models.
        gpus: GPUs that Ray reserves for a replica; a part of one is fine.
        address: address of the Ray cluster, such as ``auto``; None starts one on this machine, or joins the one that
            RAY_ADDRESS names.

    Raises:
        InputError: a value out of its range.
    """

    replicas: int = 1
    most_replicas: int | None = None
    streams_a_replica: float = 8.0
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        for name in ("replicas", "cpus"):
            check_integer(name, getattr(self, name))
        most = self.most_replicas
        if most is not None and not (is_integer(most) and most >= self.replicas):
            raise InputError(f"most_replicas={most!r}: give a whole number of at least replicas={self.replicas}")
        check_number("gpus", self.gpus, 0)
        check_positive("streams_a_replica", self.streams_a_replica)


@dataclass
class ReplicatedServer(Closing):
    """Replicas of the server behind the proxies of Ray Serve.

    The proxies listen on this machine where ``options.host`` is local, on every node of the cluster otherwise. They
    are Ray's: the limits of `Limits` on headers and on connections are not theirs, all others hold in each replica.

    Args:
        options: where the proxies listen and whom the replicas answer; the port has to be given.
        models: a choice, or a function that loads the models, called in each replica.
        replicas: how many there are.

    Raises:
        InputError: a port of 0, or no cluster at the address.
        MissingDependencyError: Ray Serve is not installed.
    """

    options: ServeOptions = field(default_factory=lambda: ServeOptions())
    models: Load = field(default_factory=ModelChoice)
    replicas: ReplicaOptions = field(default_factory=ReplicaOptions)

    def __post_init__(self) -> None:
        if self.options.port == 0:
            raise InputError("port=0 with --engine ray: Ray's proxies need a port, give one such as 8000")
        self._serve: Any = library("ray.serve", "serve-ray")
        self._started_ray = False

    @property
    def address(self) -> str:
        """Where the proxy of this machine listens, such as ``http://127.0.0.1:8000``."""
        return url(self.options.host if self.options.is_local else "127.0.0.1", self.options.port)

    def start(self) -> Self:
        """Start the replicas; blocks until their models are warm.

        Raises:
            InputError: no cluster at the address.
            StateError: the replicas could not be started; Ray's log of a replica says why.
        """
        self._join_cluster()
        where = "HeadOnly" if self.options.is_local else "EveryNode"
        http = {"host": self.options.host, "port": self.options.port, "keep_alive_timeout_s": 5}
        try:
            self._serve.start(proxy_location=where, http_options=http)
            self._serve.run(self._deployment().bind(), name=APPLICATION, route_prefix="/")
        except RuntimeError as error:
            self.stop()
            raise StateError(f"the replicas did not start: {error}") from error
        return self

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C; answers in progress may end, for ``drain_s`` at most."""
        ended = threading.Event()
        before = {kind: signal.signal(kind, lambda *_: ended.set()) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self:
                log.info("ready")
                ended.wait()
                log.info("draining")
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def stop(self) -> None:
        """Let answers in progress end, then stop replicas and proxies, and the cluster if it was started here."""
        import ray

        self._serve.shutdown()
        if self._started_ray:
            ray.shutdown()

    close = stop

    def __enter__(self) -> Self:
        return self.start()

    def _join_cluster(self) -> None:
        import ray

        if ray.is_initialized():
            return
        try:
            ray.init(address=self.replicas.address, log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            remedy = "start it with `ray start --head`, or leave the address out for one on this machine"
            raise InputError(f"no Ray cluster at {self.replicas.address!r} ({error}): {remedy}") from error
        self._started_ray = True

    def _deployment(self) -> Any:
        limits, wanted = self.options.limits, self.replicas
        replica = self._serve.ingress(_app_builder(self.options, self.models, wanted.cpus))()
        most = wanted.most_replicas or wanted.replicas
        scaling = {
            "min_replicas": wanted.replicas,
            "max_replicas": most,
            "target_ongoing_requests": wanted.streams_a_replica,
            **SCALING,
        }
        number = {"num_replicas": wanted.replicas} if most == wanted.replicas else {"autoscaling_config": scaling}
        return self._serve.deployment(
            replica,
            name="Replica",
            ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
            max_ongoing_requests=limits.max_streams + limits.max_waiting + limits.max_sessions + OTHER_REQUESTS,
            graceful_shutdown_timeout_s=limits.drain_s,
            health_check_period_s=HEALTH_PERIOD_S,
            health_check_timeout_s=HEALTH_TIMEOUT_S,
            max_constructor_retry_count=START_RETRIES,
            **number,
        )


def _app_builder(options: ServeOptions, models: Load, n_threads: int) -> Callable[[], Any]:
    """Return the function that Ray calls in a replica's process: it loads the models and makes the application."""

    def build() -> Any:
        import torch

        from csmkit.serve.app import build_app
        from csmkit.serve.service import Service

        torch.set_num_threads(n_threads)
        return build_app(Service(options, models()))

    return build
