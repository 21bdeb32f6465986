"""Converts a checkpoint between Sesame's layout and transformers', or rounds its weights to 4 or 8 bits.

A conversion between the two layouts keeps all numbers bit for bit, and every key of config.json. What the target's
layout has no place for is kept beside it (the codec, in a folder "mimi") or named in `Conversion.notes`. A voice
rounded to "int4" or "int8" can be read by csmkit alone, and cannot be converted back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from csmkit.csm.checkpoint import ROUNDING_KEY, build_model
from csmkit.csm.config import CsmConfig
from csmkit.csm.config_json import sesame_values, transformers_values
from csmkit.csm.layouts import (
    IGNORED,
    TIED_EMBEDDINGS,
    Checkpoint,
    SesameSource,
    rotated_heads,
    sesame_name,
    tensor_shapes,
)
from csmkit.csm.quantization import ROUNDINGS, Rounding
from csmkit.errors import CheckpointError, InputError
from csmkit.files.hub import CODEC_FOLDER, MOSHI_PATTERN, find_codec, find_voice
from csmkit.files.tensors import LAYOUTS, ROUNDED, ROUNDED_PREFIX, SESAME, TRANSFORMERS, halves_to_pairs, read_json
from csmkit.files.writer import Plan, Tensors, require_empty, write_checkpoint
from csmkit.mimi.files import CSM_PREFIX, CodecFiles, config_values, flat_tensors

NO_CODEC = "none"
_WEIGHT_SUFFIXES = (".safetensors", ".index.json", ".pt", ".pth", ".bin")
_SPECIAL_TOKENS = {
    "bos_token_id": "<|begin_of_text|>",
    "pad_token_id": "<|AUDIO|>",
    "audio_token_id": "<|AUDIO|>",
    "audio_eos_token_id": "<|audio_eos|>",
}


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        target: path of the directory that was written.
        layouts: layout of the source and of the target: "sesame" or "transformers", or for rounded weights "int4" or
            "int8".
        n_tensors: number of tensors written, those of the codec included.
        n_bytes: size in bytes of the files with tensors.
        notes: sentences for the user: where the codec is, what was not copied.
    """

    target: Path
    layouts: tuple[str, str]
    n_tensors: int
    n_bytes: int
    notes: tuple[str, ...]


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    to: str | None = None,
    codec: str | PathLike[str] | None = None,
) -> Conversion:
    """Write a checkpoint in another layout, one tensor at a time; shows progress on a terminal.

    Args:
        source: a voice as `csmkit.files.hub.find_voice` takes it.
        target: a directory that is empty or does not exist; its files appear once all of them are written.
        to: "transformers", "sesame", "int4" or "int8"; None for the other one of the two layouts.
        codec: where the codec is, as `csmkit.files.hub.find_codec` takes it; None for the source's own; "none" to leave
            it out.

    Raises:
        InputError: an unknown layout, or a target that is not empty.
        CheckpointError: the source cannot be read or converted, or has no codec where the target needs one.
        CheckpointWriteError: the target cannot be written, or the disk is full.
    """
    target = Path(target)
    if to not in (None, *LAYOUTS, *ROUNDINGS):
        raise InputError(f"to={to!r}: give {' or '.join(map(repr, (*LAYOUTS, *ROUNDINGS)))}")
    require_empty(target)
    checkpoint = Checkpoint.open(find_voice(source))
    was = checkpoint.source.layout
    if was == ROUNDED:
        raise CheckpointError(
            f"{str(checkpoint.directory)!r} holds rounded weights, which cannot be converted back: "
            "convert the voice that they were made from"
        )
    to = to or (TRANSFORMERS if was == SESAME else SESAME)
    codec_files = _find_codec(checkpoint, codec)
    if codec_files is None and to == TRANSFORMERS and codec != NO_CODEC:
        raise CheckpointError(
            f"no codec in {str(checkpoint.directory)!r}, and a transformers checkpoint holds one: give --codec "
            f"with kyutai/mimi's directory or moshi's tokenizer-*.safetensors, or --codec {NO_CODEC} to leave it out"
        )
    if to in ROUNDINGS:
        plan = _to_rounded(checkpoint, codec_files, ROUNDINGS[to])
    else:
        plan = _to_transformers(checkpoint, codec_files) if to == TRANSFORMERS else _to_sesame(checkpoint, codec_files)
    plan[""][0].pop("transformers_weights", None)  # names an index that is not written
    side_files, left = _other_files(checkpoint, codec_files)
    n_bytes = write_checkpoint(plan, side_files, target)
    n_tensors = sum(len(tensors) for _, tensors in plan.values())
    notes = (*_codec_notes(codec_files, to), *_left_notes(checkpoint, to, left))
    return Conversion(target, (was, to), n_tensors, n_bytes, notes)


def _find_codec(checkpoint: Checkpoint, codec: str | PathLike[str] | None) -> CodecFiles | None:
    """The codec of the argument, else the source's own, else None."""
    if codec == NO_CODEC:
        return None
    if codec is not None:
        return CodecFiles(find_codec(codec))
    directory = checkpoint.directory
    inside = any(name.startswith(CSM_PREFIX) for name in checkpoint.source.files.names)
    if inside or (directory / CODEC_FOLDER).is_dir() or any(directory.glob(MOSHI_PATTERN)):
        return CodecFiles(find_codec(directory))
    return None


def _to_transformers(checkpoint: Checkpoint, codec: CodecFiles | None) -> Plan:
    config, source = checkpoint.config, checkpoint.source
    values = dict(checkpoint.values)
    if "model_type" not in values:
        values = {**transformers_values(config), **_special_ids(checkpoint.directory), **values}
    shapes = tensor_shapes(config)
    if not isinstance(source, SesameSource):  # it holds either copy of the embedding, or both
        shape = shapes.pop(TIED_EMBEDDINGS[1])
        shapes |= {name: shape for name in TIED_EMBEDDINGS if name in source} or {TIED_EMBEDDINGS[1]: shape}
    tensors: Tensors = {name: partial(source.read, name, *shape) for name, shape in shapes.items()}
    if codec is None:
        sizes = {"model_type": "mimi", "num_quantizers": config.n_codebooks, "codebook_size": config.codebook_size}
        return {"": ({**values, "codec_config": values.get("codec_config", sizes)}, tensors)}
    tensors |= {f"{CSM_PREFIX}{name}": read for name, read in flat_tensors(codec).items()}
    return {"": ({**values, "codec_config": config_values(codec)}, tensors)}


def _to_sesame(checkpoint: Checkpoint, codec: CodecFiles | None) -> Plan:
    config, source = checkpoint.config, checkpoint.source
    shapes = tensor_shapes(config)
    embedding = _only_embedding(checkpoint, shapes[TIED_EMBEDDINGS[1]])

    def read(name: str, shape: tuple[int, ...]) -> Tensor:
        tensor, n_heads = source.read(name, *shape), rotated_heads(name, config)
        return tensor if n_heads is None else halves_to_pairs(tensor, n_heads)

    tensors: Tensors = {
        sesame_name(name): partial(read, embedding if name in TIED_EMBEDDINGS else name, shape)
        for name, shape in shapes.items()
    }
    values = {**checkpoint.values, **sesame_values(config)}
    return {"": (values, tensors), **_codec_folder(config, codec)}


def _to_rounded(checkpoint: Checkpoint, codec: CodecFiles | None, rounding: Rounding) -> Plan:
    """Plan a rounded checkpoint; all rounded weights are in memory before the first is written."""
    config = checkpoint.config
    model = build_model(checkpoint, device="cpu", dtype=torch.bfloat16, rounding=rounding)
    tensors: Tensors = {f"{ROUNDED_PREFIX}{name}": tensor.clone for name, tensor in model.state_dict().items()}
    values = {**checkpoint.values, **transformers_values(config)}
    sizes = {"codec_config": {"model_type": "mimi", "codebook_size": config.codebook_size}}
    values |= {"architectures": ["csmkit"], **sizes, ROUNDING_KEY: asdict(rounding)}
    return {"": (values, tensors), **_codec_folder(config, codec)}


def _codec_folder(config: CsmConfig, codec: CodecFiles | None) -> Plan:
    """The folder of a codec beside a voice whose layout has no place for one."""
    if codec is None:
        return {}
    spoken = {"architectures": ["MimiModel"], "audio_num_codebooks": config.n_codebooks}
    return {CODEC_FOLDER: ({**config_values(codec), **spoken}, flat_tensors(codec))}


def _only_embedding(checkpoint: Checkpoint, shape: tuple[int, ...]) -> str:
    """The name of the audio embedding that both stacks share; CheckpointError where they have different ones."""
    held = [name for name in TIED_EMBEDDINGS if name in checkpoint.source]
    if len(held) == 2 and isinstance(checkpoint.source, SesameSource):
        return held[0]
    if len(held) == 2 and not torch.equal(*(checkpoint.source.read(name, *shape) for name in held)):
        raise CheckpointError(
            f"the two stacks of {str(checkpoint.directory)!r} have different audio embeddings, and Sesame's layout has "
            "one for both: keep this model in transformers' layout"
        )
    return held[0] if held else TIED_EMBEDDINGS[1]


def _special_ids(directory: Path) -> dict[str, int]:
    """The token ids that transformers' config.json names, as far as the tokenizer has them."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        return {}
    added = {token.get("content"): token.get("id") for token in read_json(path).get("added_tokens") or []}
    return {key: added[token] for key, token in _SPECIAL_TOKENS.items() if token in added}


def _other_files(checkpoint: Checkpoint, codec: CodecFiles | None) -> tuple[list[Path], list[str]]:
    """The files to copy unchanged, and the names of what is not copied: other weights, and folders."""
    read = {*checkpoint.source.files.paths, *(codec.paths if codec else ())}
    copied, left = [], []
    for path in sorted(checkpoint.directory.iterdir()):
        if path.name == "config.json" or path in read or path.name.endswith(".index.json"):
            continue
        if path.is_file() and not path.name.endswith(_WEIGHT_SUFFIXES):
            copied.append(path)
        elif path.is_file() or not any(file.is_relative_to(path) for file in read):
            left.append(path.name if path.is_file() else f"{path.name}/")
    return copied, left


def _codec_notes(codec: CodecFiles | None, to: str) -> list[str]:
    if codec is not None:
        place = f"in the folder {CODEC_FOLDER!r}" if to != TRANSFORMERS else "inside the checkpoint"
        return [f"the codec of {str(codec.path)!r} is {place}"]
    others = "; transformers would use a codec with random weights" if to == TRANSFORMERS else ""
    return [f"written without a codec: load it with codec_weights={others}"]


def _left_notes(checkpoint: Checkpoint, to: str, left: list[str]) -> list[str]:
    source = checkpoint.source
    known = {source.stored_name(name) for name in (*tensor_shapes(checkpoint.config), *TIED_EMBEDDINGS)}
    tensors = [name for name in source.files.names if name not in known and not name.startswith(CSM_PREFIX)]
    notes = []
    if tensors:
        why = "which are computed at loading" if set(tensors) <= set(IGNORED) else "which do not belong to a CSM"
        notes.append(f"left out: {', '.join(sorted(tensors))}, {why}")
    if left:
        notes.append(f"not copied from {str(checkpoint.directory)!r}: {', '.join(left)}")
    if not (checkpoint.directory / "tokenizer.json").is_file():
        notes.append("the source has no tokenizer.json: load it with tokenizer=")
    if to == SESAME and any(isinstance(value, dict) for value in sesame_values(checkpoint.config).values()):
        notes.append("Sesame has no flavor of these sizes: csmkit reads them from config.json, Sesame's code cannot")
    return notes
