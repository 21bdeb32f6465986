"""Which execution mode a model gets: the one asked for, or by device, size and measured speed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from csmkit.audio import FRAME_MS
from csmkit.codec import FrameDecoder
from csmkit.csm.execution.step import Step
from csmkit.csm.model import CsmModel
from csmkit.csm.quantization import ROUNDINGS, quantize, rounded_bits, widen
from csmkit.errors import DeviceError, InputError
from csmkit.machine import SMALL_MODEL

_log = logging.getLogger(__name__)


def make_step(model: CsmModel, execution: str, sounds: FrameDecoder | None = None) -> tuple[Step, str]:
    """The step of an execution mode, and the mode it is. What cannot be had falls back, with one warning that says why.

    Args:
        model: with weights, on its device; "int8" and "int4" round them, other modes widen them again.
        execution: "auto" or a mode.
        sounds: decodes on the same device; None where frames are decoded elsewhere.

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
        return _MODES[mode](model, sounds), mode
    except DeviceError as reason:
        instead = "graph" if model.device.type == "cuda" and mode != "graph" else "eager"
        _log.warning("execution=%r cannot be had: %s. Going on with %r.", mode, reason, instead)
        widen(model)
        return _MODES[instead](model, sounds), instead


def automatic(model: CsmModel) -> str:
    """The mode that "auto" is: what a voice was rounded for; "graph" on CUDA; on a CPU "eager", but "int8" for a big
    voice whose products alone, as measured now, take longer than a frame lasts. What was measured is logged."""
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


def _eager(model: CsmModel, sounds: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.eager import EagerStep
    from csmkit.csm.execution.row_products import arrange

    if model.device.type == "cpu":
        arrange(model)
    return EagerStep(model)


def _graph(model: CsmModel, sounds: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.cuda_graph import graph_step

    return graph_step(model, sounds)


def _compiled(model: CsmModel, sounds: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.compiled import compiled_step

    return compiled_step(model, sounds)


def _rounded(mode: str, model: CsmModel, sounds: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.onnx import OnnxStep

    if rounded_bits(model) != ROUNDINGS[mode].bits:
        quantize(model, ROUNDINGS[mode])
    return OnnxStep(model)


def _static(model: CsmModel, sounds: FrameDecoder | None) -> Step:
    from csmkit.csm.execution.static import StaticStep

    return StaticStep(model, sounds)


_MODES: dict[str, Callable[[CsmModel, FrameDecoder | None], Step]] = {
    "eager": _eager,
    "graph": _graph,
    "compiled": _compiled,
    "int8": partial(_rounded, "int8"),
    "int4": partial(_rounded, "int4"),
    "static": _static,
}
