"""Reads a voice from a checkpoint directory: weights and sampling.

Tensors are read one at a time, cast, and fused into the parameters of `CsmModel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from csmkit.checks import is_finite
from csmkit.csm.config import Sampling
from csmkit.csm.layouts import BACKBONE, DEPTH, TIED_EMBEDDINGS, Checkpoint, RoundedSource, TransformersSource
from csmkit.csm.model import CsmModel
from csmkit.csm.quantization import BlockWeight, Rounding, packed_shapes, put, rounded_places, widen
from csmkit.csm.transformer import Transformer
from csmkit.errors import CheckpointError, InputError
from csmkit.files.tensors import read_json

ROUNDING_KEY = "csmkit_rounding"  # in config.json: bits and block


def load_model(
    directory: str | PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> CsmModel:
    """Load the model of a checkpoint directory.

    Args:
        directory: checkpoint with config.json and weights, in transformers' or Sesame's layout, or rounded by
            `csmkit convert`.
        device: device of the weights.
        dtype: dtype that weights are cast to; rounded weights stay as they are.

    Raises:
        CheckpointNotFoundError: the directory or one of its files does not exist.
        CheckpointError: the checkpoint is damaged or partial, or has another architecture.
    """
    return build_model(Checkpoint.open(Path(directory)), device=device, dtype=dtype)


def build_model(
    checkpoint: Checkpoint, *, device: torch.device | str, dtype: torch.dtype, rounding: Rounding | None = None
) -> CsmModel:
    """Build the model of a checkpoint; errors as `load_model`.

    Args:
        checkpoint: an opened checkpoint.
        device: device of the weights.
        dtype: dtype of all weights that are not rounded; norms of a rounded model are float32.
        rounding: bits and block size to round the weights to while they are read, so that all unrounded
            weights are never in memory together; None does not round.
    """
    model = CsmModel(checkpoint.config)
    if isinstance(checkpoint.source, RoundedSource):
        _fill_rounded(model, checkpoint, dtype)
        return _placed(model, device)
    if rounding is None:
        fill(model, checkpoint.source, device=device, dtype=dtype)
        return model
    fill(model, checkpoint.source, device="cpu", dtype=dtype, rounding=rounding)
    return _placed(model, device)


def _placed(model: CsmModel, device: torch.device | str) -> CsmModel:
    """A rounded model on its device; on other devices than a CPU its weights are converted back to float."""
    if torch.device(device).type != "cpu":
        widen(model)
        model.to(device)
    return model


def _fill_rounded(model: CsmModel, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Assign the tensors that `csmkit convert` wrote; they stay mapped until they are read."""
    source, rounding = checkpoint.source, _rounding(checkpoint)
    rounded = set(rounded_places(model))
    for path, parameter in list(model.named_parameters()):
        place, _, name = path.rpartition(".")
        shape, owner = tuple(parameter.shape), model.get_submodule(place)
        if (owner, name) in rounded:
            parts = zip(("packed", "scale"), packed_shapes(shape, rounding), strict=True)
            put(owner, name, BlockWeight(*(source.read(f"{path}.{x}", *s) for x, s in parts), shape, rounding.bits))
        else:
            tensor = source.read(path, *shape)
            put(owner, name, tensor if tensor.ndim == 1 else tensor.to(dtype))


def _rounding(checkpoint: Checkpoint) -> Rounding:
    """Read the bits and the block size of a rounded checkpoint from its config.json."""
    try:
        return Rounding(**checkpoint.values[ROUNDING_KEY])
    except (KeyError, TypeError, InputError) as error:
        raise CheckpointError(
            f"config.json in {str(checkpoint.directory)!r} does not say how its weights were rounded, under "
            f"{ROUNDING_KEY!r}: convert the voice again"
        ) from error


def fill(
    model: CsmModel,
    source: TransformersSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    rounding: Rounding | None = None,
) -> None:
    """Fuse, fold and cast the tensors of ``source`` into ``model``, a module at a time.

    With ``rounding``, the weights of stacks and heads are rounded from float32, and norms stay in it.
    """
    rounded = set(rounded_places(model)) if rounding else set()

    def put_cast(module: nn.Module, name: str, tensor: Tensor) -> None:
        if rounding is not None and (module, name) in rounded:
            put(module, name, BlockWeight.round(tensor, rounding))
        elif rounding is not None and tensor.ndim == 1:
            put(module, name, tensor)
        else:
            put(module, name, tensor.to(device, dtype).contiguous())

    size = model.config.codebook_size
    _fill_transformer(model.backbone, source, BACKBONE, put_cast)
    _fill_transformer(model.depth, source, DEPTH, put_cast)
    put_cast(model, "text_embedding", source.get("embed_text_tokens.weight"))
    projection = source.get(f"{DEPTH}.inputs_embeds_projector.weight").t()
    put_cast(model, "audio_embedding", _audio_embedding(source, *TIED_EMBEDDINGS))
    fed_back = _audio_embedding(source, *reversed(TIED_EMBEDDINGS)).unflatten(0, (model.config.n_codebooks, -1))[:-1]
    put_cast(model, "depth_embedding", fed_back @ projection)
    put_cast(model, "projection", projection)
    put_cast(model, "first_head", source.get("lm_head.weight")[:size].t())
    put_cast(model, "other_heads", source.get("depth_decoder.codebooks_head.weight")[:, :, :size])
    model.to(device)


def _audio_embedding(source: TransformersSource, name: str, other: str) -> Tensor:
    """The embedding of one stack, else of the other: they are usually tied, and a file then has one of them."""
    return source.get(name if name in source else other)


def _fill_transformer(
    stack: Transformer, source: TransformersSource, prefix: str, put: Callable[[nn.Module, str, Tensor], None]
) -> None:
    root = math.sqrt(stack.config.dim)
    for index, block in enumerate(stack.blocks):

        def read(part: str, layer: str = f"{prefix}.layers.{index}") -> Tensor:
            return source.get(f"{layer}.{part}.weight")

        qkv = [read(f"self_attn.{x}_proj") for x in "qkv"]
        gate_up = [read(f"mlp.{x}_proj") for x in ("gate", "up")]
        put(block, "attention_norm", root * read("input_layernorm"))
        put(block, "qkv", torch.cat(qkv).t())
        put(block, "out", read("self_attn.o_proj").t())
        put(block, "mlp_norm", root * read("post_attention_layernorm"))
        put(block, "gate_up", torch.cat(gate_up).t())
        put(block, "down", read("mlp.down_proj").t())
    put(stack, "norm", root * source.get(f"{prefix}.norm.weight"))
    beyond = f"{prefix}.layers.{stack.config.n_layers}.input_layernorm.weight"
    if beyond in source:
        raise CheckpointError(
            f"the weights hold {beyond!r} but config.json asks for {stack.config.n_layers} layers: "
            "the two files belong to different models"
        )


def load_sampling(directory: str | PathLike[str]) -> Sampling:
    """Read the sampling of a checkpoint from its generation_config.json; without one, the defaults of `Sampling`.

    Raises:
        CheckpointError: a temperature is not a number.
        InputError: a value outside the ranges of `Sampling`.
    """
    path = Path(directory) / "generation_config.json"
    if not path.is_file():
        return Sampling()
    values, default = read_json(path), Sampling()
    temperature = values.get("temperature") or default.temperature
    depth_temperature = values.get("depth_decoder_temperature") or temperature
    if not (is_finite(temperature) and is_finite(depth_temperature)):
        raise CheckpointError(
            f"{str(path)!r} has the temperatures {temperature!r} and {depth_temperature!r}: give numbers above 0"
        )
    return Sampling(
        temperature=temperature,
        topk=values.get("top_k") or default.topk,
        depth_scale=depth_temperature / temperature,
    )
