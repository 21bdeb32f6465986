"""The codec to train: Mimi's encoder and decoder, small, in modules that train fast on a CPU.

The parameters carry transformers' names, so that exporting is copying. Transposed convolutions are matrix products:
their kernel is twice their stride, so an output sample sees two inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import MimiConfig
from transformers.models.mimi.modeling_mimi import MimiTransformerModel

from experiments.pocket.quantize import CODE_DIMS, CODEBOOK_SIZE, N_CODEBOOKS

RATIOS = (4, 5, 6, 8)  # few channels where there are many samples


def codec_config() -> MimiConfig:
    """Sizes of the bundled codec."""
    return MimiConfig(
        hidden_size=256,
        num_filters=24,
        upsampling_ratios=list(RATIOS),
        codebook_size=CODEBOOK_SIZE,
        codebook_dim=CODE_DIMS,
        vector_quantization_hidden_dimension=CODE_DIMS,
        num_quantizers=N_CODEBOOKS,
        upsample_groups=256,
        num_hidden_layers=2,
        intermediate_size=768,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        sliding_window=40,
        layer_scale_initial_scale=0.1,
        attn_implementation="sdpa",
    )


class CausalConv(nn.Module):
    """A convolution padded on the left only; weights under ``conv.``, as transformers names them."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        if stride > 1 and kernel != 2 * stride:
            raise ValueError(f"kernel {kernel} with stride {stride}: twice the stride is what this codec has")
        self.conv = nn.Conv1d(c_in, c_out, kernel, stride)
        self.pad, self.stride = kernel - stride, stride

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, c_in, time)`` → ``(batch, c_out, time / stride)``."""
        if self.stride > 1:
            return self._downsample(x)
        return self.conv(F.pad(x, (self.pad, 0)))

    def _downsample(self, x: Tensor) -> Tensor:
        """Kernel 2 x stride as one matrix product; the strided bfloat16 kernel of some CPUs gives wrong numbers."""
        stride = self.stride
        steps = F.pad(x, (stride, 0)).unflatten(2, (-1, stride)).transpose(1, 2)  # (batch, time / stride + 1, c_in, s)
        both = torch.cat([steps[:, :-1], steps[:, 1:]], 3).flatten(2)
        return F.linear(both, self.conv.weight.flatten(1), self.conv.bias).transpose(1, 2)


class CausalUpsample(nn.Module):
    """A transposed convolution with kernel 2 x stride, as one matrix product."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Module()
        self.conv.weight = nn.Parameter(torch.randn(c_in, c_out, 2 * stride) * (c_in * 2) ** -0.5)
        self.conv.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, c_in, time)`` → ``(batch, c_out, time * stride)``."""
        batch, c_in, time = x.shape
        c_out = self.conv.weight.shape[1]
        taps = (x.transpose(1, 2) @ self.conv.weight.view(c_in, -1)).view(batch, time, c_out, 2, self.stride)
        now, before = taps[:, :, :, 0], F.pad(taps[:, :-1, :, 1], (0, 0, 0, 0, 1, 0))
        return (now + before).permute(0, 2, 1, 3).reshape(batch, c_out, -1) + self.conv.bias[:, None]


class ResidualBlock(nn.Module):
    """ELU, convolution, ELU, pointwise convolution, added to the input; indices as in transformers' ``block`` list."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.block = nn.ModuleList(
            [nn.ELU(), CausalConv(channels, hidden, 3), nn.ELU(), CausalConv(hidden, channels, 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y = x
        for layer in self.block:
            y = layer(y)
        return x + y


class SeanetDecoder(nn.Module):
    """Latents at 25 Hz → waveform at 24 kHz."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.num_filters * 2 ** len(config.upsampling_ratios)
        layers: list[nn.Module] = [CausalConv(config.hidden_size, channels, config.kernel_size)]
        for ratio in config.upsampling_ratios:
            layers += [nn.ELU(), CausalUpsample(channels, channels // 2, ratio), ResidualBlock(channels // 2)]
            channels //= 2
        layers += [nn.ELU(), CausalConv(channels, 1, config.last_kernel_size)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, dim, latents)`` → ``(batch, latents * 960)``."""
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]


class SeanetEncoder(nn.Module):
    """Waveform at 24 kHz → latents at 25 Hz."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.num_filters
        layers: list[nn.Module] = [CausalConv(1, channels, config.kernel_size)]
        for ratio in reversed(config.upsampling_ratios):
            layers += [ResidualBlock(channels), nn.ELU(), CausalConv(channels, channels * 2, 2 * ratio, ratio)]
            channels *= 2
        layers += [nn.ELU(), CausalConv(channels, config.hidden_size, config.last_kernel_size)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, samples)`` → ``(batch, dim, samples / 960)``."""
        x = x[:, None]
        for layer in self.layers:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Code rows → waveform: output projections, upsampling to 25 Hz, transformer, SEANet."""

    def __init__(self, config: MimiConfig, codebooks: Tensor) -> None:
        super().__init__()
        self.register_buffer("codebooks", codebooks, persistent=False)
        self.semantic = nn.Linear(CODE_DIMS, config.hidden_size, bias=False)
        self.acoustic = nn.Linear(CODE_DIMS, config.hidden_size, bias=False)
        self.upsample = nn.Parameter(torch.zeros(config.hidden_size, 1, 4))
        nn.init.constant_(self.upsample[:, :, :2], 1.0)  # start by repeating a frame twice
        self.transformer = MimiTransformerModel(config)
        self.decoder = SeanetDecoder(config)

    def latent(self, codes: Tensor) -> Tensor:
        """``(batch, frames, codebooks)`` → ``(batch, dim, 2 * frames)`` before the transformer."""
        acoustic = sum(self.codebooks[i][codes[..., i]] for i in range(1, codes.shape[-1]))
        x = self.semantic(self.codebooks[0][codes[..., 0]]) + self.acoustic(acoustic)
        x, w = x.transpose(1, 2), self.upsample[:, 0]
        before = F.pad(x[..., :-1], (1, 0))
        taps = [x * w[:, i, None] + before * w[:, i + 2, None] for i in range(2)]
        return torch.stack(taps, -1).flatten(2)

    def forward(self, codes: Tensor) -> Tensor:
        """``(batch, frames, codebooks)`` → ``(batch, frames * 1920)``."""
        x = self.transformer(self.latent(codes).transpose(1, 2)).last_hidden_state
        return self.decoder(x.transpose(1, 2))


class Encoder(nn.Module):
    """Waveform → the semantic and acoustic latents of each frame."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.encoder = SeanetEncoder(config)
        self.transformer = MimiTransformerModel(config)
        self.downsample = nn.Conv1d(config.hidden_size, config.hidden_size, 4, 2, bias=False)
        self.semantic = nn.Linear(config.hidden_size, CODE_DIMS, bias=False)
        self.acoustic = nn.Linear(config.hidden_size, CODE_DIMS, bias=False)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """``(batch, frames * 1920)`` → two ``(batch, frames, CODE_DIMS)``."""
        x = self.transformer(self.encoder(samples).transpose(1, 2)).last_hidden_state.transpose(1, 2)
        x = self.downsample(F.pad(x, (2, 0), mode="replicate")).transpose(1, 2)
        return self.semantic(x), self.acoustic(x)


@contextmanager
def unit_variance_start(network: nn.Module) -> Iterator[None]:
    """LSUV: while active, one forward pass scales each convolution's weights so that its output has unit deviation.

    The last convolution of a residual branch gets half of it. Mishkin & Matas, "All you need is a good init", 2016.
    """

    def scale(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        gain = getattr(module, "start_deviation", 1.0) / output.std().clamp_min(1e-6)
        module.conv.weight.data *= gain
        module.conv.bias.data.zero_()
        return output * gain

    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.block[3].start_deviation = 0.5
    hooks = [m.register_forward_hook(scale) for m in network.modules() if isinstance(m, (CausalConv, CausalUpsample))]
    with torch.no_grad():
        yield
    for hook in hooks:
        hook.remove()
