"""Tiny voices in Sesame's own layout, with the weights of a tiny voice of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny import AUDIO_VOCAB, N_CODEBOOKS, character_tokenizer
from torch import Tensor
from transformers import CsmForConditionalGeneration

# The same frequencies as tiny.LLAMA3_BACKBONE and LLAMA3_DEPTH, with the factors that Sesame's code has.
_SCALING = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
BACKBONE: dict[str, Any] = {
    "dim": 48,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 16,
    "ffn_dim": 80,
    "max_positions": 256,
    "rope_theta": 10_000.0,
    "rope_scaling": {**_SCALING, "factor": 32.0, "original_max_positions": 128},
}
DEPTH: dict[str, Any] = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "ffn_dim": 48,
    "max_positions": 256,
    "rope_theta": 10_000.0,
    "rope_scaling": {**_SCALING, "factor": 8.0, "original_max_positions": 32},
}
VALUES: dict[str, Any] = {
    "backbone_flavor": BACKBONE,
    "decoder_flavor": DEPTH,
    "text_vocab_size": 64,
    "audio_vocab_size": AUDIO_VOCAB,
    "audio_num_codebooks": N_CODEBOOKS,
}


def sesame_tensors(model: CsmForConditionalGeneration) -> dict[str, Tensor]:
    """The weights under Sesame's names, rows of queries and keys in adjacent pairs; the masks of a live generator."""
    theirs = model.state_dict()
    tensors = {
        "text_embeddings.weight": theirs["embed_text_tokens.weight"],
        "audio_embeddings.weight": theirs["depth_decoder.model.embed_tokens.weight"],
        "projection.weight": theirs["depth_decoder.model.inputs_embeds_projector.weight"],
        "codebook0_head.weight": theirs["lm_head.weight"],
        "audio_head": theirs["depth_decoder.codebooks_head.weight"],
        "backbone_causal_mask": torch.ones(256, 256).tril().bool(),
        "decoder_causal_mask": torch.ones(N_CODEBOOKS, N_CODEBOOKS).tril().bool(),
    }
    for ours, prefix, sizes in (("backbone", "backbone_model", BACKBONE), ("decoder", "depth_decoder.model", DEPTH)):
        tensors[f"{ours}.norm.scale"] = theirs[f"{prefix}.norm.weight"]
        for index in range(sizes["n_layers"]):
            layer, at = f"{ours}.layers.{index}", f"{prefix}.layers.{index}"
            attention, mlp = f"{at}.self_attn", f"{at}.mlp"
            queries, keys = theirs[f"{attention}.q_proj.weight"], theirs[f"{attention}.k_proj.weight"]
            tensors |= {
                f"{layer}.attn.q_proj.weight": in_pairs(queries, sizes["head_dim"]),
                f"{layer}.attn.k_proj.weight": in_pairs(keys, sizes["head_dim"]),
                f"{layer}.attn.v_proj.weight": theirs[f"{attention}.v_proj.weight"],
                f"{layer}.attn.output_proj.weight": theirs[f"{attention}.o_proj.weight"],
                f"{layer}.mlp.w1.weight": theirs[f"{mlp}.gate_proj.weight"],
                f"{layer}.mlp.w2.weight": theirs[f"{mlp}.down_proj.weight"],
                f"{layer}.mlp.w3.weight": theirs[f"{mlp}.up_proj.weight"],
                f"{layer}.sa_norm.scale": theirs[f"{at}.input_layernorm.weight"],
                f"{layer}.mlp_norm.scale": theirs[f"{at}.post_attention_layernorm.weight"],
            }
    return {name: tensor.clone() for name, tensor in tensors.items()}


def in_pairs(weight: Tensor, head_dim: int) -> Tensor:
    """Rows of each head from (0, half, 1, half + 1, ...), written as an index so that it can be checked by eye."""
    half = head_dim // 2
    within = [row for pair in zip(range(half), range(half, head_dim), strict=True) for row in pair]
    rows = [head + row for head in range(0, weight.shape[0], head_dim) for row in within]
    return weight[rows]


def save_sesame(
    model: CsmForConditionalGeneration, directory: Path, *, pickled: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a checkpoint directory of Sesame's layout: config.json, weights and tokenizer, no codec."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in sesame_tensors(model).items()
    }
    if pickled:
        torch.save(tensors, directory / "ckpt.pt")
    else:
        save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(VALUES))
    character_tokenizer().save(str(directory / "tokenizer.json"))
    return directory
