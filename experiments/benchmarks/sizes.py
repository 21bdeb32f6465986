"""Voices with random weights: of the bundled voice's size, of CSM-1B's depth, of its widths, and CSM-1B whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CsmConfig, CsmForConditionalGeneration

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>")
CHARACTERS = " abcdefghijklmnopqrstuvwxyz.,?[]01"
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "high_freq_factor": 0.5,
    "low_freq_factor": 0.125,
    "original_max_position_embeddings": 1024,
}
TINY_CODEC: dict[str, Any] = {  # too small to matter
    "model_type": "mimi",
    "num_filters": 2,
    "hidden_size": 16,
    "upsample_groups": 16,
    "codebook_dim": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vector_quantization_hidden_dimension": 4,
}


@dataclass(frozen=True)
class Stack:
    """Sizes of one transformer."""

    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int

    def transformers(self) -> dict[str, Any]:
        """As a transformers configuration has them."""
        return {
            "hidden_size": self.dim,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "rope_parameters": ROPE,
        }


@dataclass(frozen=True)
class VoiceSize:
    """Sizes of a voice.

    Attributes:
        codec: of transformers' Mimi, empty for Kyutai's own sizes; None for one too small to matter.
    """

    backbone: Stack
    depth: Stack
    n_codebooks: int
    codebook_size: int = 2048
    text_vocab: int = 64
    codec: dict[str, Any] | None = None


FULL = VoiceSize(Stack(2048, 8192, 16, 32, 8), Stack(1024, 8192, 4, 8, 2), 32, text_vocab=128_256, codec={})
SIZES = {
    "pocket": VoiceSize(Stack(256, 704, 6, 4, 2), Stack(128, 352, 2, 4, 2), 8, 512),
    "depth": VoiceSize(Stack(128, 256, 16, 32, 8), Stack(64, 128, 4, 8, 2), 32, 512),
    "width": replace(
        FULL,
        backbone=Stack(2048, 8192, 2, 32, 8),
        depth=Stack(1024, 8192, 1, 8, 2),
        n_codebooks=8,
        text_vocab=64,
        codec=None,
    ),
    "full": FULL,
    "tiny": VoiceSize(Stack(32, 64, 2, 4, 2), Stack(16, 32, 1, 2, 1), 4, 64),
}


def random_voice(size: VoiceSize) -> CsmForConditionalGeneration:
    """A CSM with random weights, large enough that its greedy codes differ from frame to frame."""
    codec = TINY_CODEC if size.codec is None else {"model_type": "mimi", **size.codec}
    n, vocab = size.n_codebooks, size.codebook_size
    torch.manual_seed(0)
    config = CsmConfig(
        **size.backbone.transformers(),
        num_codebooks=n,
        vocab_size=vocab,
        text_vocab_size=size.text_vocab,
        max_position_embeddings=2048,
        bos_token_id=0,
        pad_token_id=2,
        audio_token_id=2,
        audio_eos_token_id=3,
        codebook_pad_token_id=vocab - 1,
        depth_decoder_config={
            **size.depth.transformers(),
            "num_codebooks": n,
            "vocab_size": vocab,
            "backbone_hidden_size": size.backbone.dim,
            "max_position_embeddings": n + 1,
        },
        codec_config={**codec, "codebook_size": vocab, "num_quantizers": n},
        initializer_range=0.1 if size.backbone.dim < 1024 else 0.02,
    )
    model = CsmForConditionalGeneration(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()
    return model


def save_tokenizer(directory: Path) -> None:
    """Write a tokenizer of characters."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))
