"""Reads a voice from a checkpoint directory in transformers layout: sizes, weights, text tokenizer, sampling.

Tensors are read one at a time, cast, and fused into the parameters of `CsmModel`. Another layout, such as Sesame's own,
needs only a `TensorSource` that answers to transformers' names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn

from csmkit.csm.config import CsmConfig, Sampling
from csmkit.csm.model import CsmModel
from csmkit.csm.prompt import TextTokenizer, special_id
from csmkit.csm.transformer import Transformer
from csmkit.errors import CheckpointError, CheckpointNotFoundError

INDEX_NAMES = ("model.safetensors.index.json", "transformers.safetensors.index.json")
WEIGHTS_NAME = "model.safetensors"


class TensorSource(Protocol):
    """Tensors by their names in transformers."""

    def __contains__(self, name: str) -> bool: ...

    def get(self, name: str, *shape: int) -> Tensor:
        """A tensor in float32 on the CPU; CheckpointError where it is missing or of another shape."""
        ...


class SafetensorsSource:
    """The tensors of one or several safetensors files.

    Args:
        files: the file of every tensor name.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._open: dict[Path, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def get(self, name: str, *shape: int) -> Tensor:
        """As `TensorSource.get`."""
        if name not in self._files:
            if "codebook0_head.weight" in self._files:
                raise CheckpointError(
                    "the weights are in Sesame's own layout: give the transformers files of this model "
                    "(transformers.safetensors.index.json and its shards), which sit in the same repository"
                )
            raise CheckpointError(
                f"no tensor {name!r} among {len(self._files)}: the checkpoint is partial, fetch it again"
            )
        path = self._files[name]
        try:
            if path not in self._open:
                self._open[path] = open_safetensors(path)
            tensor = self._open[path].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{path.name} has no readable {name!r} ({error}): fetch the file again") from error
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"tensor {name!r} in {path.name} has shape {tuple(tensor.shape)} where config.json asks for {shape}: "
                "the two files belong to different models"
            )
        return tensor.float()


def open_safetensors(path: Path) -> Any:
    """Open a safetensors file for reading; CheckpointNotFoundError or CheckpointError says what is wrong with it."""
    if not path.is_file():
        raise CheckpointNotFoundError(f"no weights at {str(path)!r}: fetch the checkpoint again, all of its files")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {str(path)!r} as safetensors ({error}): fetch the file again") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; CheckpointNotFoundError or CheckpointError names the file."""
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"no {path.name} in {str(path.parent)!r}: give the directory of a voice in transformers layout"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is not JSON ({error}): fetch the file again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(values).__name__}: it must be a JSON object")
    return values


def find_weights(directory: Path, config: Mapping[str, Any]) -> dict[str, Path]:
    """Where every tensor is, by its name: as the index says, or all in the single file."""
    index = _read_index(directory, config)
    if index is not None:
        return {tensor: directory / file for tensor, file in index.items()}
    single = directory / WEIGHTS_NAME
    return dict.fromkeys(open_safetensors(single).keys(), single)


def weight_files(directory: Path) -> list[str]:
    """The names of the files that hold the weights; they need not be there yet, config.json and the index must."""
    index = _read_index(directory, read_json(directory / "config.json"))
    return [WEIGHTS_NAME] if index is None else sorted(set(index.values()))


def _read_index(directory: Path, config: Mapping[str, Any]) -> dict[str, str] | None:
    """The file of every tensor: from the index that config.json names, else from one that is there, else None."""
    named = str(config.get("transformers_weights") or "")
    for name in ([named] if named.endswith(".json") else []) + list(INDEX_NAMES):
        if (directory / name).is_file():
            return read_json(directory / name).get("weight_map", {})
    return None


def load_model(
    directory: str | PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> CsmModel:
    """Load the model of a checkpoint directory.

    Args:
        directory: with config.json and safetensors in transformers layout.
        device: where the weights go.
        dtype: they are cast to.

    Raises:
        CheckpointNotFoundError: the directory or one of its files is not there.
        CheckpointError: damaged, partial, or another architecture.
    """
    directory = Path(directory)
    values = read_json(directory / "config.json")
    config = CsmConfig.from_transformers(values)
    source = SafetensorsSource(find_weights(directory, values))
    model = CsmModel(config)
    fill(model, source, device=device, dtype=dtype)
    return model


def fill(model: CsmModel, source: TensorSource, *, device: torch.device | str, dtype: torch.dtype) -> None:
    """Fuse, fold and cast the tensors of ``source`` into ``model``, a module at a time."""

    def put(module: nn.Module, name: str, tensor: Tensor) -> None:
        weight = tensor.to(device, dtype).contiguous()
        setattr(module, name, nn.Parameter(weight, requires_grad=False))

    config = model.config
    dim, depth_dim, vocab, n = config.backbone.dim, config.depth.dim, config.audio_vocab, config.n_codebooks
    _fill_transformer(model.backbone, source, "backbone_model", put)
    _fill_transformer(model.depth, source, "depth_decoder.model", put)
    put(model, "text_embedding", source.get("embed_text_tokens.weight", config.text_vocab, dim))
    names = ("backbone_model.embed_tokens.embed_audio_tokens.weight", "depth_decoder.model.embed_tokens.weight")
    projection = source.get("depth_decoder.model.inputs_embeds_projector.weight", depth_dim, dim).t()
    put(model, "audio_embedding", _audio_embedding(source, *names, n * vocab, dim))
    fed_back = _audio_embedding(source, *reversed(names), n * vocab, dim).view(n, vocab, dim)[:-1]
    put(model, "depth_embedding", fed_back @ projection)
    put(model, "projection", projection)
    put(model, "first_head", source.get("lm_head.weight", vocab, dim)[: config.codebook_size].t())
    heads = source.get("depth_decoder.codebooks_head.weight", n - 1, depth_dim, vocab)
    put(model, "other_heads", heads[:, :, : config.codebook_size])
    model.to(device)


def _audio_embedding(source: TensorSource, name: str, other: str, *shape: int) -> Tensor:
    """The embedding of one stack, else of the other: they are usually tied, and a file then holds either copy."""
    return source.get(name if name in source else other, *shape)


def _fill_transformer(
    stack: Transformer, source: TensorSource, prefix: str, put: Callable[[nn.Module, str, Tensor], None]
) -> None:
    config = stack.config
    dim, ffn = config.dim, config.ffn_dim
    n_q, n_kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for index, block in enumerate(stack.blocks):
        layer = f"{prefix}.layers.{index}"
        qkv = [
            source.get(f"{layer}.self_attn.{x}_proj.weight", n, dim) for x, n in (("q", n_q), ("k", n_kv), ("v", n_kv))
        ]
        gate_up = [source.get(f"{layer}.mlp.{x}_proj.weight", ffn, dim) for x in ("gate", "up")]
        put(block, "attention_norm", math.sqrt(dim) * source.get(f"{layer}.input_layernorm.weight", dim))
        put(block, "qkv", torch.cat(qkv).t())
        put(block, "out", source.get(f"{layer}.self_attn.o_proj.weight", dim, n_q).t())
        put(block, "mlp_norm", math.sqrt(dim) * source.get(f"{layer}.post_attention_layernorm.weight", dim))
        put(block, "gate_up", torch.cat(gate_up).t())
        put(block, "down", source.get(f"{layer}.mlp.down_proj.weight", dim, ffn).t())
    put(stack, "norm", math.sqrt(dim) * source.get(f"{prefix}.norm.weight", dim))


def load_tokenizer(path: str | PathLike[str], config: CsmConfig, values: Mapping[str, Any]) -> TextTokenizer:
    """Load the text tokenizer of a voice.

    Args:
        path: of tokenizer.json, or of a directory that holds it.
        config: of the model.
        values: of config.json, which may name the ids of the two special tokens.

    Raises:
        CheckpointNotFoundError: no such file.
        CheckpointError: not a tokenizer, or one with ids that the model does not embed.
    """
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not isinstance(read_json(file).get("model"), dict):  # the tokenizers package would raise a bare Exception
        raise CheckpointError(f"{str(file)!r} is not a tokenizer: fetch the file again, or give another by tokenizer=")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True  # a special token spelled out in a text is text
    bos = special_id(tokenizer, "<|begin_of_text|>", (values.get("bos_token_id"),))
    eos = special_id(tokenizer, "<|end_of_text|>", (values.get("text_eos_token_id"), values.get("eos_token_id")))
    if bos is None or eos is None:
        raise CheckpointError(
            f"{str(file)!r} has no '<|begin_of_text|>' and '<|end_of_text|>': a voice frames every text with them"
        )
    largest = max(bos, eos, tokenizer.get_vocab_size() - 1)
    if largest >= config.text_vocab:
        raise CheckpointError(
            f"{str(file)!r} has ids up to {largest}, the model embeds {config.text_vocab}: "
            "give the tokenizer of this model"
        )
    return TextTokenizer(tokenizer, bos, eos)


def load_sampling(directory: str | PathLike[str]) -> Sampling:
    """How a checkpoint wants to be sampled: its generation_config.json, else the defaults of `Sampling`."""
    path = Path(directory) / "generation_config.json"
    if not path.is_file():
        return Sampling()
    values, default = read_json(path), Sampling()
    temperature = values.get("temperature") or default.temperature
    depth_temperature = values.get("depth_decoder_temperature") or temperature
    return Sampling(
        temperature=temperature,
        topk=values.get("top_k") or default.topk,
        depth_scale=depth_temperature / temperature,
    )
