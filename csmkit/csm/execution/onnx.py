"""The modes "int4" and "int8": both stacks and all heads run by ONNX Runtime on a CPU, the rest as in "eager".

A frame of CSM-1B multiplies by 4.5 G weights, a row at a time: how fast depends on their bytes and on the kernel. What
lies between the products (norms, rotation, attention, the cache) is in the same graph, so that a frame is one call for
the backbone and one for each pass of the depth decoder. Sampling stays with the model, between those calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from csmkit.csm.execution.eager import EagerStep
from csmkit.csm.execution.onnx_graph import Graph, head_graph, stack_graph
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.sampling import Noise
from csmkit.csm.transformer import AttentionSpan, KvCache, StreamCaches, Transformer
from csmkit.errors import DeviceError
from csmkit.plugins import library

onnxruntime = library("onnxruntime", "int4")
status = library("onnxruntime.capi.onnxruntime_pybind11_state", "int4")
_REFUSALS = (status.Fail, status.InvalidArgument, status.InvalidGraph, status.NotImplemented, status.RuntimeException)
PROMPT_ROWS = 128  # positions of a prompt in one pass; the memory of a pass grows with them
N_BOUND = 16  # caches whose addresses stay bound; a stream has one


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread: its others would wait in a loop on the cores that ONNX Runtime's threads need.

    Between two calls of ONNX Runtime torch has little to do, and with two threads each a frame of CSM-1B took 1.3 to
    1.8 times as long.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class OnnxStep(EagerStep):
    """See `csmkit.csm.execution.step.Step`. The streams of a batch run one after the other.

    Args:
        model: a model on the CPU with rounded weights.

    Raises:
        DeviceError: this ONNX Runtime cannot run it.
    """

    def __init__(self, model: CsmModel) -> None:
        backbone = OnnxStack(model.backbone, model.config.backbone.max_positions + 1)
        depth = OnnxStack(model.depth, model.config.n_codebooks)
        super().__init__(model, Stacks(backbone, depth, OnnxHeads(model)))

    read = one_torch_thread()(EagerStep.read)
    first = one_torch_thread()(EagerStep.first)
    next = one_torch_thread()(EagerStep.next)

    def new_state(self, n_positions: int, noise: Noise) -> CsmState:
        """As `Step.new_state`; the caches are float32, whatever the model's dtype."""
        state, config, like = super().new_state(n_positions, noise), self._model.config, torch.empty(0)
        backbone = KvCache.empty(config.backbone, 1, n_positions, like)
        return replace(state, backbone=backbone, depth=KvCache.empty(config.depth, 1, config.n_codebooks, like))


class OnnxStack:
    """A stack in place of `Transformer.forward`.

    Args:
        stack: a transformer with rounded weights.
        n_positions: the most that it may have.
    """

    def __init__(self, stack: Transformer, n_positions: int) -> None:
        self._config = stack.config
        self._graph = stack_graph(stack, n_positions)  # its values are read where they are
        self._session = _session(self._graph, torch.get_num_threads())
        self._bound: OrderedDict[tuple[int, ...], BoundRow] = OrderedDict()
        self._try()

    def _try(self) -> None:
        """Run one pass over zeros: operators may refuse what the session has accepted."""
        cache = KvCache.empty(self._config, 1, 2, torch.empty(0))
        try:
            BoundRow(self._session, cache.layers, 0, 1, self._config.dim).run(torch.zeros(1, self._config.dim), 0)
        except RuntimeError as error:
            raise DeviceError(_refusal(error)) from error

    def __call__(self, x: Tensor, span: AttentionSpan, cache: KvCache | StreamCaches) -> Tensor:
        """Run ``(batch, n_new, dim)`` at the positions of ``span``; the hidden states after the final norm."""
        if isinstance(cache, StreamCaches):
            places = [(stream.layers, 0) for stream in cache.streams]
        else:
            places = [(cache.layers, row) for row in range(len(x))]
        rows = [self._row(x[row], _start(span, row), *place) for row, place in enumerate(places)]
        return torch.stack(rows).to(x.dtype)

    def _row(self, x: Tensor, start: int, layers: list[Tensor], row: int) -> Tensor:
        """Run one stream, `PROMPT_ROWS` of its new positions at a time."""
        pieces = x.float().split(PROMPT_ROWS)
        starts = range(start, start + len(x), PROMPT_ROWS)
        return torch.cat([self._run(*piece, layers, row) for piece in zip(pieces, starts, strict=True)])

    def _run(self, x: Tensor, start: int, layers: list[Tensor], row: int) -> Tensor:
        if len(x) > 1:
            return BoundRow(self._session, layers, row, len(x), self._config.dim).run(x, start)
        key = (row, *(layer.data_ptr() for layer in layers), layers[0].shape[2])
        bound = self._bound.pop(key, None) or BoundRow(self._session, layers, row, 1, self._config.dim)
        self._bound[key] = bound  # in order of use; the one unused for longest is dropped first
        while len(self._bound) > N_BOUND:
            self._bound.popitem(last=False)
        return bound.run(x, start)


class BoundRow:
    """A pass of one stream whose inputs and outputs stay at their addresses; its cache is written in place.

    Args:
        session: runs a graph made by `stack_graph`.
        layers: the float32 tensors of a `KvCache`.
        row: index of the stream in these tensors.
        n_new: number of positions in each pass.
        dim: width of the hidden states.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, layers: list[Tensor], row: int, n_new: int, dim: int
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._x, self._y = torch.empty(1, n_new, dim), torch.empty(1, n_new, dim)
        self._last, self._total = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        inputs = {"x": self._x, "last": self._last, "total": self._total}
        outputs = {"y": self._y}
        for index, layer in enumerate(layers):
            for part, half in zip(("keys", "values"), layer[row : row + 1].chunk(2, dim=1), strict=True):
                inputs[f"{part}.{index}"] = outputs[f"new_{part}.{index}"] = half
        for name, tensor in inputs.items():
            self._binding.bind_input(name, "cpu", 0, _NUMPY[tensor.dtype], list(tensor.shape), tensor.data_ptr())
        for name, tensor in outputs.items():
            self._binding.bind_output(name, "cpu", 0, _NUMPY[tensor.dtype], list(tensor.shape), tensor.data_ptr())

    def run(self, x: Tensor, start: int) -> Tensor:
        """Run ``(n_new, dim)`` at the positions from ``start`` on; returns a copy of the hidden states."""
        self._x[0] = x
        self._last.fill_(start + len(x) - 1)
        self._total.fill_(start + len(x))
        self._session.run_with_iobinding(self._binding)
        return self._y[0].clone()


class OnnxHeads:
    """Called in place of `CsmModel.head`. Each head uses one thread: its product is too small for two."""

    def __init__(self, model: CsmModel) -> None:
        heads = [model.first_head, *model.other_heads.parts()]
        self._graphs = [head_graph(head) for head in heads]
        self._sessions = [_session(graph, 1) for graph in self._graphs]

    def __call__(self, index: int, hidden: Tensor) -> Tensor:
        """As `CsmModel.head`, in float32."""
        wide = hidden.float()
        (logits,) = self._sessions[index].run(None, {"x": wide.numpy()})
        # Rounding a row to integers makes numbers of what is none: a value that is not finite must stay one.
        return torch.from_numpy(logits) + 0 * wide.sum(dim=-1, keepdim=True)


_NUMPY = {torch.float32: np.float32, torch.int32: np.int32}


def _start(span: AttentionSpan, row: int) -> int:
    positions = span.positions if span.positions.ndim == 1 else span.positions[row]
    return int(positions[0])


def _session(graph: Graph, n_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    # Threads that wait for work in a loop do so within a call alone: between calls the codec's need their cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.values.values()]
    try:
        options.add_external_initializers(list(graph.values), values)
        return onnxruntime.InferenceSession(graph.serialized(), options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise DeviceError(_refusal(error)) from error


def _refusal(error: Exception) -> str:
    reason = str(error).strip().splitlines()[0].rpartition("Status Message: ")[2]
    return (
        f"ONNX Runtime {onnxruntime.__version__} cannot run this voice ({reason}): install another version, 1.22 or "
        "newer, or take execution='eager'"
    )
