"""As much of torch.cuda as the recorder needs, on the CPU: streams and devices that are noted, and graphs that launch
the recorded operations on the recorded memory, as a CUDA graph does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REFUSED = "operation not permitted when stream is capturing"
PRODUCTS = {"aten.mm.default", "aten.addmm.default", "aten.bmm.default"}


class Recording(TorchDispatchMode):
    """Notes every operation with the very tensors it had, and undoes what it wrote: recording is not running."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda
        self.operations: list[tuple[Any, tuple, dict, Any]] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, given: tuple = (), options: dict | None = None) -> Any:
        options = options or {}
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError(f"{REFUSED}\nand more")
        if str(operation) in PRODUCTS and threading.get_ident() not in self._cuda.threads_with_cublas:
            raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")
        for argument, value in zip(operation._schema.arguments, given, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._before.append((value, value.clone()))
        made = operation(*given, **options)
        self.operations.append((operation, given, options, made))
        return made

    def undo(self) -> None:
        for tensor, before in reversed(self._before):
            tensor.copy_(before)
        self._before.clear()


class FakeGraph:
    """A CUDA graph; `FakeCuda` is set by `install`."""

    cuda: FakeCuda

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        self.cuda.note("begin")
        self._recording = Recording(self.cuda)
        self._recording.__enter__()

    def capture_end(self) -> None:
        self._recording.__exit__(None, None, None)
        with torch.inference_mode():
            self._recording.undo()
        self.cuda.note("end")
        if self.cuda.refuses_to_end:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        self.cuda.note("launch")
        for operation, given, options, made in self._recording.operations:
            again = operation(*given, **options)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class FakeStream:
    """A stream on a device."""

    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self._cuda, self.name = cuda, name

    def wait_event(self, event: FakeEvent) -> None:
        if event.recorded_on:
            self._cuda.note(f"wait for {event.recorded_on}")


class FakeEvent:
    """An event that is over at once."""

    recorded_on = ""

    def __init__(self, cuda: FakeCuda) -> None:
        cuda.note("event")

    def record(self, stream: FakeStream) -> None:
        self.recorded_on = stream.name

    def synchronize(self) -> None:
        pass


class FakeCuda:
    """What happened, as ``"device stream: what"``.

    Attributes:
        log: all of it.
        threads_with_cublas: whose products may be recorded.
        refuses_to_end: whether ending a recording fails, as it does after an operation in it has failed.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.threads_with_cublas: set[int] = set()
        self.refuses_to_end = False
        self._now = threading.local()
        self._n_streams = 0

    def stream_name(self) -> str:
        return getattr(self._now, "stream", "default")

    def note(self, what: str) -> None:
        self.log.append(f"{getattr(self._now, 'device', 0)} {self.stream_name()}: {what}")

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        index = device.index if isinstance(device, torch.device) else device
        before = getattr(self._now, "device", 0)
        self._now.device = before if index is None or index < 0 else index
        yield
        self._now.device = before

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before = self.stream_name()
        self._now.stream = stream.name
        try:
            yield
        finally:
            self._now.stream = before

    def new_stream(self, device: Any = None) -> FakeStream:
        self._n_streams += 1
        return FakeStream(self, f"s{self._n_streams}")

    def current_stream(self, device: Any = None) -> FakeStream:
        return FakeStream(self, self.stream_name())

    def start_cublas(self, device: Any) -> None:
        self.note("tiny product")
        self.threads_with_cublas.add(threading.get_ident())


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Put a fake in the place of torch.cuda's parts."""
    cuda = FakeCuda()
    graph = type("FakeGraph", (FakeGraph,), {"cuda": cuda})
    parts = {
        "graph_pool_handle": lambda: cuda.note("pool"),
        "CUDAGraph": graph,
        "Event": lambda: FakeEvent(cuda),
        "Stream": cuda.new_stream,
        "current_stream": cuda.current_stream,
        "stream": cuda.stream,
        "device": cuda.device,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
    }
    for name, part in parts.items():
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr("csmkit.csm.execution.cuda_graph._start_cublas", cuda.start_cublas)
    return cuda
