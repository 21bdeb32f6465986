"""Begin a training where an exported model stands: its weights, read back from an ordinary checkpoint directory.

A Whisper comes back from CTranslate2's int8, a codec from transformers' float16. What is lost by that is won back in
the first minutes of a training.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CsmForConditionalGeneration

from experiments.pocket.codec import Decoder, Encoder, codec_config
from experiments.pocket.quantize import Quantiser

_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def _variables(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a CTranslate2 ``model.bin``.

    The format (version 6): u32 version, name, u32 revision, u32 count; then for each variable its name, u8 rank, u32
    sizes, u8 type, u32 bytes, the bytes. A name is u16 length with its closing zero. From CTranslate2's
    ``model_spec.py``.
    """

    def name(file: BinaryIO) -> str:
        return file.read(_numbers(file, "H")[0])[:-1].decode()

    with path.open("rb") as file:
        (version,) = _numbers(file, "I")
        if version != 6:
            raise SystemExit(f"{path} is of CTranslate2's format {version}, this reads 6")
        name(file)
        _, count = _numbers(file, "II")
        for _ in range(count):
            key = name(file)
            shape = _numbers(file, f"{_numbers(file, 'B')[0]}I")
            kind, size = _numbers(file, "BI")
            yield key, np.frombuffer(file.read(size), _DTYPES[kind]).reshape(shape)


def whisper_tensors(directory: Path) -> dict[str, Tensor]:
    """The weights of an exported Whisper by transformers' names, float32."""
    given = dict(_variables(directory / "model.bin"))
    floats: dict[str, Tensor] = {}
    for key, value in given.items():
        if key.endswith("_scale"):
            continue
        tensor = torch.tensor(value, dtype=torch.float32)
        if f"{key}_scale" in given:  # a row's integers are its numbers times its scale
            scale = torch.tensor(given[f"{key}_scale"])
            tensor = tensor / scale.view(-1, *[1] * (tensor.ndim - 1))
        floats[key] = tensor
    return dict(_whisper_names(floats))


def _whisper_names(given: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    blocks = {
        "self_attention": ("self_attn", (("q_proj", "k_proj", "v_proj"), ("out_proj",))),
        "attention": ("encoder_attn", (("q_proj",), ("k_proj", "v_proj"), ("out_proj",))),
    }
    for key, value in given.items():
        side, *path = key.split("/")
        end = {"gamma": "weight", "beta": "bias"}.get(path[-1], path[-1])
        if path[0].startswith("conv"):
            yield f"{side}.{path[0]}.{end}", value
        elif path[0] == "layer_norm":
            yield f"{side}.layer_norm.{end}", value
        elif path[0] == "position_encodings":
            yield f"{side}.embed_positions.weight", value
        elif path[0] == "embeddings":
            yield f"{side}.embed_tokens.weight", value
        elif path[0].startswith("layer_"):
            layer, block, part = f"{side}.layers.{path[0].removeprefix('layer_')}", path[1], path[2]
            if block == "ffn":
                own = "final_layer_norm" if part == "layer_norm" else f"fc{int(part[-1]) + 1}"
                yield f"{layer}.{own}.{end}", value
            elif part == "layer_norm":
                yield f"{layer}.{blocks[block][0]}_layer_norm.{end}", value
            else:
                own, parts = blocks[block][0], blocks[block][1][int(part[-1])]
                for name, piece in zip(parts, value.chunk(len(parts)), strict=True):
                    if not (name == "k_proj" and end == "bias"):  # Whisper's keys have none
                        yield f"{layer}.{own}.{name}.{end}", piece.contiguous()


def exported_codec(directory: Path, quantiser: Path) -> tuple[Encoder, Decoder]:
    """The encoder and the decoder of an exported voice."""
    books = Quantiser.load(quantiser).tensors["codebooks"]
    encoder, decoder = Encoder(codec_config()), Decoder(codec_config(), books)
    whole = load_file(directory / "model.safetensors")
    given = {k.removeprefix("codec_model."): v.float() for k, v in whole.items() if k.startswith("codec_model.")}
    for network, side, resample in ((encoder, "encoder", "downsample"), (decoder, "decoder", "upsample")):
        state = {}
        for name in network.state_dict():
            first, _, rest = name.partition(".")
            if first == resample:
                key = f"{resample}.conv.weight"
            elif first in ("semantic", "acoustic"):
                key = (
                    f"quantizer.{first}_residual_vector_quantizer.{'in' if side == 'encoder' else 'out'}put_proj.weight"
                )
            elif first == "transformer":
                key = f"{side}_transformer.{rest}"
            else:
                key = f"{side}.{rest}"
            state[name] = given[key].reshape(network.state_dict()[name].shape)
        network.load_state_dict(state)
    return encoder, decoder


def exported_voice(directory: Path) -> CsmForConditionalGeneration:
    """An exported voice with its codec, in float32 and with plain attention, as it is trained."""
    return CsmForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
