"""The mode "eager": one operation at a time, on any device. Attention reads only the cache rows in use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csmkit.csm.attention import prefix_span, separate_span
from csmkit.csm.execution.step import Made, packed
from csmkit.csm.model import CsmModel, CsmState, Stacks
from csmkit.csm.sampling import Noise
from csmkit.csm.transformer import AttentionSpan, StreamCaches


class EagerStep:
    """See `csmkit.csm.execution.step.Step`.

    Args:
        model: the model with its weights, on its device.
        stacks: functions to call in place of the model's own stacks and heads.

    Attributes:
        stacks: functions called in place of the model's own; None where the model's are called.
    """

    makes_sound = False
    n_warm_ups = 1

    def __init__(self, model: CsmModel, stacks: Stacks | None = None) -> None:
        self._model, self.stacks = model, stacks
        with torch.inference_mode():
            self._depth_spans = depth_spans(model)

    def warm_up(self, n_streams: int) -> None:
        """As `Step.warm_up`: nothing is prepared."""

    @torch.inference_mode()
    def next(self, state: CsmState) -> Made:
        state.hidden = self._model.read_frame(state, self.advance(state, 1), self.stacks)
        return self.first(state)

    @torch.inference_mode()
    def first(self, state: CsmState, aloud: bool = False) -> Made:
        noise = state.noise
        topk = noise.topk if noise.common_topk is None else noise.common_topk
        state.codes, finite = self._model.speak_frame(state, noise.draw(), topk, self._depth_spans, self.stacks)
        return Made.of(packed(state.codes, finite).cpu())

    @torch.inference_mode()
    def read(self, state: CsmState, tokens: Tensor, mask: Tensor) -> None:
        device = self._model.device
        span = self.advance(state, tokens.shape[1])
        state.hidden = self._model.read_prompt(state, tokens.to(device), mask.to(device), span, stacks=self.stacks)

    def advance(self, state: CsmState, n_new: int) -> AttentionSpan:
        """Return what the next ``n_new`` positions of each stream attend to, and count them as used."""
        cache = state.backbone
        if isinstance(cache, StreamCaches):
            span = separate_span(self._model.backbone, cache.lengths)
        else:
            span = prefix_span(self._model.backbone, cache.length, n_new)
        cache.advance(n_new)
        return span

    def new_state(self, n_positions: int, noise: Noise) -> CsmState:
        return self._model.new_state(n_positions, noise)

    def join(self, states: Sequence[CsmState]) -> CsmState:
        return CsmState.join(states)

    def take(self, state: CsmState, rows: Sequence[int]) -> CsmState:
        return state.take(rows)

    split = take  # streams with caches of their own are not copied


def depth_spans(model: CsmModel) -> list[AttentionSpan]:
    """What each pass of the depth decoder attends to: two new positions in the first pass, then one in each."""
    others = (prefix_span(model.depth, index, 1) for index in range(2, model.config.n_codebooks))
    return [prefix_span(model.depth, 0, 2), *others]
