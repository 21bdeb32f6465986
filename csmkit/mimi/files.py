"""Reads a codec's tensors from transformers' files, from a CSM checkpoint, or from moshi's file.

`CodecFiles` finds the files and reads single tensors by one set of names: the flat ones that transformers'
``save_pretrained`` writes, such as ``decoder.layers.0.conv.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.files.hub import MOSHI_PATTERN
from csmkit.files.tensors import TensorFiles, pairs_to_halves, read_index, read_json, tensor_names
from csmkit.mimi.config import MimiConfig

CSM_PREFIX = "codec_model."  # prefix of the codec's tensors in a CSM checkpoint

_MOSHI_MARK = "quantizer.rvq_first."
_MOSHI_RENAMES = (  # transformers' name → moshi's, applied in this order
    (r"^(encoder|decoder)\.layers\.(\d+)\.block\.(\d+)\.conv\.", r"\1.model.\2.block.\3.conv.conv."),
    (r"^(encoder|decoder)\.layers\.(\d+)\.shortcut\.conv\.", r"\1.model.\2.shortcut.conv.conv."),
    (r"^(encoder|decoder)\.layers\.(\d+)\.conv\.", r"\1.model.\2.conv.conv."),
    (r"^(downsample\.)conv\.", r"\1conv.conv.conv."),
    (r"^(upsample\.)conv\.", r"\1convtr.convtr.convtr."),
    (r"^(encoder|decoder)_transformer\.", r"\1_transformer.transformer."),
    (r"\.input_layernorm\.", ".norm1."),
    (r"\.post_attention_layernorm\.", ".norm2."),
    (r"\.mlp\.fc(\d)\.", r".linear\1."),
    (r"\.self_attn_layer_scale\.", ".layer_scale_1."),
    (r"\.mlp_layer_scale\.", ".layer_scale_2."),
    (r"\.self_attn\.o_proj\.", ".self_attn.out_proj."),
    (r"^quantizer\.semantic_residual_vector_quantizer\.", "quantizer.rvq_first."),
    (r"^quantizer\.acoustic_residual_vector_quantizer\.", "quantizer.rvq_rest."),
    (r"^(quantizer\.\w+)\.layers\.(\d+)\.codebook\.", r"\1.vq.layers.\2._codebook."),
    (r"\._codebook\.embed_sum$", "._codebook.embedding_sum"),
    (r"\._codebook\.initialized$", "._codebook._initialized"),
)
_IN_MEMORY = (  # names in memory that transformers 5 nests and transformers 4 does not; files have flat names in both
    (re.compile(r"^(encoder|decoder)\.\1_seanet\."), r"\1."),
    (re.compile(r"^(encoder|decoder)\.(\1_transformer|downsample|upsample)\."), r"\2."),
)
_QKV = re.compile(r"^(.*\.self_attn\.)([qkv])_proj\.weight$")


class CodecFiles:
    """The codec of a checkpoint directory or file, read one tensor at a time.

    Args:
        path: a transformers MimiModel or CSM directory, a directory with moshi's ``tokenizer-*.safetensors``, or a
            safetensors file of either kind. A file without a config.json beside it must have the published sizes.

    Attributes:
        names: names of the codec's tensors in the files, without the prefix of a CSM checkpoint.
        paths: the files of these tensors.
        config: sizes of the codec, with fewer codebooks than it was trained with if the CSM beside it uses fewer.
        raw_config: all sizes as transformers wrote them; empty for the published ones.

    Raises:
        CheckpointNotFoundError: the path or a file of the index does not exist.
        CheckpointError: the files hold no codec, or cannot be read.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        file_of = {name: file for file in _weight_files(self.path) for name in tensor_names(file)}
        self.prefix = CSM_PREFIX if any(name.startswith(CSM_PREFIX) for name in file_of) else ""
        self._files = TensorFiles({name: file for name, file in file_of.items() if name.startswith(self.prefix)})
        self.names, self.paths = {name.removeprefix(self.prefix) for name in self._files.names}, self._files.paths
        if not any(name.startswith("quantizer.") for name in self.names):
            raise CheckpointError(
                f"no codec in {str(self.path)!r}: give a transformers Mimi or CSM directory, "
                "or moshi's tokenizer-*.safetensors, by codec_weights="
            )
        self.is_moshi = any(name.startswith(_MOSHI_MARK) for name in self.names)
        config_path = (self.path if self.path.is_dir() else self.path.parent) / "config.json"
        raw = read_json(config_path) if config_path.is_file() else {}
        self.raw_config: dict[str, Any] = _codec_part(raw)
        config = MimiConfig.from_dict(self.raw_config)
        spoken = raw.get("num_codebooks") or raw.get("audio_num_codebooks") or config.n_codebooks
        self.config = replace(config, n_codebooks=min(int(spoken), config.n_codebooks))

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of a flat transformers name."""
        return any(candidate in self._files.names for candidate in self._candidates(name))

    def read_raw(self, name: str) -> Tensor:
        """The tensor of one of `names`, unchanged; errors as `read`."""
        return self._read_first((self.prefix + name,))

    def _candidates(self, name: str) -> tuple[str, ...]:
        return moshi_names(name) if self.is_moshi else (self.prefix + name,)

    def read(self, name: str) -> Tensor:
        """The tensor of a flat transformers name, in the file's dtype, on the CPU.

        Raises:
            CheckpointError: the files have no tensor of that name.
        """
        qkv = _QKV.match(name)
        if self.is_moshi and qkv:
            return self._read_moshi_qkv(*qkv.groups())
        return self._read_first(self._candidates(name))

    def _read_first(self, names: tuple[str, ...]) -> Tensor:
        for name in names:
            if name in self._files.names:
                return self._files.read(name)
        raise CheckpointError(
            f"no tensor {names[0]!r} in {str(self.path)!r}: the checkpoint is partial, or its config.json belongs to "
            "another codec: download or export it again"
        )

    def _read_moshi_qkv(self, stem: str, which: str) -> Tensor:
        """One of the three parts of a fused projection; q and k rows go from adjacent-pair to half-split rotation."""
        moshi_stem = moshi_names(stem)[0]
        fused = self._read_first((moshi_stem + "in_proj_weight", moshi_stem + "in_projs.0.weight"))
        part = fused.chunk(3)["qkv".index(which)]
        return part if which == "v" else pairs_to_halves(part, self.config.n_heads)


def moshi_names(name: str) -> tuple[str, ...]:
    """The names that moshi may have for a tensor: two kinds of convolutions, and attention that was saved again."""
    for pattern, replacement in _MOSHI_RENAMES:
        name = re.sub(pattern, replacement, name)
    return (
        name,
        name.replace(".conv.conv.", ".convtr.convtr."),
        name.replace(".out_proj.", ".out_projs.0."),
    )


def _codec_part(raw: dict[str, Any]) -> dict[str, Any]:
    """The codec's part of a Mimi or CSM config.json; empty for other models."""
    if "codec_config" in raw:
        return dict(raw["codec_config"])
    return raw if raw.get("model_type") == "mimi" else {}


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files that may hold the codec.

    Raises:
        CheckpointNotFoundError: there are no such files, or one of the index is missing.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointNotFoundError(f"no codec at {str(path)!r}: give the directory of a checkpoint")
    for index in sorted(path.glob("*.safetensors.index.json")):
        files = [path / name for name in sorted(set(read_index(index).values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointNotFoundError(
                f"{index.name} in {str(path)!r} names {', '.join(missing)}, which does not exist: "
                "download the checkpoint again"
            )
        return files
    found = sorted(path.glob(MOSHI_PATTERN)) or sorted(path.glob("*.safetensors"))
    if not found:
        raise CheckpointNotFoundError(
            f"no .safetensors file of a codec in {str(path)!r}: give a transformers Mimi or CSM directory, "
            "or moshi's tokenizer-*.safetensors, by codec_weights="
        )
    return found


def flat_name(name: str) -> str:
    """The name in files of a tensor of transformers' MimiModel."""
    for pattern, replacement in _IN_MEMORY:
        name = pattern.sub(replacement, name)
    return name


def flat_tensors(files: CodecFiles) -> dict[str, Callable[[], Tensor]]:
    """Every tensor of a codec, encoder and decoder, by its name in the files of transformers' ``save_pretrained``.

    Returns:
        For each name, a function that reads the tensor in the file's dtype; it raises as `CodecFiles.read`.
    """
    if not files.is_moshi:
        return {name: partial(files.read_raw, name) for name in sorted(files.names)}
    # moshi fuses queries, keys and values: the list of tensors comes from transformers' model.
    from transformers import MimiConfig as TransformersMimiConfig
    from transformers import MimiModel

    with torch.device("meta"):
        model = MimiModel(TransformersMimiConfig.from_dict(files.raw_config))
    names = sorted({flat_name(name) for name in model.state_dict()})
    return {name: partial(files.read, name) for name in names}


def config_values(files: CodecFiles) -> dict[str, Any]:
    """The codec's part of a CSM's config.json; for moshi's file alone transformers' defaults, the published sizes."""
    values = {**files.raw_config, "model_type": "mimi"}
    values.pop("audio_num_codebooks", None)  # belongs to the CSM beside which `csmkit convert` has put the codec
    return values
