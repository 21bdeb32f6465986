"""Where trials run: in this process, in several processes, or on a Ray cluster. All return futures."""

from __future__ import annotations

import os
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Any

from csmkit.checks import check_integer
from csmkit.errors import InputError, ResultsError
from csmkit.lab.sweep.axes import check_choice
from csmkit.lab.sweep.plan import Planned
from csmkit.lab.sweep.recipe import Recipe
from csmkit.lab.sweep.worker import Done, run_task, worker_of
from csmkit.plugins import library

ENGINES = ("local", "processes", "ray")
MOST_FAILED_STARTS = 3


@dataclass(frozen=True)
class EngineOptions:
    """Which engine, and how large.

    Attributes:
        name: one of ``local``, ``processes``, ``ray``.
        workers: largest number of trials at once; None is one for each core, on Ray as many as the nodes have room for.
        address: where the Ray cluster listens, such as ``auto`` or ``ray://host:10001``; None starts a cluster on this
            machine, or joins the one that RAY_ADDRESS names.
        cpus: number of cores, and of torch's threads, that each worker on Ray takes.
        gpus: number of GPUs that each worker on Ray takes; may be a fraction.
        timeout_s: seconds after which a trial is a failure; None sets no limit. The engines ``processes`` and ``ray``
            then end its worker and start another one. The engine ``local`` cannot end its only worker: it compares the
            clock with the limit between two chunks, so a trial that hangs within a chunk hangs the sweep.
        most_failures: number of failures in a row after which the sweep stops; None continues to the end.

    Raises:
        InputError: a value out of its range, or an option of another engine.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None
    cpus: int = 1
    gpus: float = 0
    timeout_s: float | None = None
    most_failures: int | None = 20

    def __post_init__(self) -> None:
        check_choice("engine", self.name, ENGINES)
        check_integer("workers", self.workers, 1, optional=True)
        if self.name == "local" and self.workers not in (None, 1):
            raise InputError(f"workers={self.workers} of engine local: it has one, use --engine processes")
        if self.address is not None and self.name != "ray":
            raise InputError(f"address={self.address!r} with engine {self.name}: it is for --engine ray")
        check_integer("cpus", self.cpus, 1)
        if not self.gpus >= 0:
            raise InputError(f"gpus={self.gpus!r}: give a number of at least 0")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise InputError(f"timeout_s={self.timeout_s!r}: give seconds above 0, or None to wait for ever")
        check_integer("most_failures", self.most_failures, 1, optional=True)

    def start(self, recipe: Recipe) -> Engine:
        """Start it."""
        return {"local": LocalEngine, "processes": ProcessEngine, "ray": RayEngine}[self.name](recipe, self)


class Engine(ABC):
    """Runs tasks; made by `EngineOptions.start`."""

    @property
    def starting(self) -> Collection[Future[Any]]:
        """One future for each worker that does not take tasks yet; `room` may grow when one of them is done."""
        return ()

    @abstractmethod
    def room(self, n_left: int) -> int:
        """How many tasks may run at once now, where ``n_left`` are running or waiting; it may change."""

    @abstractmethod
    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        """Start a task; fewer than `room` may be running."""

    @abstractmethod
    def close(self) -> None:
        """Wait for the tasks that are running, and end the workers."""

    def abandon(self, future: Future[list[Done]]) -> None:
        """End the worker of a task that takes too long, if it can be ended; its future then fails."""
        del future  # one that cannot be ended goes on

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error means that the worker is gone, so that the task may run again elsewhere."""
        return False


class LocalEngine(Engine):
    """One task at a time, in a thread of this process."""

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        self._recipe, self._timeout_s = recipe, options.timeout_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="csmkit-sweep")

    def room(self, n_left: int) -> int:
        return 1

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        return self._pool.submit(run_task, self._recipe, task, timeout_s=self._timeout_s)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        worker_of.cache_clear()


class _Process:
    """A worker process with a pool of its own, so that killing it affects no other worker's task."""

    def __init__(self, gpu: str | None) -> None:
        self.gpu = gpu
        self.busy: Future[list[Done]] | None = None
        self._start()

    def _start(self) -> None:
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(self.gpu,))
        self._pid = self.pool.submit(os.getpid)

    @property
    def free(self) -> bool:
        return self.busy is None or self.busy.done()

    def submit(self, *task: Any) -> Future[list[Done]]:
        try:
            self.busy = self.pool.submit(run_task, *task)
        except BrokenProcessPool:
            self.pool.shutdown(wait=False)
            self._start()
            self.busy = self.pool.submit(run_task, *task)
        return self.busy

    def kill(self) -> None:
        with suppress(ProcessLookupError, BrokenProcessPool):
            os.kill(self._pid.result(), signal.SIGKILL)


class ProcessEngine(Engine):
    """Processes of this machine that share its cores, each with one of its GPUs; they end with this one.

    Attributes:
        workers: the processes that run the trials.
    """

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        gpus, cores = visible_gpus(), os.cpu_count() or 1
        n_workers = options.workers or len(gpus) or cores
        self._recipe, self._threads = recipe, max(1, cores // n_workers)
        self.workers = [_Process(gpus[index % len(gpus)] if gpus else None) for index in range(n_workers)]

    def room(self, n_left: int) -> int:
        return len(self.workers)

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        worker = next(worker for worker in self.workers if worker.free)
        return worker.submit(self._recipe, task, self._threads)

    def abandon(self, future: Future[list[Done]]) -> None:
        for worker in self.workers:
            if worker.busy is future:
                worker.kill()

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def close(self) -> None:
        for worker in self.workers:
            worker.pool.shutdown(cancel_futures=True)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _begin(gpu: str | None) -> None:
    """Prepare a worker process: it sees its own GPU alone, and ends with its parent."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA starts, which it has not yet
    _end_with_parent()


def _end_with_parent() -> None:
    """End this worker when its sweep was killed: nothing else would end it."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _check_reachable(address: str | None) -> None:
    """Raise InputError unless a server listens there: Ray itself takes two minutes and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        remedy = "start it with `ray start --head`, or leave the address out for one on this machine"
        raise InputError(f"no Ray cluster at {address!r} ({error}): {remedy}") from error


class RayEngine(Engine):
    """Ray actors that keep their models. Nodes may come and go: a task is given to an actor that has started.

    An actor that is waiting for a place on a node therefore holds no task, and a dead node costs the tasks that ran
    on it, which fail with an error that `is_loss` knows.
    """

    def __init__(self, recipe: Recipe, options: EngineOptions) -> None:
        self._ray = ray = library("ray", "sweep")
        self._options = options
        self._joined = ray.is_initialized()
        if not self._joined:
            _check_reachable(options.address)
            try:
                ray.init(address=options.address, log_to_driver=False, configure_logging=False)
            except ConnectionError as error:
                remedy = "start it with `ray start --head`, or leave the address out for one on this machine"
                raise InputError(f"no Ray cluster at {options.address!r} ({error}): {remedy}") from error
        self._recipe = ray.put(recipe)
        # Ray restarts nothing by itself: the sweep counts how often a trial lost its worker.
        limits = {"num_cpus": options.cpus, "num_gpus": options.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor: Any = ray.remote(**limits)(_RayWorker)
        self._starting: dict[Future[None], Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Future[list[Done]], Any] = {}
        self._n_failed_starts = 0  # in a row

    @property
    def starting(self) -> Collection[Future[Any]]:
        return self._starting.keys()

    def room(self, n_left: int) -> int:
        self._collect()
        n_wanted = min(n_left, self._options.workers or self._n_places())
        surplus = len(self._starting) + len(self._idle) + len(self._busy) - n_wanted
        for _ in range(-surplus):
            actor = self._actor.remote()
            self._starting[actor.load.remote(self._recipe, self._options.cpus).future()] = actor
        for _ in range(surplus):
            if self._starting:
                self._ray.kill(self._starting.popitem()[1])
            elif self._idle:
                self._ray.kill(self._idle.pop())
        return len(self._idle) + len(self._busy)

    def _n_places(self) -> int:
        """How many actors the nodes hold; at least 1, as a node may still join."""
        need = {"CPU": self._options.cpus, "GPU": self._options.gpus}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return max(1, sum(int(min(have.get(kind, 0) // n for kind, n in need.items() if n)) for have in nodes))

    def _collect(self) -> None:
        """Actors that have started or finished their task are idle; dead ones are forgotten."""
        for future in [future for future in self._starting if future.done()]:
            actor, error = self._starting.pop(future), future.exception()
            self._n_failed_starts = 0 if error is None else self._n_failed_starts + 1
            if error is None:
                self._idle.append(actor)
            elif self._n_failed_starts == MOST_FAILED_STARTS:
                cause = getattr(error, "cause", None) or error  # Ray wraps what an actor raised
                raise ResultsError(
                    f"{MOST_FAILED_STARTS} Ray workers in a row did not start, the last by {type(cause).__name__}: "
                    f"{cause}; install csmkit[sweep] on each node, with the models at the same paths"
                ) from error
        for future in [future for future in self._busy if future.done()]:
            actor, error = self._busy.pop(future), future.exception()
            if error is None or not self.is_loss(error):
                self._idle.append(actor)

    def submit(self, task: Sequence[Planned]) -> Future[list[Done]]:
        actor = self._idle.pop()
        future: Future[list[Done]] = actor.run.remote(self._recipe, task, self._options.cpus).future()
        self._busy[future] = actor
        return future

    def abandon(self, future: Future[list[Done]]) -> None:
        self._ray.kill(self._busy[future])

    def is_loss(self, error: BaseException) -> bool:
        gone = self._ray.exceptions
        lost = gone.RayActorError | gone.WorkerCrashedError | gone.NodeDiedError | gone.LocalRayletDiedError
        return isinstance(error, lost | gone.ObjectLostError | gone.OutOfMemoryError)

    def close(self) -> None:
        for actor in [*self._starting.values(), *self._idle, *self._busy.values()]:
            self._ray.kill(actor)
        if not self._joined:
            self._ray.shutdown()


class _RayWorker:
    """An actor: a process that runs tasks with the models that it has loaded."""

    def load(self, recipe: Recipe, threads: int) -> None:
        worker_of(recipe, threads)

    def run(self, recipe: Recipe, task: Sequence[Planned], threads: int) -> list[Done]:
        return run_task(recipe, task, threads)
