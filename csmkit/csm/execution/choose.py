"""Chooses the execution mode of a model: the one asked for, or one by device, size and measured speed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS
from csmkit.codec import FrameDecoder
from csmkit.csm.execution.step import Step
from csmkit.csm.model import CsmModel, Stacks
from csmkit.csm.quantization import ROUNDINGS, quantize, rounded_bits, widen
from csmkit.errors import DeviceError, InputError
from csmkit.machine import SMALL_MODEL

N_COMPILED_SHAPES = 64  # batch sizes times passes; torch gives up at 8 by default

_log = logging.getLogger(__name__)


def make_step(model: CsmModel, execution: str, decoder: FrameDecoder | None = None) -> tuple[Step, str]:
    """Make the step of an execution mode; returns it with the name of the mode.

    A mode that this machine does not have falls back to another one, with a warning that gives the reason.

    Args:
        model: the model with its weights, on its device; "int8" and "int4" round the weights, other modes widen them.
        execution: "auto" or a mode, see `csmkit.csm.execution.step`.
        decoder: decodes frames on the same device; None where they are decoded elsewhere.

    Raises:
        InputError: an unknown mode, or other bits than the weights were rounded to.
        MissingDependencyError: "int8" or "int4" without ONNX Runtime.
    """
    mode = automatic(model) if execution == "auto" else execution
    if mode not in _MODES:
        raise InputError(f"execution={execution!r}: the modes are 'auto', {', '.join(map(repr, _MODES))}")
    if mode not in ROUNDINGS:
        widen(model)
    try:
        return _MODES[mode](model, decoder), mode
    except DeviceError as reason:
        instead = "graph" if model.device.type == "cuda" and mode != "graph" else "eager"
        _log.warning("execution=%r is not available: %s. Using %r.", mode, reason, instead)
        widen(model)
        return _MODES[instead](model, decoder), instead


def automatic(model: CsmModel) -> str:
    """Choose a mode: that of the rounded weights; "graph" on CUDA; "eager" on a CPU, or "int8" for a big model whose
    products alone, measured now, take longer than a frame lasts. The measured time is logged."""
    bits = rounded_bits(model)
    if bits is not None:
        return f"int{bits}"
    if model.device.type == "cuda":
        return "graph"
    if model.device.type != "cpu" or sum(weight.numel() for weight in model.parameters()) < SMALL_MODEL:
        return "eager"
    from csmkit.csm.execution.row_products import frame_s, measure

    frame_ms = 1e3 * frame_s(model, measure(model))
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    mode = "eager" if frame_ms <= FRAME_MS or missing else "int8"
    hint = f"; for 'int8' install {' and '.join(missing)}" if missing and frame_ms > FRAME_MS else ""
    dtype = str(model.projection.dtype).removeprefix("torch.")
    message = "execution='auto' is %r: the %s products of a frame of %d ms take %.0f ms here%s"
    _log.info(message, mode, dtype, FRAME_MS, frame_ms, hint)
    return mode


def _eager(model: CsmModel, decoder: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.eager import EagerStep
    from csmkit.csm.execution.row_products import arrange

    if model.device.type == "cpu":
        arrange(model)
    return EagerStep(model)


def _graph(model: CsmModel, decoder: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.cuda_graph import graph_step

    return graph_step(model, decoder)


def _compiled(model: CsmModel, decoder: FrameDecoder | None) -> Step:
    """Both stacks fused by inductor, torch's compiler; on CUDA their frames are recorded as those of "graph".

    Every shape is compiled at its first frame, which takes seconds for a small model and minutes for CSM-1B.
    """
    import torch._dynamo

    from csmkit.csm.execution.cuda_graph import graph_step
    from csmkit.csm.execution.static import StaticStep

    _try_inductor(model.device)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, N_COMPILED_SHAPES)
    backbone, depth = (
        torch.compile(stack.forward, dynamic=False, fullgraph=True) for stack in (model.backbone, model.depth)
    )
    stacks = Stacks(backbone, depth, model.head)
    return graph_step(model, decoder, stacks) if model.device.type == "cuda" else StaticStep(model, stacks=stacks)


def _try_inductor(device: torch.device) -> None:
    """Compile a small function; raises DeviceError where inductor has no compiler, now and not at the first frame."""

    def double(x: Tensor) -> Tensor:
        return x + x

    try:
        torch.compile(double, dynamic=False)(torch.ones(8, device=device))
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(f"inductor cannot compile here ({reason}); install a C++ compiler, g++ or clang") from error


def _rounded(mode: str, model: CsmModel, decoder: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.onnx import OnnxStep

    if rounded_bits(model) != ROUNDINGS[mode].bits:
        quantize(model, ROUNDINGS[mode])
    return OnnxStep(model)


def _static(model: CsmModel, decoder: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.static import StaticStep

    return StaticStep(model, decoder)


_MODES: dict[str, Callable[[CsmModel, FrameDecoder | None], Step]] = {
    "eager": _eager,
    "graph": _graph,
    "compiled": _compiled,
    "int8": partial(_rounded, "int8"),
    "int4": partial(_rounded, "int4"),
    "static": _static,
}
