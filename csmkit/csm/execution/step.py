"""How a frame runs. The model is the same for all modes; what differs is who launches its operations.

- "eager": one by one. On a CPU nothing published is faster for a small voice.
- "graph": recorded once and launched as a whole, `csmkit.csm.execution.cuda_graph`; needs CUDA.
- "compiled": fused by inductor, which takes a minute or more at the first frame; on CUDA recorded on top.
- "int8" and "int4": on a CPU, by ONNX Runtime over weights of 8 and 4 bits, `csmkit.csm.execution.onnx`.
- "static": the recorded frame without a recording, as its tests run it on any device.

In float32 all give the same codes for a seed but "int8" and "int4", whose weights are others; "compiled" rounds
differently, so that two codes of nearly equal weight may change places, and in bfloat16 and float16 so does every mode.
`experiments.benchmarks.reproducibility` measures what a seed determines. For "auto" see `automatic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from csmkit.csm.model import CsmState
from csmkit.csm.sampling import Noise


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

    def split(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """Copy these streams to a state of their own; `take` then has to keep others of ``state``."""
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
