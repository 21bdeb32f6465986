"""The network of CSM: reads a prompt, then generates one frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.csm.config import CsmConfig
from csmkit.csm.sampling import Noise, sample
from csmkit.csm.transformer import AttentionSpan, KvCache, StreamCaches, Transformer, new_weight, product


@dataclass
class CsmState:
    """The state of one batch of streams; to end them, drop it.

    Attributes:
        backbone: keys and values of the backbone.
        depth: keys and values of the depth decoder, which are overwritten in every frame.
        noise: random numbers, temperature and top-k of each row.
        hidden: ``(batch, dim)``, the backbone's output at its last position; zeros before the prompt.
        codes: ``(batch, n_codebooks)`` int64, the last frame.
    """

    backbone: KvCache | StreamCaches
    depth: KvCache
    noise: Noise
    hidden: Tensor
    codes: Tensor

    @classmethod
    def join(cls, states: Sequence[CsmState]) -> CsmState:
        """The streams of several states as one batch, in their order; each continues from its state."""
        if len(states) == 1:
            return states[0]
        return cls(
            StreamCaches.join([state.backbone for state in states]),
            states[0].depth.resized(sum(len(state.codes) for state in states)),
            Noise.join([state.noise for state in states]),
            torch.cat([state.hidden for state in states]),
            torch.cat([state.codes for state in states]),
        )

    def take(self, rows: Sequence[int]) -> CsmState:
        """These streams alone, in this order; the others end."""
        index = list(rows)
        if not isinstance(self.backbone, StreamCaches):  # one stream
            return self
        return CsmState(
            self.backbone.take(index),
            self.depth.resized(len(index)),
            self.noise.take(index),
            self.hidden[index],
            self.codes[index],
        )


class Stacks(NamedTuple):
    """Both transformers and the heads as functions, such as compiled ones.

    Attributes:
        backbone, depth: functions with the interface of `Transformer.forward`.
        head: function with the interface of `CsmModel.head`.
    """

    backbone: Callable[[Tensor, AttentionSpan, KvCache | StreamCaches], Tensor]
    depth: Callable[[Tensor, AttentionSpan, KvCache], Tensor]
    head: Callable[[int, Tensor], Tensor]


class CsmModel(nn.Module):
    """The two stacks, their embeddings and heads. Weights are ``(in, out)``.

    The heads have ``codebook_size`` outputs: ids that the codec does not know have none, so they cannot be sampled.
    ``depth_embedding`` is the audio embedding already projected to the depth decoder's width, for the codebooks
    that are fed back.
    """

    def __init__(self, config: CsmConfig) -> None:
        super().__init__()
        self.config = config
        dim, depth_dim, n_others = config.backbone.dim, config.depth.dim, config.n_codebooks - 1
        # One position more than may be used, for frames whose result is discarded.
        self.backbone = Transformer(config.backbone, config.backbone.max_positions + 1)
        self.depth = Transformer(config.depth, config.n_codebooks)
        self.text_embedding = new_weight(config.text_vocab, dim)
        self.audio_embedding = new_weight(config.n_codebooks * config.audio_vocab, dim)
        self.depth_embedding = new_weight(n_others, config.audio_vocab, depth_dim)
        self.projection = new_weight(dim, depth_dim)
        self.first_head = new_weight(dim, config.codebook_size)
        self.other_heads = new_weight(n_others, depth_dim, config.codebook_size)
        offsets = torch.arange(config.n_codebooks) * config.audio_vocab
        self.register_buffer("offsets", offsets, persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.projection.device

    def new_state(self, n_positions: int, noise: Noise, batch: int = 1) -> CsmState:
        """A new state for ``n_positions`` positions, prompt and frames together."""
        config, like = self.config, self.projection
        return CsmState(
            backbone=KvCache.empty(config.backbone, batch, n_positions, like),
            depth=KvCache.empty(config.depth, batch, config.n_codebooks, like),
            noise=noise,
            hidden=like.new_zeros(batch, config.backbone.dim),
            codes=torch.zeros(batch, config.n_codebooks, dtype=torch.int64, device=like.device),
        )

    def head(self, index: int, hidden: Tensor) -> Tensor:
        """Logits of one codebook from ``(batch, dim)`` of the stack that makes it: the backbone for index 0."""
        return product(hidden, self.first_head if index == 0 else self.other_heads[index - 1])

    def read_prompt(
        self,
        state: CsmState,
        tokens: Tensor,
        mask: Tensor,
        span: AttentionSpan,
        last: Tensor | None = None,
        stacks: Stacks | None = None,
    ) -> Tensor:
        """Run the backbone over prompt rows; their keys and values are written to the state's cache.

        Args:
            state: state of the streams.
            tokens: ``(batch, n_rows, slots)`` int64.
            mask: ``(batch, n_rows, slots)`` bool; True for the slots that are used.
            span: what these rows attend to.
            last: ``(1,)`` int64 on the device, the last row that is used; None for the last of all.
            stacks: called in place of the model's own stacks.

        Returns:
            ``(batch, dim)``, the next `CsmState.hidden`; the caller stores it.
        """
        text = F.embedding(tokens[..., -1], self.text_embedding) * mask[..., -1:]
        codes = (tokens[..., :-1] + self.offsets).flatten(0, 1)
        weights = mask[..., :-1].flatten(0, 1).to(text.dtype)
        audio = F.embedding_bag(codes, self.audio_embedding, mode="sum", per_sample_weights=weights)
        hidden = (stacks or self).backbone(text + audio.view_as(text), span, state.backbone)
        return hidden[:, -1] if last is None else hidden.index_select(1, last)[:, 0]

    def read_frame(self, state: CsmState, span: AttentionSpan, stacks: Stacks | None = None) -> Tensor:
        """Run the backbone over the state's codes; arguments and result as `read_prompt`."""
        x = F.embedding(state.codes + self.offsets, self.audio_embedding).sum(dim=1, keepdim=True)
        return (stacks or self).backbone(x, span, state.backbone)[:, -1]

    def speak_frame(
        self,
        state: CsmState,
        noise: Tensor,
        topk: int | Tensor,
        spans: Sequence[AttentionSpan],
        stacks: Stacks | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sample the codes of the frame that follows the state's hidden output of the backbone.

        Args:
            state: state of the streams.
            noise: the result of `Noise.draw`.
            topk: number of codes to sample from, as for `sample`.
            spans: what each pass of the depth decoder attends to; the first pass has two positions, for the backbone's
                output and the first code.
            stacks: called in place of the model's own stacks and heads.

        Returns:
            The next `CsmState.codes`, ``(batch, n_codebooks)`` int64, which the caller stores; and ``(batch,)`` bool on
            the device, whether the values that they were sampled from are finite.
        """
        depth, head = (stacks or self).depth, (stacks or self).head
        code, best = sample(head(0, state.hidden), noise[:, 0], topk)
        codes, scores = [code], [best]
        x = torch.stack((state.hidden @ self.projection, self.depth_embedding[0][code]), dim=1)
        for index, span in enumerate(spans, start=1):
            hidden = depth(x, span, state.depth)[:, -1]
            code, best = sample(head(index, hidden), noise[:, index], topk)
            codes.append(code)
            scores.append(best)
            if index < self.config.n_codebooks - 1:
                x = F.embedding(code, self.depth_embedding[index]).unsqueeze(1)
        return torch.stack(codes, dim=1), torch.stack(scores, dim=1).isfinite().all(dim=1)
