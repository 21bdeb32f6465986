"""How a frame runs. Everything about devices and execution modes is here; the model is the same for all of them.

"eager" runs operation by operation and looks only at the cache rows in use, by a host integer. A captured or compiled
mode needs constant shapes: `whole_reach` gives it the same result from a position that is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from csmkit.csm.model import CsmModel, CsmState
from csmkit.csm.transformer import Reach, Transformer
from csmkit.errors import InputError


class Step(Protocol):
    """Runs a state forward."""

    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        """Read rows of the prompt, ``(batch, n_rows, slots)`` int64 and bool on the model's device."""
        ...

    def first(self, state: CsmState) -> Tensor:
        """The codes that follow the prompt, as `next`."""
        ...

    def next(self, state: CsmState) -> Tensor:
        """Read the last frame; the codes of the following one, ``(batch, n_codebooks)`` int64 on the model's device."""
        ...


def prefix_reach(transformer: Transformer, start: int, n_new: int) -> Reach:
    """Positions ``start`` to ``start + n_new`` that look at the rows before them and at themselves."""
    positions = torch.arange(start, start + n_new, device=transformer.norm.device)
    cos, sin = transformer.rotation(positions)
    if n_new == 1:
        return Reach(positions, cos, sin, span=start + 1)
    seen = torch.arange(start + n_new, device=positions.device) <= positions[:, None]
    return Reach(positions, cos, sin, start + n_new, seen.repeat_interleave(transformer.config.group, dim=0))


def ragged_reach(transformer: Transformer, lengths: Sequence[int]) -> Reach:
    """One new position for each stream of a batch, after the rows that stream has."""
    positions = torch.tensor(lengths, device=transformer.norm.device).unsqueeze(1)
    cos, sin = transformer.rotation(positions)
    span = max(lengths) + 1
    seen = torch.arange(span, device=positions.device) <= positions
    return Reach(positions, cos, sin, span, seen[:, None, None].expand(-1, -1, transformer.config.group, -1))


def whole_reach(transformer: Transformer, position: Tensor, n_positions: int) -> Reach:
    """One position, ``(1,)`` int64 on the device, that looks at the whole cache through a mask: constant shapes."""
    cos, sin = transformer.rotation(position)
    seen = torch.arange(n_positions, device=position.device) <= position[:, None]
    return Reach(position, cos, sin, n_positions, seen.expand(transformer.config.group, -1))


class EagerStep:
    """Operation by operation, on any device."""

    def __init__(self, model: CsmModel) -> None:
        self._model = model
        with torch.inference_mode():
            first = prefix_reach(model.depth, 0, 2)
            others = (prefix_reach(model.depth, index, 1) for index in range(2, model.config.n_codebooks))
            self._depth_reaches = [first, *others]

    @torch.inference_mode()
    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        """As `Step.read`."""
        self._model.read_prompt(state, tokens, mask, self._advance(state, tokens.shape[1]))

    @torch.inference_mode()
    def first(self, state: CsmState) -> Tensor:
        """As `Step.first`."""
        return self._model.speak_frame(state, self._depth_reaches)

    @torch.inference_mode()
    def next(self, state: CsmState) -> Tensor:
        """As `Step.next`."""
        self._model.read_frame(state, self._advance(state, 1))
        return self._model.speak_frame(state, self._depth_reaches)

    def _advance(self, state: CsmState, n_new: int) -> Reach:
        cache = state.backbone
        if len(set(cache.lengths)) == 1:
            reach = prefix_reach(self._model.backbone, cache.lengths[0], n_new)
        else:
            reach = ragged_reach(self._model.backbone, cache.lengths)
        cache.advance(n_new)
        return reach


_MODES: dict[str, Callable[[CsmModel], Step]] = {"eager": EagerStep}


def make_step(model: CsmModel, execution: str) -> Step:
    """The step of an execution mode; "auto" chooses the fastest that the model's device has.

    Raises:
        InputError: an unknown mode.
    """
    mode = "eager" if execution == "auto" else execution
    if mode not in _MODES:
        raise InputError(f"execution={execution!r}: the modes are 'auto', {', '.join(map(repr, _MODES))}")
    return _MODES[mode](model)
