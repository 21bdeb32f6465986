"""How a frame runs. The model is the same for all modes; what differs is who launches its operations.

- "eager": one by one. On a CPU nothing published is faster for a small voice.
- "graph": recorded once and launched as a whole, `csmkit.csm.graph`; needs CUDA.
- "compiled": fused by inductor, which takes a minute or more at the first frame; on CUDA recorded on top.
- "int8" and "int4": on a CPU, by ONNX Runtime over weights of 8 and 4 bits, `csmkit.csm.onnx_step`.
- "static": the recorded frame without a recording, as its tests run it on any device.

In float32 all give the same codes for a seed but "int8" and "int4", whose weights are others; "compiled" rounds
differently, so that two codes of nearly equal weight may change places, and in bfloat16 and float16 so does every mode.
`experiments.benchmarks.reproducibility` measures what a seed determines. For "auto" see `automatic`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from csmkit.audio import FRAME_MS
from csmkit.csm.blockwise import ROUNDINGS, quantize, rounded_bits, widen
from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.sampling import Noise
from csmkit.errors import DeviceError, InputError
from csmkit.machine import SMALL_MODEL

_log = logging.getLogger(__name__)


class Made(NamedTuple):
    """A frame of every stream of a batch, on the CPU.

    Attributes:
        codes: ``(batch, n_codebooks)`` int64.
        finite: ``(batch,)`` bool, whether the values behind the codes are finite; where not, the codes mean nothing.
        sound: ``(batch, 1920)`` float32; None where the step makes none.
    """

    codes: Tensor
    finite: Tensor
    sound: Tensor | None = None

    @classmethod
    def of(cls, packed: Tensor, sound: Tensor | None = None) -> Made:
        """From what `packed` made."""
        return cls(packed[:, :-1], packed[:, -1].bool(), sound)


def packed(codes: Tensor, finite: Tensor) -> Tensor:
    """Codes and flag in one tensor, ``(batch, n_codebooks + 1)`` int64: one copy brings both to the host."""
    return torch.cat((codes, finite.unsqueeze(1)), dim=1)


class Step(Protocol):
    """Runs a state forward.

    Attributes:
        makes_sound: whether it decodes the frames it makes, if they are to be heard.
        n_warm_ups: number of utterances to generate before timings are representative.
        warm_up_rows: lengths of prompts to read before timings are representative.
    """

    makes_sound: bool
    n_warm_ups: int
    warm_up_rows: tuple[int, ...]

    def new_state(self, n_positions: int, noise: Noise) -> CsmState:
        """A state of one stream, for ``n_positions`` positions in all, prompt and frames."""
        ...

    def join(self, states: Sequence[CsmState]) -> CsmState:
        """The streams of several states as one batch, in their order; each goes on where it was."""
        ...

    def take(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """These streams alone, in this order; the others end."""
        ...

    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        """Read rows of the prompt of one stream, ``(1, n_rows, slots)`` int64 and bool on the CPU."""
        ...

    def first(self, state: CsmState, aloud: bool = False) -> Made:
        """The frame that follows the prompt; ``aloud`` where this one and the next are to be heard."""
        ...

    def next(self, state: CsmState) -> Made:
        """Read the last frame; the following one."""
        ...


class Sounds(Protocol):
    """Who can make sound of codes on the model's device, such as `csmkit.mimi.decoder.MimiDecoder`."""

    def new_state(self, batch: int) -> SoundState:
        """Of streams that have decoded nothing."""
        ...

    def __call__(self, codes: Tensor, state: SoundState) -> Tensor:
        """``(batch, n_codebooks, 1)`` int64 to ``(batch, 1920)``; the state moves on in place."""
        ...


class SoundState(Protocol):
    """What such streams remember, in memory that stays where it is."""

    fresh: bool

    def restart(self) -> None:
        """Forget it all."""
        ...

    def load(self, other: SoundState, rows: Sequence[int]) -> None:
        """Go on where these streams of another state are."""
        ...


def make_step(model: CsmModel, execution: str, sounds: Sounds | None = None) -> tuple[Step, str]:
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
    from csmkit.csm.row_products import frame_s, measure

    frame_ms = 1e3 * frame_s(model, measure(model))
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    mode = "eager" if frame_ms <= FRAME_MS or missing else "int8"
    hint = f"; for 'int8' install {' and '.join(missing)}" if missing and frame_ms > FRAME_MS else ""
    dtype = str(model.projection.dtype).removeprefix("torch.")
    message = "execution='auto' is %r: the %s products of a frame of %d ms take %.0f ms here%s"
    _log.info(message, mode, dtype, FRAME_MS, frame_ms, hint)
    return mode


def _eager(model: CsmModel, sounds: Sounds | None) -> Step:
    from csmkit.csm.eager import EagerStep
    from csmkit.csm.row_products import arrange

    if model.device.type == "cpu":
        arrange(model)
    return EagerStep(model)


def _graph(model: CsmModel, sounds: Sounds | None) -> Step:
    from csmkit.csm.graph import graph_step

    return graph_step(model, sounds)


def _compiled(model: CsmModel, sounds: Sounds | None) -> Step:
    from csmkit.csm.compiled import compiled_step

    return compiled_step(model, sounds)


def _rounded(mode: str, model: CsmModel, sounds: Sounds | None) -> Step:
    from csmkit.csm.onnx_step import OnnxStep

    if rounded_bits(model) != ROUNDINGS[mode].bits:
        quantize(model, ROUNDINGS[mode])
    return OnnxStep(model)


def _static(model: CsmModel, sounds: Sounds | None) -> Step:
    from csmkit.csm.static import StaticStep

    return StaticStep(model, sounds)


_MODES: dict[str, Callable[[CsmModel, Sounds | None], Step]] = {
    "eager": _eager,
    "graph": _graph,
    "compiled": _compiled,
    "int8": partial(_rounded, "int8"),
    "int4": partial(_rounded, "int4"),
    "static": _static,
}
