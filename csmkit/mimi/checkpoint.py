"""Loads the decoder and the encoder of a checkpoint.

For the decoder, tables and scales are folded and convolutions turned into matrices; the encoder is transformers' own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csmkit.errors import CheckpointError
from csmkit.kernels import packed
from csmkit.mimi.decoder import MimiDecoder, TransformerLayer
from csmkit.mimi.files import CodecFiles, flat_name
from csmkit.mimi.layers import WORTH_PACKING, CausalConv, Dense, DepthwiseUpsample

if TYPE_CHECKING:
    from transformers import MimiModel

_log = logging.getLogger(__name__)

USAGE_FLOOR = 1e-5  # a centroid is embed_sum / max(cluster_usage, floor), in both references


def load_decoder(
    files: CodecFiles, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> MimiDecoder:
    """The decoder of a checkpoint, ready to run: codebooks, projections and scales folded in float32, cast, packed.

    A packed decoder can only be run: it cannot be copied, saved or cast.

    Raises:
        CheckpointError: a tensor is missing, or its shape differs from the config.
    """
    decoder = MimiDecoder(files.config)
    folded = {name: tensor for part in _parts(files, decoder) for name, tensor in part.items()}
    for name, parameter in decoder.named_parameters():
        tensor = folded.pop(name)
        if tensor.shape != parameter.shape:
            raise CheckpointError(
                f"codec in {str(files.path)!r}: {name} is {tuple(tensor.shape)} but config.json asks for "
                f"{tuple(parameter.shape)}: they belong to different models"
            )
        parameter.data = tensor.to(dtype).contiguous()
    assert not folded, f"folded but unused: {sorted(folded)}"
    decoder.requires_grad_(False).eval().to(device)
    for module in decoder.modules():
        if isinstance(module, (CausalConv, Dense)) and module.weight.numel() >= WORTH_PACKING:
            module.weight = torch.nn.Parameter(packed(module.weight), requires_grad=False)
    return decoder


def load_encoder(files: CodecFiles, device: torch.device) -> MimiModel:
    """The encoder of a checkpoint in float32, as transformers' MimiModel: how long encoding takes affects no frame.

    Raises:
        CheckpointError: a tensor is missing, or its shape differs from the config.
    """
    from transformers import MimiConfig as TransformersMimiConfig  # takes seconds to import
    from transformers import MimiModel

    _log.info("loading the encoder of %s", files.path)
    model = MimiModel(TransformersMimiConfig.from_dict({**files.raw_config, "decoder_config": None}))
    state = {name: files.read(flat_name(name)).float() for name in model.state_dict()}
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"encoder in {str(files.path)!r} does not match its config.json ({error}): export the checkpoint again"
        ) from error
    return model.requires_grad_(False).eval().to(device)


def _parts(files: CodecFiles, decoder: MimiDecoder) -> list[dict[str, Tensor]]:
    """Every parameter of the decoder by its name, in float32."""
    config = decoder.config
    parts = [{"tables": _tables(files)}]
    parts.append(_prefixed("upsample", _upsample(files.read("upsample.conv.weight").float(), decoder.upsample)))
    for index, layer in enumerate(decoder.layers):
        parts.append(_prefixed(f"layers.{index}", _layer(files, index, layer)))
    parts.append(_prefixed("first", _conv(files, "decoder.layers.0.conv")))
    step = 1  # transformers numbers convolutions, activations and residual blocks together
    for index in range(len(config.ratios)):
        step += 1
        parts.append(_prefixed(f"stages.{index}.upsample", _transposed(files, f"decoder.layers.{step}.conv")))
        for residual in range(config.n_residual_layers):
            step += 1
            source, target = f"decoder.layers.{step}", f"stages.{index}.residuals.{residual}"
            parts.append(_prefixed(f"{target}.narrow", _conv(files, f"{source}.block.1.conv")))
            parts.append(_prefixed(f"{target}.widen", _conv(files, f"{source}.block.3.conv")))
            if config.conv_shortcut:
                parts.append(_prefixed(f"{target}.shortcut", _conv(files, f"{source}.shortcut.conv")))
        step += 1
    parts.append(_prefixed("last", _conv(files, f"decoder.layers.{step + 1}.conv")))
    return parts


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _tables(files: CodecFiles) -> Tensor:
    """``(n_codebooks * codebook_size, dim)``: every centroid through its output projection."""
    n_semantic, tables = files.config.n_semantic, []
    for index in range(files.config.n_codebooks):
        kind, layer = ("semantic", index) if index < n_semantic else ("acoustic", index - n_semantic)
        stem = f"quantizer.{kind}_residual_vector_quantizer"
        total = files.read(f"{stem}.layers.{layer}.codebook.embed_sum").float()
        usage = files.read(f"{stem}.layers.{layer}.codebook.cluster_usage").float()
        centroids = total / usage.clamp(min=USAGE_FLOOR)[:, None]
        if f"{stem}.output_proj.weight" in files:  # transformers has no projection between equal widths
            centroids = centroids @ files.read(f"{stem}.output_proj.weight").float().squeeze(-1).t()
        tables.append(centroids)
    return torch.cat(tables)


def _conv(files: CodecFiles, name: str) -> dict[str, Tensor]:
    """A convolution's weight ``(out, in, kernel)`` as a matrix over (tap, input)."""
    weight = files.read(f"{name}.weight").float()
    return {
        "weight": weight.transpose(1, 2).reshape(weight.shape[0], -1),
        "bias": files.read(f"{name}.bias").float(),
    }


def _transposed(files: CodecFiles, name: str) -> dict[str, Tensor]:
    """A transposed convolution's weight ``(in, out, 2 * stride)`` as a matrix from (tap, input) to (stride, output)."""
    weight, bias = files.read(f"{name}.weight").float(), files.read(f"{name}.bias").float()
    stride = weight.shape[2] // 2
    return {"weight": _as_kernel_two(weight, stride), "bias": bias.repeat(stride)}


def _as_kernel_two(weight: Tensor, stride: int) -> Tensor:
    now, after = weight.split(stride, dim=2)  # the part of an input's own outputs, and that of the next input's outputs
    taps = [half.permute(2, 1, 0).reshape(-1, weight.shape[0]) for half in (after, now)]
    return torch.cat(taps, dim=1)


def _upsample(weight: Tensor, module: torch.nn.Module) -> dict[str, Tensor]:
    """The weight ``(channels, channels / groups, 2 * stride)`` of the step from frames to latents."""
    n_channels, per_group, kernel = weight.shape
    if isinstance(module, DepthwiseUpsample):
        return {"weight": weight[:, 0].view(n_channels, 2, -1).permute(1, 2, 0)}
    dense = weight.new_zeros(n_channels, n_channels, kernel)
    for start in range(0, n_channels, per_group):
        group = slice(start, start + per_group)
        dense[group, group] = weight[group]
    return {"weight": _as_kernel_two(dense, kernel // 2), "bias": torch.zeros(kernel // 2 * n_channels)}


def _layer(files: CodecFiles, index: int, layer: TransformerLayer) -> dict[str, Tensor]:
    """One transformer layer, its LayerScales folded into the weights before them."""
    stem = f"decoder_transformer.layers.{index}"

    def read(name: str) -> Tensor:
        return files.read(f"{stem}.{name}").float()

    attention_scale, mlp_scale = read("self_attn_layer_scale.scale"), read("mlp_layer_scale.scale")
    tensors = {
        "attention_norm.weight": read("input_layernorm.weight"),
        "attention_norm.bias": read("input_layernorm.bias"),
        "qkv.weight": torch.cat([read(f"self_attn.{which}_proj.weight") for which in "qkv"]),
        "out.weight": attention_scale[:, None] * read("self_attn.o_proj.weight"),
        "mlp_norm.weight": read("post_attention_layernorm.weight"),
        "mlp_norm.bias": read("post_attention_layernorm.bias"),
        "up.weight": read("mlp.fc1.weight"),
        "down.weight": mlp_scale[:, None] * read("mlp.fc2.weight"),
    }
    if layer.qkv.bias is not None:
        tensors["qkv.bias"] = torch.cat([read(f"self_attn.{which}_proj.bias") for which in "qkv"])
        tensors["out.bias"] = attention_scale * read("self_attn.o_proj.bias")
    return tensors
