"""Sizes of a CSM, and how its codes are sampled; all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csmkit.checks import is_finite, is_integer
from csmkit.errors import CheckpointError, InputError

MIMI_CODEBOOK_SIZE = 2_048  # entries of each of Mimi's codebooks; CSM-1B's audio vocabulary holds three ids more


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's scaling of the rotary frequencies to longer contexts."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> RopeScaling | None:
        """Read ``rope_parameters`` or the older ``rope_scaling``; None if the frequencies are not scaled.

        Raises:
            CheckpointError: a kind of scaling other than Llama 3's.
        """
        kind = values.get("rope_type", values.get("type", "default"))
        if kind == "default":
            return None
        if kind != "llama3":
            raise CheckpointError(f"rope scaling of type {kind!r}: a CSM checkpoint uses 'llama3' or 'default'")
        return cls(
            factor=float(values["factor"]),
            low_freq_factor=float(values["low_freq_factor"]),
            high_freq_factor=float(values["high_freq_factor"]),
            original_max_positions=int(values["original_max_position_embeddings"]),
        )


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one of the two stacks."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_dim: int
    max_positions: int
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        require_sizes(self, "dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "max_positions")
        if self.n_heads % self.n_kv_heads or self.head_dim % 2:
            raise CheckpointError(
                f"{self.n_heads} heads of {self.head_dim} with {self.n_kv_heads} key-value heads: "
                "the heads must be a multiple of the key-value heads, and their size even"
            )

    @property
    def group(self) -> int:
        """Query heads that share one key-value head."""
        return self.n_heads // self.n_kv_heads

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> TransformerConfig:
        """Read one stack of a transformers ``CsmConfig``; raises KeyError if a size is missing."""
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        n_heads = values["num_attention_heads"]
        return cls(
            dim=values["hidden_size"],
            n_layers=values["num_hidden_layers"],
            n_heads=n_heads,
            n_kv_heads=values.get("num_key_value_heads") or n_heads,
            head_dim=values.get("head_dim") or values["hidden_size"] // n_heads,
            ffn_dim=values["intermediate_size"],
            max_positions=values["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 500_000.0),
            rope_scaling=RopeScaling.from_transformers(rope),
            norm_eps=float(values.get("rms_norm_eps", 1e-5)),
        )


@dataclass(frozen=True)
class CsmConfig:
    """Sizes of a whole CSM.

    Attributes:
        audio_vocab: number of rows of the audio embedding for each codebook.
        codebook_size: number of codes that the codec knows; larger ids are never sampled.
    """

    backbone: TransformerConfig
    depth: TransformerConfig
    text_vocab: int
    audio_vocab: int
    n_codebooks: int
    codebook_size: int

    def __post_init__(self) -> None:
        require_sizes(self, "text_vocab", "audio_vocab", "n_codebooks", "codebook_size")
        if self.n_codebooks < 2 or not 1 < self.codebook_size <= self.audio_vocab:
            raise CheckpointError(
                f"{self.n_codebooks} codebooks of {self.codebook_size} codes in a vocabulary of {self.audio_vocab}: "
                "a CSM has at least 2 codebooks, none larger than the audio vocabulary"
            )

    @property
    def n_slots(self) -> int:
        """Slots of a prompt row: the codebooks, then the text."""
        return self.n_codebooks + 1

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> CsmConfig:
        """Read the ``config.json`` of a transformers-format checkpoint.

        Raises:
            CheckpointError: another architecture, or a missing size.
        """
        if values.get("model_type") != "csm":
            raise CheckpointError(
                f"config.json has model_type {values.get('model_type')!r}: a voice needs 'csm', "
                "or Sesame's backbone_flavor: give the directory of a CSM"
            )
        if values.get("attention_bias") or values.get("mlp_bias"):
            raise CheckpointError("config.json asks for biases in attention or MLP: CSM has none")
        if values.get("codebook_eos_token_id") not in (None, 0):
            raise CheckpointError(
                f"config.json has codebook_eos_token_id={values['codebook_eos_token_id']!r}: speech must end "
                "with a frame of zeros, as in CSM-1B: csmkit cannot run this voice"
            )
        try:
            audio_vocab = values["vocab_size"]
            codec = values.get("codec_config") or {}
            return cls(
                backbone=TransformerConfig.from_transformers(values),
                depth=TransformerConfig.from_transformers(values["depth_decoder_config"]),
                text_vocab=values["text_vocab_size"],
                audio_vocab=audio_vocab,
                n_codebooks=values["num_codebooks"],
                codebook_size=min(codec.get("codebook_size") or MIMI_CODEBOOK_SIZE, audio_vocab),
            )
        except KeyError as error:
            raise CheckpointError(f"config.json lacks {error}: save the checkpoint again with transformers") from error
        except (TypeError, ValueError, AttributeError) as error:  # for example a list in place of a number
            raise CheckpointError(
                f"config.json has a value that cannot be read ({error}): fetch the file again"
            ) from error


def require_sizes(config: object, *names: str) -> None:
    """Raise CheckpointError unless these attributes are integers of at least 1."""
    for name in names:
        size = getattr(config, name)
        if not is_integer(size) or size < 1:
            raise CheckpointError(
                f"config.json gives {name}={size!r}: sizes are integers of at least 1, fetch it again"
            )


@dataclass(frozen=True)
class Sampling:
    """How codes are sampled.

    Attributes:
        temperature: temperature of sampling, finite and at least 0; 0 is greedy.
        topk: number of most probable codes to sample from, at least 1; a number above the codebook size means all.
        depth_scale: factor of the temperature for the codebooks after the first, finite and at least 0.

    Raises:
        InputError: a value outside these ranges.
    """

    temperature: float = 0.9
    topk: int = 50
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("depth_scale", self.depth_scale)):
            if not is_finite(value) or value < 0:
                raise InputError(f"{name}={value!r}: give a finite number of at least 0; temperature 0 is greedy")
        if not is_integer(self.topk) or self.topk < 1:
            raise InputError(f"topk={self.topk!r}: give an integer of at least 1, such as 50")
