"""The mode "graph": the frame as one CUDA graph. Backbone, depth loop, sampling and codec are launched at once.

What a frame must be like for this is in `csmkit.csm.execution.static`, which runs on any device; here it is recorded.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

import torch

from csmkit.codec import FrameDecoder
from csmkit.csm.execution.static import Recorder, StaticStep
from csmkit.csm.model import CsmModel, Stacks
from csmkit.errors import DeviceError

N_AHEAD = 1  # frames that the GPU has been given while the host reads the last one
N_WARM_UPS = 2  # the first utterance chooses kernels, the second is recorded

_log = logging.getLogger(__name__)


def graph_step(model: CsmModel, decoder: FrameDecoder | None, stacks: Stacks | None = None) -> StaticStep:
    """Make the step of the mode "graph"; with compiled ``stacks``, that of "compiled" on CUDA.

    Raises:
        DeviceError: the model is not on a CUDA device.
    """
    if model.device.type != "cuda":
        raise DeviceError(f"a CUDA graph needs a CUDA device, the model is on {model.device}")
    return StaticStep(model, decoder, CudaGraphs(model.device), N_AHEAD, stacks, N_WARM_UPS)


class CudaGraphs(Recorder):
    """Runs a function at its first call, records it as a CUDA graph at the second, and launches the graph from then on.

    The first call chooses kernels, and is made once for each key: over other buffers the function is recorded at once.
    A function that cannot be recorded is run each time, with one warning that gives the reason. All graphs share one
    memory pool: tensors that must survive a launch live in `FrameBuffers`, and launches run one after the other, also
    where callers have different current streams.

    Args:
        device: the CUDA device, with its index; it need not be the current device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            # Not torch's shared capture stream: kernels that another thread launches on it would be recorded as well.
            self._stream = torch.cuda.Stream(device)
            self._launched = torch.cuda.Event()
        self._recording, self._launching = threading.Lock(), threading.Lock()
        self._were_run: set[Hashable] = set()
        self._has_warned = False

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        with torch.cuda.device(self._device):
            if key not in self._were_run:
                body()
                self._were_run.add(key)
                return
            if key not in recorded:
                recorded[key] = self._record(body)
            graph = recorded[key]
            if isinstance(graph, torch.cuda.CUDAGraph):
                self._launch(graph)
            else:
                body()

    def wait(self) -> Callable[[], object]:
        with torch.cuda.device(self._device):
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._device))
        return event.synchronize

    def _launch(self, graph: torch.cuda.CUDAGraph) -> None:
        stream = torch.cuda.current_stream(self._device)
        with self._launching:
            stream.wait_event(self._launched)
            graph.replay()
            self._launched.record(stream)

    def _record(self, body: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Record a function; returns None where CUDA refuses."""
        graph = torch.cuda.CUDAGraph()
        try:
            with self._recording, torch.cuda.stream(self._stream), _no_garbage_collection():
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()  # memory cannot be returned to the device during a capture
                _start_cublas(self._device)
                self._capture(graph, body)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self._has_warned:
                _log.warning("a frame cannot be recorded here: %s. It is run each time.", str(error).splitlines()[0])
            self._has_warned = True
            return None
        return graph

    def _capture(self, graph: torch.cuda.CUDAGraph, body: Callable[[], None]) -> None:
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            body()
        except BaseException:
            with suppress(RuntimeError):  # a failed capture must be ended as well, and raises again
                graph.capture_end()
            raise
        graph.capture_end()


def _start_cublas(device: torch.device) -> None:
    """Run one tiny product: cuBLAS is initialized in each thread, which is not permitted during a capture."""
    one = torch.ones(1, 1, device=device)
    torch.mm(one, one)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection: device memory must not be freed during a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
