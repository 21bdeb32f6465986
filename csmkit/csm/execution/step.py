"""The contract of an execution mode: how the frames of a batch of streams are computed.

The model is the same in all modes; they differ in who launches its operations.

- "eager": one operation at a time, on any device (`csmkit.csm.execution.eager`). On a CPU, big weights are laid out for
  the kernel that is fastest there.
- "graph": recorded once and launched as a whole (`csmkit.csm.execution.cuda_graph`); needs CUDA.
- "compiled": fused by inductor, which takes a minute or more at the first frame; on CUDA recorded as well.
- "int8" and "int4": weights of 8 and 4 bits on a CPU, by ONNX Runtime (`csmkit.csm.execution.onnx`).
- "static": the frame that "graph" records, without a recording, on any device; for tests.

In float32 all modes give the same codes for a seed except "int8" and "int4", whose weights are others. "compiled"
rounds differently, so that of two codes that are nearly equally probable the other one may be drawn; in bfloat16 and
float16 this holds for every mode. `experiments.benchmarks.reproducibility` measures what a seed determines. For "auto"
see `csmkit.csm.execution.choose.automatic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from csmkit.csm.model import CsmState
from csmkit.csm.sampling import Noise


class Made(NamedTuple):
    """One frame of every stream of a batch, on the CPU.

    Attributes:
        codes: ``(batch, n_codebooks)`` int64.
        finite: ``(batch,)`` bool, whether the values behind the codes are finite; where not, the codes are invalid.
        sound: ``(batch, 1920)`` float32; None where the step does not decode.
    """

    codes: Tensor
    finite: Tensor
    sound: Tensor | None = None

    @classmethod
    def of(cls, packed: Tensor, sound: Tensor | None = None) -> Made:
        """Unpack what `packed` returned."""
        return cls(packed[:, :-1], packed[:, -1].bool(), sound)


def packed(codes: Tensor, finite: Tensor) -> Tensor:
    """Pack codes and flag into ``(batch, n_codebooks + 1)`` int64, so that one copy brings both to the host."""
    return torch.cat((codes, finite.unsqueeze(1)), dim=1)


class Step(Protocol):
    """Computes the next frame of a batch of streams.

    Attributes:
        makes_sound: whether it can decode frames as it makes them.
        n_warm_ups: number of utterances to generate before timings are representative.
    """

    makes_sound: bool
    n_warm_ups: int

    def warm_up(self, n_streams: int) -> None:
        """Do what streams would have to wait for once, for batches of up to ``n_streams``."""

    def new_state(self, n_positions: int, noise: Noise) -> CsmState:
        """Make the state of one stream, with room for ``n_positions`` positions of prompt and frames together."""

    def join(self, states: Sequence[CsmState]) -> CsmState:
        """Continue the streams of several states as one batch: all before their first frame, or all after it."""

    def take(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """Continue these streams alone, in this order; the others end, and ``state`` is not used any more."""

    def split(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """Copy these streams to a state of their own, in this order; `take` then keeps the others of ``state``."""

    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        """Read rows of the prompt of one stream, ``(1, n_rows, slots)`` int64 and bool on the CPU."""

    def first(self, state: CsmState, aloud: bool = False) -> Made:
        """Make the frame that follows the prompt; ``aloud`` where this frame and the next ones need their sound."""

    def next(self, state: CsmState) -> Made:
        """Read the last frame and make the following one."""
