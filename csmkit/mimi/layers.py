"""Matrix products, causal convolutions and the stages of SEANet, over ``(steps, batch, channels)``.

Two identities keep them small and fast. A transposed convolution whose kernel is twice its stride is a causal one of
kernel 2 that makes ``stride * channels`` values a step; and with time before channels, a causal convolution is the sum
over its taps of matrix products with shifted rows. So all is matrix products, and all it remembers is its last inputs.
Time comes before the batch, so that a shift in time leaves the rows of all streams in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csmkit.kernels import project
from csmkit.mimi.config import MimiConfig

FEW_ROWS = 4  # up to so many rows a product takes the time of reading its weight
WORTH_PACKING = 512  # number of values of a weight; smaller weights are faster unpacked


class Dense(nn.Module):
    """A matrix product over ``(steps, batch, inputs)``."""

    def __init__(self, n_inputs: int, n_outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.empty(n_outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return project(x, self.weight, self.bias)


class CausalConv(nn.Module):
    """A causal convolution over ``(steps, batch, channels)`` that makes ``stride`` output steps of each input step.

    ``weight`` is ``(stride * n_outputs, kernel * n_inputs)``, taps from oldest to newest.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, kernel: int, *, dilation: int = 1, stride: int = 1, replicate: bool = False
    ) -> None:
        super().__init__()
        self.n_inputs, self.n_outputs, self.kernel, self.dilation = n_inputs, n_outputs, kernel, dilation
        self.stride = stride
        self.replicate = replicate
        self.weight = nn.Parameter(torch.empty(stride * n_outputs, kernel * n_inputs))
        self.bias = nn.Parameter(torch.empty(stride * n_outputs))

    @property
    def n_history(self) -> int:
        """Number of past input steps that it needs."""
        return (self.kernel - 1) * self.dilation

    def forward(self, x: Tensor, history: Tensor, new: Tensor) -> Tensor:
        """Convolve the next steps of each stream.

        Args:
            x: ``(steps, batch, n_inputs)``.
            history: ``((kernel - 1) * dilation, batch, n_inputs)``, the last inputs; updated in place.
            new: ``(batch, 1)`` bool, whether a stream begins here.

        Returns:
            ``(steps * stride, batch, n_outputs)``.
        """
        n_steps, batch = x.shape[:2]
        if self.replicate:
            history.copy_(torch.where(new, x[:1], history))
        seen = torch.cat((history, x))
        history.copy_(seen[n_steps:])
        taps = [seen[start : start + n_steps] for start in range(0, self.n_history + 1, self.dilation)]
        if self.weight.is_mkldnn or n_steps * batch <= FEW_ROWS:
            out = project(torch.cat(taps, dim=2), self.weight, self.bias)
        else:  # a sum of the taps' products does not copy each input ``kernel`` times
            (first, weight), *others = zip(taps, self.weight.split(self.n_inputs, dim=1), strict=True)
            out = F.linear(first.flatten(0, 1), weight, self.bias)
            for tap, weight in others:
                out.addmm_(tap.flatten(0, 1), weight.t())
        return spread(out.view(n_steps, batch, self.stride, self.n_outputs))


def spread(steps: Tensor) -> Tensor:
    """``(steps, batch, stride, channels)`` to ``(steps * stride, batch, channels)``."""
    return steps.transpose(1, 2).flatten(0, 1)


class DepthwiseUpsample(nn.Module):
    """A transposed convolution of each channel; kernel ``2 * stride``, no bias.

    ``weight`` is ``(2, stride, channels)``: the part of a step in its own outputs, then in those of the next step.
    """

    def __init__(self, n_channels: int, stride: int) -> None:
        super().__init__()
        self.n_inputs, self.n_history = n_channels, 1
        self.weight = nn.Parameter(torch.empty(2, stride, n_channels))

    def forward(self, x: Tensor, history: Tensor, new: Tensor) -> Tensor:
        """``(steps, batch, channels)`` to ``(steps * stride, batch, channels)``; arguments as `CausalConv.forward`."""
        before = torch.cat((history, x))[:-1]
        history.copy_(x[-1:])
        return spread(x[:, :, None] * self.weight[0] + before[:, :, None] * self.weight[1])


class Residual(nn.Module):
    """``shortcut(x) + widen(elu(narrow(elu(x))))``."""

    def __init__(self, config: MimiConfig, n_channels: int, dilation: int) -> None:
        super().__init__()
        hidden, replicate = n_channels // config.compress, config.pad_mode == "replicate"
        kernel = config.residual_kernel_size
        self.narrow = CausalConv(n_channels, hidden, kernel, dilation=dilation, replicate=replicate)
        self.widen = Dense(hidden, n_channels)
        self.shortcut = Dense(n_channels, n_channels) if config.conv_shortcut else None

    def forward(self, x: Tensor, histories: Iterator[Tensor], new: Tensor) -> Tensor:
        inner = self.widen(F.elu_(self.narrow(F.elu(x), next(histories), new)))
        return inner.add_(x if self.shortcut is None else self.shortcut(x))


class Stage(nn.Module):
    """One upsampling stage: ELU, transposed convolution, residual blocks."""

    def __init__(self, config: MimiConfig, n_inputs: int, ratio: int) -> None:
        super().__init__()
        self.upsample = CausalConv(n_inputs, n_inputs // 2, 2, stride=ratio)  # zeros before the first input
        dilations = (config.dilation_base**layer for layer in range(config.n_residual_layers))
        self.residuals = nn.ModuleList(Residual(config, n_inputs // 2, dilation) for dilation in dilations)

    def forward(self, x: Tensor, histories: Iterator[Tensor], new: Tensor) -> Tensor:
        x = self.upsample(F.elu_(x), next(histories), new)
        for residual in self.residuals:
            x = residual(x, histories, new)
        return x
