"""The sizes of a Mimi codec, read from the config.json of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csmkit.errors import CheckpointError

ACTIVATIONS = ("gelu", "relu", "silu")
PAD_MODES = ("constant", "replicate")

_KEYS = {  # of transformers' MimiConfig, where they differ from the names of the fields
    "sample_rate": "sampling_rate",
    "dim": "hidden_size",
    "n_filters": "num_filters",
    "ratios": "upsampling_ratios",
    "n_residual_layers": "num_residual_layers",
    "dilation_base": "dilation_growth_rate",
    "conv_shortcut": "use_conv_shortcut",
    "n_codebooks": "num_quantizers",
    "n_semantic": "num_semantic_quantizers",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "ffn_dim": "intermediate_size",
    "activation": "hidden_act",
    "window": "sliding_window",
}


@dataclass(frozen=True)
class MimiConfig:
    """Sizes of the decoding half of Mimi; the defaults are those of Kyutai's published codec.

    Attributes:
        sample_rate: samples a second, in Hz.
        dim: number of channels of a latent.
        n_filters: number of channels of the last stage.
        ratios: upsampling factor of each stage, in the decoder's order.
        upsample: number of latents in a frame.
        n_semantic: number of first codebooks that share one output projection; the others share another one.
        window: number of positions that a latent attends to, its own included.
    """

    sample_rate: int = 24_000
    dim: int = 512
    n_filters: int = 64
    ratios: tuple[int, ...] = (8, 6, 5, 4)
    kernel_size: int = 7
    last_kernel_size: int = 3
    residual_kernel_size: int = 3
    n_residual_layers: int = 1
    dilation_base: int = 2
    compress: int = 2
    conv_shortcut: bool = False
    pad_mode: str = "constant"
    upsample: int = 2
    upsample_groups: int = 512
    n_codebooks: int = 32
    n_semantic: int = 1
    codebook_size: int = 2048
    n_layers: int = 8
    n_heads: int = 8
    n_kv_heads: int = 8
    head_dim: int = 64
    ffn_dim: int = 2048
    activation: str = "gelu"
    attention_bias: bool = False
    window: int = 250
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise CheckpointError(f"codec activation {self.activation!r}: csmkit knows {', '.join(ACTIVATIONS)}")
        if self.pad_mode not in PAD_MODES:
            known = " and ".join(PAD_MODES)
            raise CheckpointError(f"codec pad_mode {self.pad_mode!r}: only {known} can be decoded as a stream")
        if self.window < 1 or self.upsample < 1 or not 0 < self.n_semantic <= self.n_codebooks:
            raise CheckpointError(
                f"codec with window {self.window}, {self.upsample} latents a frame and {self.n_semantic} semantic of "
                f"{self.n_codebooks} codebooks: check its config.json"
            )

    @property
    def frame_samples(self) -> int:
        """Samples of one frame of codes."""
        return self.upsample * math.prod(self.ratios)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> MimiConfig:
        """Read the keys of transformers' MimiConfig, of any version; missing ones have their published values.

        Raises:
            CheckpointError: the config of another model, or of a codec that is not causal and so cannot stream exactly.
        """
        if raw.get("model_type", "mimi") != "mimi":
            raise CheckpointError(
                f"config.json has model_type {raw['model_type']!r}: give the directory of a Mimi codec"
            )
        _require_causal(raw)
        keys = {name: _KEYS.get(name, name) for name in vars(cls()) if name != "upsample"}
        given = {name: type(getattr(cls, name))(raw[key]) for name, key in keys.items() if raw.get(key) is not None}
        own = cls(**given)
        sizes = {"n_kv_heads": own.n_heads, "head_dim": own.dim // own.n_heads, **given}
        return cls(**sizes | {"upsample": _latents_a_frame(raw, own), "rope_theta": _rope_theta(raw)})


def _require_causal(raw: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a codec that needs later samples, or has several channels."""
    if not raw.get("use_causal_conv", True):
        raise CheckpointError("codec with use_causal_conv=false: it needs later samples, give a causal codec")
    if raw.get("trim_right_ratio", 1.0) != 1.0:
        trim = raw["trim_right_ratio"]
        raise CheckpointError(f"codec with trim_right_ratio={trim}: it needs later samples, give a codec with 1.0")
    if raw.get("audio_channels", 1) != 1:
        raise CheckpointError(f"codec with {raw['audio_channels']} audio channels: give a mono codec")


def _latents_a_frame(raw: Mapping[str, Any], own: MimiConfig) -> int:
    """Latents a frame: 2, unless the config gives its frame rate (``frame_rate``, or ``_frame_rate`` in 5.x files)."""
    frame_rate = raw.get("frame_rate") or raw.get("_frame_rate")
    if frame_rate is None:
        return own.upsample
    return int(math.ceil(own.sample_rate / math.prod(own.ratios)) / frame_rate)


def _rope_theta(raw: Mapping[str, Any]) -> float:
    """The rotary base: ``rope_theta`` in transformers 4, inside ``rope_parameters`` in 5."""
    nested = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = nested.get("rope_type", "default")
    if kind != "default":
        raise CheckpointError(f"codec with rope_type {kind!r}: Mimi has unscaled ones, give such a codec")
    return float(nested.get("rope_theta") or raw.get("rope_theta") or 10_000.0)
