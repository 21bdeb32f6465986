"""Seeded top-k sampling without a wait for the device, in a form where temperature 0 is greedy by arithmetic.

``argmax(softmax(l / T) / E)`` with ``E ~ Exp(1)`` draws from the softmax. Its logarithm times T, ``l - T log E``, has
the same argmax, divides by nothing and is plain ``l`` at T = 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from csmkit.csm.config import CsmConfig, Sampling


class Noise:
    """The noise of one batch of streams: each row from its own seed, a frame at a time.

    One draw a frame and a row, of one shape, on the CPU: a seed gives the same codes whatever the chunk size, the batch
    row, the execution mode or the device.

    Args:
        samplings: of each row.
        seeds: of each row; a generator goes on where it is.

    Attributes:
        temperature: ``(batch, n_codebooks, 1)`` float32 on the device.
        topk: what `sample` takes: a number, or ``(batch, 1)`` int64 on the device where the rows differ.
    """

    def __init__(
        self,
        config: CsmConfig,
        samplings: Sequence[Sampling],
        seeds: Sequence[int | torch.Generator],
        device: torch.device,
    ) -> None:
        self._config, self._samplings, self._device = config, tuple(samplings), device
        self._generators = [
            seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed) for seed in seeds
        ]
        self._uniform = torch.empty(len(seeds), config.n_codebooks, config.codebook_size)
        scale = torch.tensor(
            [[s.temperature] + [s.temperature * s.depth_scale] * (config.n_codebooks - 1) for s in samplings]
        )
        self.temperature = scale.unsqueeze(-1).to(device)
        # The largest of all is the largest of any few: where nothing is drawn, nothing need be left out.
        counts = [min(s.topk, config.codebook_size) if s.temperature else config.codebook_size for s in samplings]
        self.topk: int | Tensor = counts[0] if len(set(counts)) == 1 else torch.tensor(counts, device=device)[:, None]

    @staticmethod
    def join(parts: Sequence[Noise]) -> Noise:
        """The rows of several, each going on where it was."""
        samplings = [sampling for part in parts for sampling in part._samplings]
        generators = [generator for part in parts for generator in part._generators]
        return Noise(parts[0]._config, samplings, generators, parts[0]._device)

    def take(self, rows: Sequence[int]) -> Noise:
        """These rows alone, each going on where it was."""
        samplings, generators = [self._samplings[row] for row in rows], [self._generators[row] for row in rows]
        return Noise(self._config, samplings, generators, self._device)

    def fill(self, uniform: Iterable[Tensor]) -> None:
        """Draw for the next frame: write ``(n_codebooks, codebook_size)`` float32 on the CPU for each row."""
        for row, generator in zip(uniform, self._generators, strict=True):
            row.uniform_(generator=generator)

    def draw(self) -> Tensor:
        """``-T log E`` for the next frame, ``(batch, n_codebooks, codebook_size)`` float32 on the device."""
        self.fill(self._uniform)
        return exponential(self._uniform.to(self._device), self.temperature)


def exponential(uniform: Tensor, temperature: Tensor) -> Tensor:
    """``-T log E`` of uniform numbers in [0, 1], which are left as they are."""
    # Away from 0, whose logarithm is infinite; float32 uniforms never reach 1 but may round to it on a device.
    return uniform.clamp(min=1e-20, max=1.0 - 2.0**-24).log_().neg_().log_().mul_(-temperature)


def sample(logits: Tensor, noise: Tensor, topk: int | Tensor) -> Tensor:
    """Draw one id a row among its ``topk`` largest logits; those equal to the kth stay too.

    Args:
        logits: ``(batch, codebook_size)``.
        noise: the same shape, from `Noise.draw`.
        topk: at least 1; ``(batch, 1)`` int64 where each row has its own, none above codebook_size.

    Returns:
        ``(batch,)`` int64 on the logits' device; nothing is read back to the host.
    """
    logits = logits.float()
    if isinstance(topk, Tensor):
        kth = logits.sort(dim=-1, descending=True).values.gather(-1, topk - 1)
    elif topk >= logits.shape[-1]:
        return (logits + noise).argmax(dim=-1)
    else:
        kth = logits.topk(topk, dim=-1).values[:, -1:]
    return (logits + noise).masked_fill_(logits < kth, -torch.inf).argmax(dim=-1)
