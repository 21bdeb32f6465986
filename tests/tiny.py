"""Tiny voices with random weights, made by transformers: what the tests load in place of a trained checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CsmConfig, CsmForConditionalGeneration

BOS, EOS, UNKNOWN, AUDIO, AUDIO_END = range(5)
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|unknown|>", "<|AUDIO|>", "<|audio_eos|>"]
CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789[].,!?'-"
N_CODEBOOKS, AUDIO_VOCAB, CODEBOOK_SIZE = 4, 67, 64

LLAMA3_BACKBONE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 32.0,
    "high_freq_factor": 0.5,
    "low_freq_factor": 0.125,
    "original_max_position_embeddings": 16,
}
LLAMA3_DEPTH = {**LLAMA3_BACKBONE, "factor": 8.0, "original_max_position_embeddings": 4}
UNSCALED: dict[str, Any] = {"rope_type": "default", "rope_theta": 500_000.0}

TINY_CODEC: dict[str, Any] = {
    "model_type": "mimi",
    "num_filters": 2,
    "hidden_size": 16,
    "upsample_groups": 16,
    "num_quantizers": N_CODEBOOKS,
    "codebook_size": CODEBOOK_SIZE,
    "codebook_dim": 6,
    "vector_quantization_hidden_dimension": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
    "sliding_window": 10,
}


def rope(parameters: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a configuration that mean these, as this version of transformers names them."""
    if int(transformers.__version__.partition(".")[0]) >= 5:
        return {"rope_parameters": parameters}
    scaling = {name: value for name, value in parameters.items() if name != "rope_theta"}
    scaled = scaling if parameters["rope_type"] != "default" else None
    return {"rope_theta": parameters["rope_theta"], "rope_scaling": scaled}


def character_tokenizer() -> Tokenizer:
    """A tokenizer of lower-case characters with the two special tokens of CSM."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def tiny_csm(
    seed: int = 0,
    *,
    scaled_rope: bool = True,
    max_positions: int = 256,
    n_layers: int = 2,
    depth_head_dim: int = 8,
) -> CsmForConditionalGeneration:
    """A CSM of some ten thousand parameters, its weights large enough that attention and positions matter."""
    torch.manual_seed(seed)
    depth = {
        "num_codebooks": N_CODEBOOKS,
        "vocab_size": AUDIO_VOCAB,
        "backbone_hidden_size": 48,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": depth_head_dim,
        "max_position_embeddings": N_CODEBOOKS + 1,
        **rope(LLAMA3_DEPTH if scaled_rope else UNSCALED),
        "initializer_range": 0.2,
    }
    config = CsmConfig(
        num_codebooks=N_CODEBOOKS,
        vocab_size=AUDIO_VOCAB,
        text_vocab_size=64,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=n_layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=max_positions,
        bos_token_id=BOS,
        pad_token_id=AUDIO,
        codebook_pad_token_id=AUDIO_VOCAB - 1,
        audio_token_id=AUDIO,
        audio_eos_token_id=AUDIO_END,
        **rope(LLAMA3_BACKBONE if scaled_rope else UNSCALED),
        depth_decoder_config=depth,
        codec_config=TINY_CODEC,
        initializer_range=0.2,
    )
    model = CsmForConditionalGeneration(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()  # transformers starts with empty codebooks, where every sound has the same codes
        elif name.endswith(("norm.weight", "layernorm.weight")) and "codec" not in name:
            tensor.add_(
                0.2 * torch.randn_like(tensor)
            )  # transformers starts them all at 1, where a mix-up would not show
    return model


def save_voice(model: CsmForConditionalGeneration, directory: Path, **options: Any) -> Path:
    """Write the checkpoint directory of a voice: what `save_pretrained` writes, and its tokenizer."""
    model.save_pretrained(directory, **options)
    character_tokenizer().save(str(directory / "tokenizer.json"))
    return directory
