"""Where trials run: in this process, in several, or on a Ray cluster. All hand out futures."""

from __future__ import annotations

import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any

from csmkit.errors import InputError, MissingDependencyError
from csmkit.lab.sweep.axes import check_choice, check_integer
from csmkit.lab.sweep.plan import Planned
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.worker import Done, run_task, worker_of

ENGINES = ("local", "processes", "ray")


@dataclass(frozen=True)
class EngineOptions:
    """Which engine, and how large.

    Attributes:
        name: one of ``local``, ``processes``, ``ray``.
        workers: trials at once; None is one for each core, on Ray as many as the cluster has room for.
        address: of the Ray cluster, such as ``auto`` or ``ray://host:10001``; None starts one on this machine, or joins
            the one that RAY_ADDRESS names.
        cpus: of a trial on Ray, and its threads.
        gpus: of a trial on Ray; a part of one is fine.

    Raises:
        InputError: a value out of its range, or an option of another engine.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None
    cpus: int = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        check_choice("engine", self.name, ENGINES)
        if self.workers is not None:
            check_integer("workers", self.workers, 1)
            if self.name == "local" and self.workers != 1:
                raise InputError(f"workers={self.workers} of engine local: it has one, use --engine processes")
        if self.address is not None and self.name != "ray":
            raise InputError(f"address={self.address!r} with engine {self.name}: it is for --engine ray")
        check_integer("cpus", self.cpus, 1)
        if not self.gpus >= 0:
            raise InputError(f"gpus={self.gpus!r}: give a number of at least 0")

    def start(self, recipe: Recipe) -> Engine:
        """Start it."""
        return {"local": LocalEngine, "processes": ProcessEngine, "ray": RayEngine}[self.name](recipe, self)


class Engine(ABC):
    """Runs tasks; made by `EngineOptions.start`.

    Attributes:
        shares_fate: whether the death of one worker ends what the others are at.
    """

    shares_fate: bool = False

    @property
    @abstractmethod
    def room(self) -> int:
        """How many tasks may be under way at once; it may change."""

    @abstractmethod
    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        """Start a task."""

    @abstractmethod
    def close(self) -> None:
        """Wait for what is under way, and let the workers go."""

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error means that the worker is gone, so that the task may run again elsewhere."""
        return False


class LocalEngine(Engine):
    """One trial at a time, in a thread of this process."""

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        self._recipe = recipe
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="csmkit-sweep")

    @property
    def room(self) -> int:
        return 1

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        return self._pool.submit(run_task, self._recipe, task)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        worker_of.cache_clear()


class ProcessEngine(Engine):
    """Processes of this machine that share its cores; they end with this one, however it ends."""

    shares_fate = True  # a pool of the standard library breaks as a whole

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        cores = os.cpu_count() or 1
        self._recipe, self._room = recipe, options.workers or cores
        self._threads = max(1, cores // self._room)
        self._pool = self._start()

    @property
    def room(self) -> int:
        return self._room

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._room, get_context("spawn"), initializer=_end_with_parent)

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        try:
            return self._pool.submit(run_task, self._recipe, task, self._threads)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._start()
            return self._pool.submit(run_task, self._recipe, task, self._threads)

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """See that a worker does not outlive a sweep that was killed: nobody else would tell it."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _check_reachable(address: str | None) -> None:
    """Raise InputError unless somebody listens there: Ray itself takes two minutes and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        remedy = "start it with `ray start --head`, or leave the address out for one on this machine"
        raise InputError(f"no Ray cluster at {address!r} ({error}): {remedy}") from error


class RayEngine(Engine):
    """Ray tasks: its scheduler finds the nodes, and a node may come or go meanwhile."""

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError.for_extra("ray", "sweep") from error
        self._ray: Any = ray
        self._options = options
        self._joined = ray.is_initialized()
        if not self._joined:
            _check_reachable(options.address)
            try:
                ray.init(address=options.address, log_to_driver=False, configure_logging=False)
            except ConnectionError as error:
                remedy = "start it with `ray start --head`, or leave the address out for one on this machine"
                raise InputError(f"no Ray cluster at {options.address!r} ({error}): {remedy}") from error
        # A worker that dies is told to the sweep, which counts how often; an error of a trial never runs again here.
        limits = {"num_cpus": options.cpus, "num_gpus": options.gpus, "max_retries": 0}
        self._run: Any = ray.remote(**limits)(run_task)
        self._recipe = ray.put(recipe)

    @property
    def room(self) -> int:
        if self._options.workers is not None:
            return self._options.workers
        have = self._ray.cluster_resources()
        room = have.get("CPU", 0) // self._options.cpus
        if self._options.gpus:
            room = min(room, have.get("GPU", 0) // self._options.gpus)
        return max(1, int(room))

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        future: Future[list[Done]] = self._run.remote(self._recipe, task, self._options.cpus).future()
        return future

    def is_loss(self, error: BaseException) -> bool:
        gone = self._ray.exceptions
        lost = gone.WorkerCrashedError | gone.NodeDiedError | gone.LocalRayletDiedError | gone.ObjectLostError
        return isinstance(error, lost | gone.OutOfMemoryError)

    def close(self) -> None:
        if not self._joined:
            self._ray.shutdown()
