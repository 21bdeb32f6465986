"""The frame as one CUDA graph: backbone step, unrolled depth loop, sampling and codec, one launch, no wait inside.

All that makes this possible is in `csmkit.csm.execution.static`, which runs on any device; here is only the
recording itself.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

import torch

from csmkit.codec import FrameDecoder
from csmkit.csm.execution.static import StaticStep
from csmkit.csm.model import CsmModel, Stacks
from csmkit.errors import DeviceError

N_AHEAD = 1  # frames the GPU has in hand while the host looks at the last one
N_WARM_UPS = 2  # the first utterance chooses kernels, the second is recorded
RUN_ONCE = object()  # in place of a recording, of what was run once

_log = logging.getLogger(__name__)


class CudaRecorder:
    """Runs a body the first time, records it as a CUDA graph the second time, and launches the graph from then on.

    What cannot be recorded is run every time, with one warning that says why. All graphs of a recorder share one memory
    pool: tensors that must survive a launch live in `FrameBuffers`, and launches wait for one another, also where
    callers have different current streams.

    Args:
        device: with an index; it need not be the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            # Of its own: kernels that another recorder or thread puts on a shared stream would be recorded, too.
            self._stream = torch.cuda.Stream(device)
            self._launched = torch.cuda.Event()
        self._recording, self._launching = threading.Lock(), threading.Lock()
        self._warned = False

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        """As `csmkit.csm.execution.static.Recorder.run`."""
        with torch.cuda.device(self._device):
            if key not in recorded:
                body()
                recorded[key] = RUN_ONCE
                return
            if recorded[key] is RUN_ONCE:
                recorded[key] = self._record(body)
            graph = recorded[key]
            if isinstance(graph, torch.cuda.CUDAGraph):
                self._launch(graph)
            else:
                body()

    def wait(self) -> Callable[[], object]:
        """As `csmkit.csm.execution.static.Recorder.wait`."""
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
        graph = torch.cuda.CUDAGraph()
        try:
            with self._recording, torch.cuda.stream(self._stream), _no_garbage_collection():
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()  # nothing can be given back to the device while it records
                _start_cublas(self._device)
                self._capture(graph, body)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self._warned:
                _log.warning("a frame cannot be recorded here: %s. Going on without.", str(error).splitlines()[0])
            self._warned = True
            return None
        return graph

    def _capture(self, graph: torch.cuda.CUDAGraph, body: Callable[[], None]) -> None:
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            body()
        except BaseException:
            with suppress(RuntimeError):  # a capture that was broken off must be ended too, and says again that it was
                graph.capture_end()
            raise
        graph.capture_end()


def _start_cublas(device: torch.device) -> None:
    """One tiny product: cuBLAS begins anew in every thread, and must not while a graph is recorded."""
    one = torch.ones(1, 1, device=device)
    torch.mm(one, one)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Nothing is collected meanwhile: freeing what belongs to a device is not permitted while it records."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def graph_step(model: CsmModel, sounds: FrameDecoder | None, stacks: Stacks | None = None) -> StaticStep:
    """The step of the mode "graph"; with compiled ``stacks``, of "compiled" on CUDA.

    Raises:
        DeviceError: the model is not on a CUDA device.
    """
    if model.device.type != "cuda":
        raise DeviceError(f"a CUDA graph needs a CUDA device, the voice is on {model.device}")
    return StaticStep(model, sounds, CudaRecorder(model.device), N_AHEAD, stacks, N_WARM_UPS)
