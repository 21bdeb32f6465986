"""The tensors of a CSM by their names in transformers, in any layout of the files.

Sesame's layout differs in names, and in the order of the query and key rows: it rotates adjacent pairs of a head's
rows, transformers the rows of its two halves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from csmkit.csm.config import CsmConfig, TransformerConfig
from csmkit.csm.config_json import read_config
from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.files.tensors import (
    ROUNDED,
    ROUNDED_PREFIX,
    SESAME,
    TRANSFORMERS,
    TensorFiles,
    find_tensors,
    pairs_to_halves,
    read_json,
)

BACKBONE, DEPTH = "backbone_model", "depth_decoder.model"
TIED_EMBEDDINGS = (f"{BACKBONE}.embed_tokens.embed_audio_tokens.weight", f"{DEPTH}.embed_tokens.weight")
IGNORED = ("backbone_causal_mask", "decoder_causal_mask")  # saved from a running Sesame generator

_SESAME_STACKS = {BACKBONE: "backbone", DEPTH: "decoder"}
_SESAME_PARTS = {
    "self_attn.q_proj.weight": "attn.q_proj.weight",
    "self_attn.k_proj.weight": "attn.k_proj.weight",
    "self_attn.v_proj.weight": "attn.v_proj.weight",
    "self_attn.o_proj.weight": "attn.output_proj.weight",
    "mlp.gate_proj.weight": "mlp.w1.weight",
    "mlp.down_proj.weight": "mlp.w2.weight",
    "mlp.up_proj.weight": "mlp.w3.weight",
    "input_layernorm.weight": "sa_norm.scale",
    "post_attention_layernorm.weight": "mlp_norm.scale",
}
_SESAME_OTHERS = {
    f"{BACKBONE}.norm.weight": "backbone.norm.scale",
    f"{DEPTH}.norm.weight": "decoder.norm.scale",
    "embed_text_tokens.weight": "text_embeddings.weight",
    TIED_EMBEDDINGS[0]: "audio_embeddings.weight",
    TIED_EMBEDDINGS[1]: "audio_embeddings.weight",
    f"{DEPTH}.inputs_embeds_projector.weight": "projection.weight",
    "lm_head.weight": "codebook0_head.weight",
    "depth_decoder.codebooks_head.weight": "audio_head",
}
_LAYER = re.compile(rf"({re.escape(BACKBONE)}|{re.escape(DEPTH)})\.layers\.(\d+)\.(.+)")


class TransformersSource:
    """A checkpoint in transformers' layout; the names below are transformers', whatever the layout of the files.

    Args:
        files: files that hold its tensors.
        config: sizes of the model.
    """

    layout = TRANSFORMERS

    def __init__(self, files: TensorFiles, config: CsmConfig) -> None:
        self.files, self._config, self._shapes = files, config, tensor_shapes(config)
        self._shapes[TIED_EMBEDDINGS[0]] = self._shapes[TIED_EMBEDDINGS[1]]

    def __contains__(self, name: str) -> bool:
        return self.stored_name(name) in self.files.names

    def stored_name(self, name: str) -> str:
        """The name of a tensor in the files."""
        return name

    def get(self, name: str) -> Tensor:
        """A tensor in float32 on the CPU; CheckpointError if it is missing or has not the shape of `tensor_shapes`."""
        return self.read(name, *self._shapes[name]).float()

    def read(self, name: str, *shape: int) -> Tensor:
        """A tensor in the file's dtype on the CPU; CheckpointError if it is missing or has another shape."""
        stored = self.stored_name(name)
        if stored not in self.files.names:
            raise CheckpointError(
                f"no tensor {stored!r} among {len(self.files.names)} in {self._places()}: "
                "the checkpoint is partial, fetch it again"
            )
        tensor = self.files.read(stored)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"tensor {stored!r} in {str(self.files.place(stored))!r} has shape {tuple(tensor.shape)} but "
                f"config.json asks for {shape}: the two files belong to different models"
            )
        return tensor

    def _places(self) -> str:
        first, *others = self.files.paths
        return repr(str(first)) if not others else f"{len(others) + 1} files of {str(first.parent)!r}"


class SesameSource(TransformersSource):
    """A checkpoint in Sesame's layout, read by transformers' names; arguments as `TransformersSource`."""

    layout = SESAME

    def stored_name(self, name: str) -> str:
        return sesame_name(name)

    def read(self, name: str, *shape: int) -> Tensor:
        n_heads = rotated_heads(name, self._config)
        tensor = super().read(name, *shape)
        return tensor if n_heads is None else pairs_to_halves(tensor, n_heads)


class RoundedSource(TransformersSource):
    """A checkpoint of rounded weights, read by the names of the parameters of `csmkit.csm.model.CsmModel`.

    Arguments as `TransformersSource`.
    """

    layout = ROUNDED

    def stored_name(self, name: str) -> str:
        return ROUNDED_PREFIX + name


_SOURCES = {source.layout: source for source in (TransformersSource, SesameSource, RoundedSource)}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory; its files have been found, its tensors not been read.

    Attributes:
        directory: path of the checkpoint.
        values: contents of its config.json.
        config: sizes that config.json gives.
        source: gives the tensors by their names in transformers.
    """

    directory: Path
    values: Mapping[str, Any]
    config: CsmConfig
    source: TransformersSource

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Find the files of a checkpoint in either layout.

        Raises:
            CheckpointNotFoundError: the directory, its config.json or its weights do not exist.
            CheckpointError: the checkpoint is damaged, or has another architecture.
        """
        if not directory.is_dir():
            raise CheckpointNotFoundError(f"no directory {str(directory)!r}: give the directory of a checkpoint")
        values = read_json(directory / "config.json")
        config = read_config(values)
        layout, files = find_tensors(directory, values)
        source = _SOURCES[layout](files, config)
        return cls(directory, values, config, source)


def sesame_name(name: str) -> str:
    """Sesame's name of a tensor of transformers; the same name if Sesame has no such tensor."""
    layer = _LAYER.fullmatch(name)
    if layer is None:
        return _SESAME_OTHERS.get(name, name)
    stack, index, part = layer.groups()
    return f"{_SESAME_STACKS[stack]}.layers.{index}.{_SESAME_PARTS.get(part, part)}"


def rotated_heads(name: str, config: CsmConfig) -> int | None:
    """Number of heads of a tensor whose rows the layouts order differently; None for any other tensor."""
    stack = config.backbone if name.startswith(BACKBONE) else config.depth
    if name.endswith(".self_attn.q_proj.weight"):
        return stack.n_heads
    return stack.n_kv_heads if name.endswith(".self_attn.k_proj.weight") else None


def tensor_shapes(config: CsmConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a CSM by its name in transformers: the shared embedding once, without the codec."""
    dim, depth_dim, vocab, n = config.backbone.dim, config.depth.dim, config.audio_vocab, config.n_codebooks
    return {
        "embed_text_tokens.weight": (config.text_vocab, dim),
        TIED_EMBEDDINGS[1]: (n * vocab, dim),
        **_stack_shapes(BACKBONE, config.backbone),
        f"{DEPTH}.inputs_embeds_projector.weight": (depth_dim, dim),
        **_stack_shapes(DEPTH, config.depth),
        "lm_head.weight": (vocab, dim),
        "depth_decoder.codebooks_head.weight": (n - 1, depth_dim, vocab),
    }


def _stack_shapes(prefix: str, stack: TransformerConfig) -> dict[str, tuple[int, ...]]:
    dim, ffn = stack.dim, stack.ffn_dim
    n_q, n_kv = stack.n_heads * stack.head_dim, stack.n_kv_heads * stack.head_dim
    layer = {
        "self_attn.q_proj.weight": (n_q, dim),
        "self_attn.k_proj.weight": (n_kv, dim),
        "self_attn.v_proj.weight": (n_kv, dim),
        "self_attn.o_proj.weight": (dim, n_q),
        "mlp.gate_proj.weight": (ffn, dim),
        "mlp.down_proj.weight": (dim, ffn),
        "mlp.up_proj.weight": (ffn, dim),
        "input_layernorm.weight": (dim,),
        "post_attention_layernorm.weight": (dim,),
    }
    shapes = {f"{prefix}.layers.{i}.{part}": shape for i in range(stack.n_layers) for part, shape in layer.items()}
    return {**shapes, f"{prefix}.norm.weight": (dim,)}
