"""The two forms of a CSM's config.json: Sesame's five values with names of flavors, and transformers' sizes.

Sesame has two named flavors. For a stack of any other size csmkit writes an object with the fields of
`TransformerConfig`, which it can read and Sesame's own code cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from csmkit.csm.config import CsmConfig, RopeScaling, TransformerConfig
from csmkit.errors import CheckpointError

MAX_POSITIONS = 2_048
N_SPECIAL_CODES = 3  # ids of the audio vocabulary after the codec's own codes

_LLAMA3 = RopeScaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8_192)

FLAVORS: dict[str, TransformerConfig] = {
    "llama-1B": TransformerConfig(
        dim=2_048,
        n_layers=16,
        n_heads=32,
        n_kv_heads=8,
        head_dim=64,
        ffn_dim=8_192,
        max_positions=MAX_POSITIONS,
        rope_scaling=_LLAMA3,
    ),
    "llama-100M": TransformerConfig(
        dim=1_024,
        n_layers=4,
        n_heads=8,
        n_kv_heads=2,
        head_dim=128,
        ffn_dim=8_192,
        max_positions=MAX_POSITIONS,
        rope_scaling=_LLAMA3,
    ),
}


def read_config(values: Mapping[str, Any]) -> CsmConfig:
    """Read the sizes from a config.json of either form; if it has both, as the published one, from transformers'.

    Raises:
        CheckpointError: another architecture, an unknown flavor, or a missing size.
    """
    if "backbone_flavor" in values and "model_type" not in values:
        return _from_sesame(values)
    return CsmConfig.from_transformers(values)


def _from_sesame(values: Mapping[str, Any]) -> CsmConfig:
    try:
        n_codebooks, audio_vocab = int(values["audio_num_codebooks"]), int(values["audio_vocab_size"])
        return CsmConfig(
            backbone=_stack("backbone_flavor", values["backbone_flavor"]),
            depth=replace(_stack("decoder_flavor", values["decoder_flavor"]), max_positions=n_codebooks + 1),
            text_vocab=int(values["text_vocab_size"]),
            audio_vocab=audio_vocab,
            n_codebooks=n_codebooks,
            codebook_size=audio_vocab - N_SPECIAL_CODES,
        )
    except KeyError as error:
        raise CheckpointError(
            f"config.json lacks {error}: in Sesame's form it has backbone_flavor, decoder_flavor, text_vocab_size, "
            "audio_vocab_size and audio_num_codebooks"
        ) from error


def _stack(key: str, flavor: object) -> TransformerConfig:
    """The sizes of one stack, by a flavor's name or an object of sizes."""
    if isinstance(flavor, str) and flavor in FLAVORS:
        return FLAVORS[flavor]
    if isinstance(flavor, dict):
        scaling = flavor.get("rope_scaling")
        try:
            return TransformerConfig(**{**flavor, "rope_scaling": RopeScaling(**scaling) if scaling else None})
        except TypeError as error:  # a missing or unknown field
            raise CheckpointError(f"config.json has an unreadable {key} ({error}): fetch the file again") from error
    known = " or ".join(repr(name) for name in FLAVORS)
    raise CheckpointError(
        f"config.json has {key} {flavor!r}: give {known}, or an object with the sizes of the stack (n_layers and so on)"
    )


def sesame_values(config: CsmConfig) -> dict[str, Any]:
    """A config in Sesame's form."""
    return {
        "backbone_flavor": _flavor(config.backbone),
        "decoder_flavor": _flavor(replace(config.depth, max_positions=MAX_POSITIONS)),
        "text_vocab_size": config.text_vocab,
        "audio_vocab_size": config.audio_vocab,
        "audio_num_codebooks": config.n_codebooks,
    }


def _flavor(stack: TransformerConfig) -> str | dict[str, Any]:
    """The name of the flavor with these sizes; without one, all sizes."""
    for name, known in FLAVORS.items():
        if replace(stack, rope_scaling=known.rope_scaling) == known and _bands(stack) == _bands(known):
            return name
    return asdict(stack)


def _bands(stack: TransformerConfig) -> tuple[float, float, float] | None:
    """The effect of Llama 3's scaling: its factor, and the wavelengths between which it is blended in."""
    scaling = stack.rope_scaling
    if scaling is None:
        return None
    length = scaling.original_max_positions
    return scaling.factor, length / scaling.low_freq_factor, length / scaling.high_freq_factor


def transformers_values(config: CsmConfig) -> dict[str, Any]:
    """A config in transformers' form without the codec's part; token ids have transformers' defaults."""
    shared = {"num_codebooks": config.n_codebooks, "vocab_size": config.audio_vocab}
    depth = {"model_type": "csm_depth_decoder_model", "backbone_hidden_size": config.backbone.dim}
    return {
        "architectures": ["CsmForConditionalGeneration"],
        "model_type": "csm",
        "text_vocab_size": config.text_vocab,
        "codebook_pad_token_id": config.audio_vocab - 1,
        "tie_codebooks_embeddings": True,
        **shared,
        **_stack_values(config.backbone),
        "depth_decoder_config": {**depth, **shared, **_stack_values(config.depth)},
    }


def _stack_values(stack: TransformerConfig) -> dict[str, Any]:
    """One stack; the rotary keys are those of transformers 4, which 5 reads as well."""
    values: dict[str, Any] = {
        "hidden_size": stack.dim,
        "num_hidden_layers": stack.n_layers,
        "num_attention_heads": stack.n_heads,
        "num_key_value_heads": stack.n_kv_heads,
        "head_dim": stack.head_dim,
        "intermediate_size": stack.ffn_dim,
        "max_position_embeddings": stack.max_positions,
        "rms_norm_eps": stack.norm_eps,
        "rope_theta": stack.rope_theta,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    if stack.rope_scaling is not None:
        values["rope_scaling"] = _scaling_values(stack.rope_scaling, stack.max_positions)
    return values


def _scaling_values(scaling: RopeScaling, max_positions: int) -> dict[str, Any]:
    """The same frequencies, with an original context below ``max_positions`` as transformers requires."""
    length = min(scaling.original_max_positions, max(1, max_positions // 2))
    shrink = length / scaling.original_max_positions
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor * shrink,
        "high_freq_factor": scaling.high_freq_factor * shrink,
        "original_max_position_embeddings": length,
    }
