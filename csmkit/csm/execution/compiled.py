"""Both stacks fused by inductor, torch's compiler, in the constant shapes of `csmkit.csm.execution.static`.

Every shape is compiled at its first frame, which takes seconds for a small voice and minutes for CSM-1B.
"""

from __future__ import annotations

import torch
import torch._dynamo

from csmkit.codec import FrameDecoder
from csmkit.csm.execution.cuda_graph import graph_step
from csmkit.csm.execution.static import StaticStep
from csmkit.csm.model import CsmModel, Stacks
from csmkit.errors import DeviceError

N_SHAPES = 64  # batch sizes times passes; torch gives up at 8 unless told


def compiled_step(model: CsmModel, sounds: FrameDecoder | None) -> StaticStep:
    """The step of the mode "compiled"; on CUDA its frames are recorded as those of "graph".

    Raises:
        DeviceError: inductor has no compiler here.
    """
    _try_inductor(model.device)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, N_SHAPES)
    backbone, depth = (
        torch.compile(stack.forward, dynamic=False, fullgraph=True) for stack in (model.backbone, model.depth)
    )
    if model.device.type == "cuda":
        return graph_step(model, sounds, Stacks(backbone, depth, model.head))
    return StaticStep(model, stacks=Stacks(backbone, depth, model.head))


def _try_inductor(device: torch.device) -> None:
    """Compile something small; without a compiler it is better to know at once than at the first frame."""

    def double(x: torch.Tensor) -> torch.Tensor:
        return x + x

    try:
        torch.compile(double, dynamic=False)(torch.ones(8, device=device))
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(f"inductor cannot compile here ({reason}); install a C++ compiler, g++ or clang") from error
