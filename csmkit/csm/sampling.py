"""Seeded top-k sampling without a wait for the device, in a form where temperature 0 is greedy by arithmetic.

``argmax(softmax(l / T) / E)`` with ``E ~ Exp(1)`` draws from the softmax. Its logarithm times T, ``l - T log E``, has
the same argmax, divides by nothing and is plain ``l`` at T = 0.

The noise is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): every value is a hash of
its seed, frame, codebook and index, computed in integers on the model's device. So any device draws the same bits, and
nothing that runs beside a stream can change them. The hash is SplitMix (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators") with the mixing function of Doug Lea, as in "LXM: better splittable pseudorandom number
generators" (Steele and Vigna 2021), whose shifts of 32 bits are one operation each on halves of 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache

import torch
from torch import Tensor

from csmkit.csm.config import CsmConfig, Sampling

GAMMA = 0x9E3779B97F4A7C15  # the counter's step: 2**64 divided by the golden ratio, made odd
MULTIPLIER = 0xDABA0B6EB09322E3
VALUES_AT_ONCE = 2**16  # with fewer, a CPU takes longer to launch the operations than to run them


def mix(x: int) -> int:
    """Doug Lea's mixing function: 64 bits to 64 bits, each of which depends on all."""
    for _ in range(2):
        x = (x ^ (x >> 32)) * MULTIPLIER % 2**64
    return x ^ (x >> 32)


def _signed(x: int) -> int:
    """The int64 that has the same 64 bits."""
    x %= 2**64
    return x - 2**64 if x >= 2**63 else x


@lru_cache(maxsize=16)
def _steps(n_words: int, device: torch.device) -> Tensor:
    """The distance of the counter from a frame's start at each 64-bit word, ``(n_words,)`` int64."""
    return torch.arange(1, n_words + 1, device=device) * _signed(GAMMA)


class Noise:
    """The noise of one batch of streams: each row depends only on its own seed and frame.

    Args:
        samplings: temperature and top-k of each row.
        seeds: seed of each row, in [0, 2**63).

    Attributes:
        counter: ``(batch,)`` int64 on the device, the first value of each row's next frame. A stream of 2 048 frames of
            CSM-1B uses 2**26 of the 2**64 values, so that two seeds practically never share any.
        temperature: ``(batch, n_codebooks, 1)`` float32 on the device.
        topk: ``(batch, 1)`` int64 on the device.
        n_at_once: number of frames of a row whose noise is computed together, at least 1.
    """

    def __init__(
        self, config: CsmConfig, samplings: Sequence[Sampling], seeds: Sequence[int], device: torch.device
    ) -> None:
        self._config = config
        n_words = config.n_codebooks * ((config.codebook_size + 1) // 2)  # of 64 bits, two values each, in a frame
        self._frame_step = _signed(n_words * GAMMA)
        self.n_at_once = max(1, VALUES_AT_ONCE // (2 * n_words))
        self._steps = _steps(self.n_at_once * n_words, device)
        self.counter = torch.tensor([_signed(mix(seed)) for seed in seeds], device=device)
        scale = torch.tensor(
            [[s.temperature] + [s.temperature * s.depth_scale] * (config.n_codebooks - 1) for s in samplings]
        )
        self.temperature = scale.unsqueeze(-1).to(device)
        # Greedy rows need no top-k: the largest logit of all is the largest of the first few, too.
        self._counts = [min(s.topk, config.codebook_size) if s.temperature else config.codebook_size for s in samplings]
        self.topk = torch.tensor(self._counts, device=device)[:, None]
        self._drawn: list[list[Tensor]] = [[] for _ in seeds]  # the next frames of each row

    @property
    def common_topk(self) -> int | None:
        """Top-k as a number; None where the rows differ."""
        return self._counts[0] if len(set(self._counts)) == 1 else None

    @staticmethod
    def join(parts: Sequence[Noise]) -> Noise:
        """The rows of several noises in one; each continues from its state."""
        joined = copy(parts[0])
        joined.counter = torch.cat([part.counter for part in parts])
        joined.temperature = torch.cat([part.temperature for part in parts])
        joined.topk = torch.cat([part.topk for part in parts])
        joined._counts = [count for part in parts for count in part._counts]
        joined._drawn = [list(frames) for part in parts for frames in part._drawn]
        return joined

    def take(self, rows: Sequence[int]) -> Noise:
        """These rows alone; each continues from its state."""
        taken, index = copy(self), list(rows)
        taken.counter, taken.temperature, taken.topk = self.counter[index], self.temperature[index], self.topk[index]
        taken._counts = [self._counts[row] for row in index]
        taken._drawn = [list(self._drawn[row]) for row in index]
        return taken

    def load(self, row: int, other: Noise, other_rows: Sequence[int]) -> None:
        """Copy rows of another noise to those from ``row`` on, with their state; tensors keep their addresses."""
        index = list(other_rows)
        rows = slice(row, row + len(index))
        for mine, theirs in (
            (self.counter, other.counter),
            (self.temperature, other.temperature),
            (self.topk, other.topk),
        ):
            mine[rows] = theirs[index]

    def draw(self) -> Tensor:
        """``-T log E`` for the next frame, ``(batch, n_codebooks, codebook_size)`` float32 on the device."""
        for row, frames in enumerate(self._drawn):
            if not frames:
                frames += self._frames(slice(row, row + 1), self.n_at_once).unbind(1)
        self.counter.add_(self._frame_step)
        return torch.cat([frames.pop(0) for frames in self._drawn])

    def draw_in_place(self) -> Tensor:
        """As `draw`, by the same operations in every call, as a CUDA graph needs it."""
        noise = self._frames(slice(None), 1)[:, 0]
        self.counter.add_(self._frame_step)
        return noise

    def _frames(self, rows: slice, n_frames: int) -> Tensor:
        """The noise of rows for this frame and those that follow it, ``(batch, n_frames, n_codebooks, size)``."""
        temperature = self.temperature[rows]
        steps = self._steps[: n_frames * len(self._steps) // self.n_at_once]
        uniform = torch.add(0.5, hashed(self.counter[rows, None] + steps), alpha=2.0**-32)
        uniform = uniform.view(len(temperature), n_frames, temperature.shape[1], -1)
        return exponential(uniform[..., : self._config.codebook_size], temperature[:, None])


def hashed(counter: Tensor) -> Tensor:
    """`mix` of int64 ``(batch, n)``, which is overwritten, as ``(batch, 2 * n)`` int32: the lower half, then the upper.

    One 64-bit word ``x`` gives ``x ^ x >> 32`` by an operation on its halves, without a mask for the sign.
    """
    halves = counter.view(torch.int32)
    lower, upper = halves[:, ::2], halves[:, 1::2]
    for _ in range(2):
        lower.bitwise_xor_(upper)
        counter.mul_(_signed(MULTIPLIER))
    lower.bitwise_xor_(upper)
    return halves


def exponential(uniform: Tensor, temperature: Tensor) -> Tensor:
    """``-T log E`` of uniform numbers in [0, 1], which are overwritten."""
    # Without 0 and 1, which rounding can give and whose logarithms are infinite.
    return uniform.clamp_(2.0**-33, 1.0 - 2.0**-24).log_().neg_().log_().mul_(-temperature)


def sample(logits: Tensor, noise: Tensor, topk: int | Tensor) -> tuple[Tensor, Tensor]:
    """Sample one id for each row from its ``topk`` largest logits; logits equal to the kth stay, too.

    Args:
        logits: ``(batch, codebook_size)`` in any floating dtype.
        noise: the same shape, from `Noise.draw`.
        topk: number of logits, at least 1; ``(batch, 1)`` int64, at most codebook_size, if the rows differ.

    Returns:
        The ids, ``(batch,)`` int64, and their scores, ``(batch,)`` float32: not a number or infinite if a logit
        was (minus infinity is never drawn). Both are on the logits' device; nothing is copied to the host.
    """
    logits = logits.float()
    scores = logits + noise
    if isinstance(topk, Tensor):
        kth = logits.sort(dim=-1, descending=True).values.gather(-1, topk - 1)
    elif topk < logits.shape[-1]:
        kth = logits.topk(topk, dim=-1).values[:, -1:]
    else:
        kth = None
    if kth is not None:
        scores.masked_fill_(logits < kth, -torch.inf)
    best, ids = scores.max(dim=-1)
    return ids, best
