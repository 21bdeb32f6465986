"""Seeded top-k sampling without a wait for the device, in a form where temperature 0 is greedy by arithmetic.

``argmax(softmax(l / T) / E)`` with ``E ~ Exp(1)`` draws from the softmax. Its logarithm times T, ``l - T log E``, has
the same argmax, divides by nothing and is plain ``l`` at T = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csmkit.csm.config import CsmConfig, Sampling


class Noise:
    """The noise of one batch of streams: each row from its own seed, a frame at a time.

    One draw a frame, of one shape, on the CPU: a seed gives the same codes whatever the chunk size, the batch row, the
    execution mode or the device.
    """

    def __init__(
        self, config: CsmConfig, samplings: Sequence[Sampling], seeds: Sequence[int], device: torch.device
    ) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._uniform = torch.empty(len(seeds), config.n_codebooks, config.codebook_size)
        scale = torch.tensor(
            [[s.temperature] + [s.temperature * s.depth_scale] * (config.n_codebooks - 1) for s in samplings]
        )
        self._temperature = scale.unsqueeze(-1).to(device)

    def draw(self) -> Tensor:
        """``-T log E`` for the next frame, ``(batch, n_codebooks, codebook_size)`` float32 on the device."""
        for row, generator in zip(self._uniform, self._generators, strict=True):
            row.uniform_(generator=generator)
        # Away from 0, whose logarithm is infinite; float32 uniforms never reach 1 but may round to it on a device.
        uniform = self._uniform.to(self._temperature.device).clamp(min=1e-20, max=1.0 - 2.0**-24)
        return uniform.log_().neg_().log_().mul_(-self._temperature)


def sample(logits: Tensor, noise: Tensor, topk: int) -> Tensor:
    """Draw one id a row among its ``topk`` largest logits; those equal to the kth stay too.

    Args:
        logits: ``(batch, codebook_size)``.
        noise: the same shape, from `Noise.draw`.
        topk: at least 1.

    Returns:
        ``(batch,)`` int64 on the logits' device; nothing is read back to the host.
    """
    logits = logits.float()
    if topk >= logits.shape[-1]:
        return (logits + noise).argmax(dim=-1)
    kth = logits.topk(topk, dim=-1).values[:, -1:]
    return (logits + noise).masked_fill_(logits < kth, -torch.inf).argmax(dim=-1)
