"""An exact streaming decoder of Mimi: its samples do not depend on the number of frames of a call.

Architecture: Défossez et al. 2024, "Moshi", section 3.3 (SEANet with a transformer bottleneck).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.mimi.config import MimiConfig
from csmkit.mimi.layers import CausalConv, Dense, DepthwiseUpsample, Stage

MAX_CHUNK_FRAMES = 8  # frames of one pass; longer calls are split, so that the ring of keys and values has one size

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


@dataclass
class MimiState:
    """The state of one stream, or of a batch of streams; tensors are updated in place.

    Attributes:
        position: ``(batch,)`` int64, number of latents decoded so far.
        histories: last inputs of each convolution, ``((kernel - 1) * dilation, batch, channels)``, in calling order.
        keys: ``(layers, batch, kv heads, capacity, head dim)``, a ring over the last latents.
        values: values of the same latents, in the same shape as ``keys``.
    """

    position: Tensor
    histories: list[Tensor]
    keys: Tensor
    values: Tensor

    def take(self, rows: Sequence[int]) -> MimiState:
        """Copy these streams, in this order."""
        index = list(rows)
        histories = [history[:, index] for history in self.histories]
        return MimiState(self.position[index], histories, self.keys[:, index], self.values[:, index])

    def view(self, start: int, end: int) -> MimiState:
        """The streams from ``start`` up to ``end``, over the same memory."""
        histories = [history[:, start:end] for history in self.histories]
        return MimiState(self.position[start:end], histories, self.keys[:, start:end], self.values[:, start:end])

    @staticmethod
    def gather(rows: Sequence[tuple[MimiState, int]]) -> MimiState:
        """Copy streams, each given as its state and its row there, into one state."""
        parts = [state.view(row, row + 1) for state, row in rows]
        return MimiState(
            torch.cat([part.position for part in parts]),
            [torch.cat(histories, dim=1) for histories in zip(*(part.histories for part in parts), strict=True)],
            torch.cat([part.keys for part in parts], dim=1),
            torch.cat([part.values for part in parts], dim=1),
        )

    def load(self, other: MimiState, rows: Sequence[int], start: int = 0) -> None:
        """Copy these streams of another state to the rows from ``start`` on; tensors keep their addresses."""
        taken = other.take(rows)
        for mine, theirs in zip(self.tensors, taken.tensors, strict=True):
            mine.narrow(0 if mine.ndim == 1 else 1, start, len(rows)).copy_(theirs)

    def restart(self) -> None:
        """Begin new streams in all rows; tensors keep their addresses."""
        for tensor in (self.position, *self.histories):  # the ring is read only up to the position
            tensor.zero_()

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor of the state."""
        return [self.position, self.keys, self.values, *self.histories]


@dataclass
class Places:
    """Positions of the latents of one pass, for all layers.

    Attributes:
        slots: ``(batch, steps)`` ring slots to write.
        mask: ``(batch, 1, steps, capacity)``, 0 where a latent attends to a slot, else -inf.
        cos: ``(batch, 1, steps, head dim / 2)``, cosine of the rotary angles.
        sin: sine of the rotary angles, of the same shape as ``cos``.
    """

    slots: Tensor
    mask: Tensor
    cos: Tensor
    sin: Tensor


def rotate(x: Tensor, places: Places) -> Tensor:
    """Half-split rotary embedding (Su et al. 2021) of ``(batch, heads, steps, head dim)``."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = places.cos, places.sin
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def write(ring: Tensor, slots: Tensor, new: Tensor) -> None:
    """Write ``new``, ``(batch, heads, steps, head dim)``, to the slots of a ring ``(batch, heads, capacity, ...)``."""
    if len(slots) == 1:
        ring.index_copy_(2, slots[0], new)
    else:
        ring.scatter_(2, slots[:, None, :, None].expand_as(new), new)


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP. LayerScale is folded into the output projections when weights are loaded."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        n_all_heads = config.n_heads + 2 * config.n_kv_heads
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.qkv = Dense(config.dim, n_all_heads * config.head_dim, bias=config.attention_bias)
        self.out = Dense(config.n_heads * config.head_dim, config.dim, bias=config.attention_bias)
        self.mlp_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.up = Dense(config.dim, config.ffn_dim, bias=False)
        self.down = Dense(config.ffn_dim, config.dim, bias=False)
        self.activation = _ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, places: Places) -> Tensor:
        """Run ``(steps, batch, dim)``, and write their keys and values to the ring."""
        x = x + self.attend(self.attention_norm(x), keys, values, places)
        return x + self.down(self.activation(self.up(self.mlp_norm(x))))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, places: Places) -> Tensor:
        n_steps, batch, _ = x.shape
        n_rotated = self.n_heads + self.n_kv_heads
        heads = self.qkv(x).view(n_steps, batch, n_rotated + self.n_kv_heads, -1).permute(1, 2, 0, 3)
        rotated = rotate(heads[:, :n_rotated], places)
        write(keys, places.slots, rotated[:, self.n_heads :])
        write(values, places.slots, heads[:, n_rotated:])
        groups = self.n_heads // self.n_kv_heads
        if groups > 1:
            keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
        mixed = F.scaled_dot_product_attention(rotated[:, : self.n_heads], keys, values, attn_mask=places.mask)
        return self.out(mixed.permute(2, 0, 1, 3).flatten(2))


class MimiDecoder(nn.Module):
    """Turns codes into samples; the caller holds the state of the streams.

    `csmkit.mimi.checkpoint` loads the weights; a new decoder has none.
    """

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        replicate = config.pad_mode == "replicate"
        self.tables = nn.Parameter(torch.empty(config.n_codebooks * config.codebook_size, config.dim))
        depthwise = config.upsample_groups == config.dim
        self.upsample: nn.Module = (
            DepthwiseUpsample(config.dim, config.upsample)
            if depthwise
            else CausalConv(config.dim, config.dim, 2, stride=config.upsample)
        )
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.n_layers))
        n_channels = config.n_filters * 2 ** len(config.ratios)
        self.first = CausalConv(config.dim, n_channels, config.kernel_size, replicate=replicate)
        self.stages = nn.ModuleList(
            Stage(config, n_channels // 2**stage, ratio) for stage, ratio in enumerate(config.ratios)
        )
        self.last = CausalConv(config.n_filters, 1, config.last_kernel_size, replicate=replicate)
        self.capacity = config.window - 1 + MAX_CHUNK_FRAMES * config.upsample
        self.register_constants()

    def register_constants(self) -> None:
        """Register index and frequency tables, in float32 for any dtype of the weights."""
        config = self.config
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self.register_buffer("frequencies", 1.0 / config.rope_theta**exponents, persistent=False)
        offsets = torch.arange(config.n_codebooks) * config.codebook_size
        self.register_buffer("offsets", offsets[:, None, None], persistent=False)
        self.register_buffer("ring", torch.arange(self.capacity), persistent=False)

    def new_state(self, batch: int = 1) -> MimiState:
        """Make the state of ``batch`` streams that have decoded nothing, on the decoder's device."""
        config, weight = self.config, self.tables
        convolutions = (module for module in self.modules() if isinstance(module, (CausalConv, DepthwiseUpsample)))
        shape = (config.n_layers, batch, config.n_kv_heads, self.capacity, config.head_dim)
        with torch.inference_mode(False):  # a stream opened in inference mode can be used outside, too
            return MimiState(
                position=torch.zeros(batch, dtype=torch.int64, device=weight.device),
                histories=[weight.new_zeros(conv.n_history, batch, conv.n_inputs) for conv in convolutions],
                keys=weight.new_zeros(shape),
                values=weight.new_zeros(shape),
            )

    def forward(self, codes: Tensor, state: MimiState) -> Tensor:
        """Decode the next frames of a stream, or of each stream of a batch.

        Args:
            codes: ``(n_codebooks, n_frames)`` int64 on the decoder's device, each in [0, codebook_size), unchecked; or
                ``(batch, n_codebooks, n_frames)``.
            state: state of the streams, which is advanced by ``n_frames``.

        Returns:
            ``(n_frames * frame_samples,)`` samples in the dtype of the weights; or ``(batch, samples)``.
        """
        if codes.ndim == 2:
            return self.forward(codes.unsqueeze(0), state)[0]
        if codes.shape[2] > MAX_CHUNK_FRAMES:
            return torch.cat([self.forward(part, state) for part in codes.split(MAX_CHUNK_FRAMES, dim=2)], dim=1)
        histories = iter(state.histories)
        new = (state.position == 0).unsqueeze(1)
        latents = F.embedding(codes.permute(1, 2, 0) + self.offsets, self.tables).sum(0)
        x = self.upsample(latents, next(histories), new)
        x = self.transform(x, state)
        x = self.first(x, next(histories), new)
        for stage in self.stages:
            x = stage(x, histories, new)
        samples = self.last(F.elu_(x), next(histories), new)
        return samples.squeeze(2).t()

    def transform(self, x: Tensor, state: MimiState) -> Tensor:
        """The transformer over ``(steps, batch, dim)`` latents."""
        places = self.place(state.position, x)
        for layer, keys, values in zip(self.layers, state.keys, state.values, strict=True):
            x = layer(x, keys, values, places)
        state.position.add_(x.shape[0])
        return x

    def place(self, position: Tensor, x: Tensor) -> Places:
        """Ring slots, mask and rotary angles of the latents ``x`` from ``position`` on; never syncs."""
        steps = position.unsqueeze(1) + self.ring[: x.shape[0]]
        angles = steps[:, None, :, None].float() * self.frequencies
        newest = steps[:, -1:]
        held = (newest - (newest - self.ring) % self.capacity).unsqueeze(1)  # the step of each slot, negative if unused
        age = steps.unsqueeze(2) - held
        seen = ((age >= 0) & (age < self.config.window) & (held >= 0)).unsqueeze(1)
        mask = torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill_(~seen, float("-inf"))
        return Places(steps % self.capacity, mask, angles.cos().to(x.dtype), angles.sin().to(x.dtype))
