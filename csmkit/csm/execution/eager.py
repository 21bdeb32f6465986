"""The frame operation by operation, on any device: it looks only at the cache rows in use, by a host integer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csmkit.csm.attention import prefix_reach, ragged_reach
from csmkit.csm.execution.step import Made, packed
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.sampling import Noise
from csmkit.csm.transformer import Reach


class EagerStep:
    """See `csmkit.csm.execution.step.Step`.

    Args:
        model: with weights, on its device.
        stacks: to run in place of the model's own.

    Attributes:
        stacks: as given.
    """

    makes_sound = False
    n_warm_ups = 1
    warm_up_rows = ()

    def __init__(self, model: CsmModel, stacks: Stacks | None = None) -> None:
        self._model, self.stacks = model, stacks
        with torch.inference_mode():
            self._depth_reaches = depth_reaches(model)

    def new_state(self, n_positions: int, noise: Noise) -> CsmState:
        """As `Step.new_state`."""
        return self._model.new_state(n_positions, noise)

    def join(self, states: Sequence[CsmState]) -> CsmState:
        """As `Step.join`."""
        return CsmState.join(states)

    def take(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """As `Step.take`."""
        return state.take(rows)

    def split(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        """As `Step.split`."""
        return state.take(rows)

    @torch.inference_mode()
    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        """As `Step.read`."""
        device = self._model.device
        reach = self._advance(state, tokens.shape[1])
        hidden = self._model.read_prompt(state, tokens.to(device), mask.to(device), reach, stacks=self.stacks)
        state.hidden = hidden

    @torch.inference_mode()
    def first(self, state: CsmState, aloud: bool = False) -> Made:
        """As `Step.first`."""
        return self._speak(state)

    @torch.inference_mode()
    def next(self, state: CsmState) -> Made:
        """As `Step.next`."""
        state.hidden = self._model.read_frame(state, self._advance(state, 1), self.stacks)
        return self._speak(state)

    def _speak(self, state: CsmState) -> Made:
        noise = state.noise
        topk = noise.topk if noise.common_topk is None else noise.common_topk
        noise, reaches = noise.draw(), self._depth_reaches
        state.codes, finite = self._model.speak_frame(state, noise, topk, reaches, self.stacks)
        return Made.of(packed(state.codes, finite).cpu())

    def _advance(self, state: CsmState, n_new: int) -> Reach:
        cache = state.backbone
        if len(set(cache.lengths)) == 1:
            reach = prefix_reach(self._model.backbone, cache.lengths[0], n_new)
        else:
            reach = ragged_reach(self._model.backbone, cache.lengths)
        cache.advance(n_new)
        return reach


def depth_reaches(model: CsmModel) -> list[Reach]:
    """Of the depth decoder's passes: two positions in the first, then one each."""
    others = (prefix_reach(model.depth, index, 1) for index in range(2, model.config.n_codebooks))
    return [prefix_reach(model.depth, 0, 2), *others]
