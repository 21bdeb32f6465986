"""Voices with random weights.

"pocket" has the bundled voice's sizes, "depth" CSM-1B's layers and heads with small widths, "width" its widths with few
layers, "full" all of its sizes; "few" has its vocabularies, codebooks, heads and codec with one narrow layer in each
stack, for tests; "tiny" is as small as possible.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration, MimiModel

import csmkit.csm.config
from csmkit.csm.layouts import tensor_shapes
from csmkit.csm.tokenizer import LLAMA3_BOS, LLAMA3_VOCAB
from csmkit.files.writer import SafetensorsWriter
from csmkit.mimi.files import flat_name

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>")
CHARACTERS = " abcdefghijklmnopqrstuvwxyz.,?[]01H"
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
    "few": replace(FULL, backbone=Stack(256, 512, 1, 32, 8), depth=Stack(128, 256, 1, 8, 2)),
    "tiny": VoiceSize(Stack(32, 64, 2, 4, 2), Stack(16, 32, 1, 2, 1), 4, 64),
}


def voice_config(size: VoiceSize) -> CsmConfig:
    """The configuration that transformers has of such a voice."""
    codec = TINY_CODEC if size.codec is None else {"model_type": "mimi", **size.codec}
    n, vocab = size.n_codebooks, size.codebook_size
    return CsmConfig(
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


def random_voice(size: VoiceSize) -> CsmForConditionalGeneration:
    """A CSM with random weights, large enough that its greedy codes differ from frame to frame."""
    torch.manual_seed(0)
    config = voice_config(size)
    model = CsmForConditionalGeneration(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()
    return model


def save_voice(size: str, directory: Path) -> Path:
    """Write one of `SIZES` as a checkpoint in bfloat16 with random weights, codec and tokenizer; returns its folder."""
    if SIZES[size].backbone.dim < 1024:
        random_voice(SIZES[size]).to(torch.bfloat16).save_pretrained(directory)
        save_tokenizer(directory, SIZES[size].text_vocab)
    else:
        write_random_voice(SIZES[size], directory)
    return directory


def write_random_voice(size: VoiceSize, directory: Path) -> None:
    """Write a checkpoint of random weights in bfloat16, a tensor at a time, with its codec and tokenizer.

    The values are a block of normal numbers over and over: products take as long over them as over any.
    """
    config = voice_config(size)
    block = (0.02 * torch.randn(2**22 + 5, generator=torch.Generator().manual_seed(0))).to(torch.bfloat16)

    def tensor(shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        n_values = math.prod(shape)
        return block.repeat(-(-n_values // len(block)))[:n_values].view(shape)

    directory.mkdir(parents=True, exist_ok=True)
    values = config.to_dict()
    (directory / "config.json").write_text(json.dumps(values, default=str))
    shapes = tensor_shapes(csmkit.csm.config.CsmConfig.from_transformers(values))
    tensors = {name: partial(tensor, shape) for name, shape in shapes.items()}
    codec = MimiModel(config.codec_config).eval().state_dict()
    for name, value in codec.items():
        if name.endswith("embed_sum"):
            value.normal_()
        tensors[f"codec_model.{flat_name(name)}"] = value.clone
    SafetensorsWriter(tensors).write(directory / "model.safetensors", lambda _: None)
    save_tokenizer(directory, size.text_vocab)


def save_tokenizer(directory: Path, text_vocab: int = 0) -> None:
    """Write a tokenizer of characters; for Llama 3's vocabulary the special tokens have their ids there."""
    first = LLAMA3_BOS if text_vocab == LLAMA3_VOCAB else 0
    vocabulary = {token: first + index for index, token in enumerate(SPECIAL)}
    vocabulary |= {token: len(SPECIAL) + index for index, token in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))
