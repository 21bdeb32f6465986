"""The frame as one CUDA graph: backbone step, unrolled depth loop, sampling and codec, one launch, no wait inside.

All that makes this possible is in `csmkit.csm.static`, which runs on any device; here is only the recording itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable

import torch

from csmkit.csm.model import CsmModel, Stacks
from csmkit.csm.static import StaticStep
from csmkit.csm.step import Sounds
from csmkit.errors import DeviceError

N_AHEAD = 1  # frames the GPU has in hand while the host looks at the last one
N_WARM_UPS = 2  # the first utterance chooses kernels, the second is recorded
MET = object()  # in place of a recording, of what was run once

_log = logging.getLogger(__name__)


class CudaRecorder:
    """Runs what it meets for the first time, records it the second time, and launches the recording from then on.

    What cannot be recorded is run every time, with one warning that says why.
    All recordings share their scratch memory: what outlives one is in a seat, and they follow each other on a stream.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._lock = threading.Lock()
        self._warned = False

    def run(self, recorded: dict[Hashable, object], key: Hashable, body: Callable[[], None]) -> None:
        """As `csmkit.csm.static.Recorder.run`."""
        if key not in recorded:
            body()
            recorded[key] = MET
            return
        if recorded[key] is MET:
            recorded[key] = self._record(body)
        graph = recorded[key]
        if isinstance(graph, torch.cuda.CUDAGraph):
            graph.replay()
        else:
            body()

    def wait(self) -> Callable[[], object]:
        """As `csmkit.csm.static.Recorder.wait`."""
        event = torch.cuda.Event()
        event.record()
        return event.synchronize

    def _record(self, body: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with self._lock, torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                body()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self._warned:
                _log.warning("a frame cannot be recorded here: %s. Going on without.", str(error).splitlines()[0])
            self._warned = True
            return None
        return graph


def graph_step(model: CsmModel, sounds: Sounds | None, stacks: Stacks | None = None) -> StaticStep:
    """The step of the mode "graph"; with compiled ``stacks``, of "compiled" on CUDA.

    Raises:
        DeviceError: the model is not on a CUDA device.
    """
    if model.device.type != "cuda":
        raise DeviceError(f"a CUDA graph needs a CUDA device, the voice is on {model.device}")
    return StaticStep(model, sounds, CudaRecorder(), N_AHEAD, stacks, N_WARM_UPS)
