"""The codec plugin "moshi": Kyutai's own implementation, as a reference.

moshi 0.2.13 declares older versions of torch, numpy and the hub client than csmkit's, but runs with the newer ones:
``pip install --no-deps moshi==0.2.13 einops sentencepiece``.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor

from csmkit.errors import CheckpointError, MissingDependencyError, StateError
from csmkit.files.tensors import halves_to_pairs
from csmkit.mimi.codecs import CodecStream, MimiCodec
from csmkit.mimi.config import MimiConfig
from csmkit.mimi.files import CodecFiles, moshi_names


def _loaders() -> Any:
    os.environ.setdefault("NO_TORCH_COMPILE", "1")  # read when moshi is imported; compiling takes minutes
    try:
        from moshi.models import loaders
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; install moshi with: "
            "pip install --no-deps moshi==0.2.13 einops sentencepiece"
        ) from error
    return loaders


def moshi_config(config: MimiConfig, codebook_dim: int) -> dict[str, Any]:
    """The sizes of a codec as moshi's ``get_mimi`` takes them.

    Raises:
        CheckpointError: a codec that moshi cannot represent.
    """
    if (config.n_kv_heads, config.upsample_groups, config.activation) != (config.n_heads, config.dim, "gelu"):
        raise CheckpointError(
            "moshi has no shared kv heads, other upsampling groups or activations: use codec 'streaming'"
        )
    if config.n_heads * config.head_dim != config.dim or config.attention_bias or config.norm_eps != 1e-5:
        raise CheckpointError("moshi cannot have other head sizes, attention biases or norm eps: use codec 'streaming'")
    seanet = {
        "channels": 1,
        "dimension": config.dim,
        "causal": True,
        "n_filters": config.n_filters,
        "n_residual_layers": config.n_residual_layers,
        "compress": config.compress,
        "dilation_base": config.dilation_base,
        "kernel_size": config.kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "pad_mode": config.pad_mode,
        "ratios": list(config.ratios),
        "true_skip": not config.conv_shortcut,
    }
    transformer = {
        "d_model": config.dim,
        "num_heads": config.n_heads,
        "num_layers": config.n_layers,
        "causal": True,
        "layer_scale": 0.01,
        "context": config.window,
        "conv_layout": True,
        "max_period": config.rope_theta,
        "positional_embedding": "rope",
        "dim_feedforward": config.ffn_dim,
        "input_dimension": config.dim,
        "output_dimensions": [config.dim],
    }
    quantizer = {
        "dimension": codebook_dim,
        "n_q": config.n_codebooks,
        "n_q_semantic": config.n_semantic,
        "bins": config.codebook_size,
        "input_dimension": config.dim,
        "output_dimension": config.dim,
    }
    return {
        "sample_rate": config.sample_rate,
        "channels": 1,
        "frame_rate": config.sample_rate / config.frame_samples,
        "seanet": seanet,
        "quantizer": quantizer,
        "transformer": transformer,
    }


def moshi_model(files: CodecFiles, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Kyutai's MimiModel with the weights of a checkpoint, from any of the names.

    Raises:
        MissingDependencyError: moshi is not installed.
        CheckpointError: a tensor is missing, or moshi cannot represent the codec.
    """
    codebook = files.read("quantizer.semantic_residual_vector_quantizer.layers.0.codebook.embed_sum")
    config = moshi_config(files.config, codebook.shape[1])
    model = _loaders().get_mimi(None, config, num_codebooks=files.config.n_codebooks)
    flat_of = {alias: name for name in files.names for alias in moshi_names(name)}
    state = {name: _moshi_tensor(files, flat_of, name) for name in model.state_dict()}
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False).eval().to(device, dtype)


def _moshi_tensor(files: CodecFiles, flat_of: dict[str, str], name: str) -> Tensor:
    """A tensor of moshi's model, converted where the file has transformers' names."""
    if name in files.names:
        return files.read_raw(name)
    stem, attention, kind = name.rpartition("self_attn.")
    if files.is_moshi:
        saved = {"in_projs.0.weight": "in_proj_weight", "out_projs.0.weight": "out_proj.weight"}
        return files.read_raw(stem + attention + saved.get(kind, kind))
    if kind != "in_projs.0.weight":
        return files.read(flat_of.get(name, name))
    flat = flat_of[f"{stem}{attention}q_proj.weight"].removesuffix("q_proj.weight")
    n_heads = files.config.n_heads
    query, key, value = (files.read(f"{flat}{which}_proj.weight") for which in "qkv")
    return torch.cat([halves_to_pairs(query, n_heads), halves_to_pairs(key, n_heads), value])


class MoshiCodec(MimiCodec):
    """Kyutai's streaming decoder. Its state is in the model, so that a new stream ends the previous one.

    Args:
        model: model of moshi with its weights, on its device.
        files: files that the codec was loaded from.
        device: device of the model.

    Attributes:
        newest: the stream whose state the model has; None before the first.
    """

    def __init__(self, model: Any, files: CodecFiles, device: torch.device) -> None:
        super().__init__(files, device)
        self.model = model
        self.newest: CodecStream | None = None
        self._streaming = ExitStack()

    @classmethod
    def of_files(cls, files: CodecFiles, device: torch.device, dtype: torch.dtype) -> Self:
        return cls(moshi_model(files, device, dtype), files, device)

    def stream(self) -> CodecStream:
        self._end_stream()
        self._streaming = self.model.streaming(1)
        self.newest = _MoshiStream(self)
        return self.newest

    def decode_whole(self, codes: Tensor) -> Tensor:
        """Decode all frames in one pass without streaming state; ends the newest stream."""
        self._end_stream()
        return self.run(self.check(codes))

    def run(self, codes: Tensor) -> Tensor:
        """Decode ``(n_codebooks, n_frames)`` checked codes with the model's present state."""
        if not codes.shape[1]:
            return torch.zeros(0)
        with torch.no_grad():
            return self.model.decode(codes[None].to(self.device))[0, 0].to("cpu", torch.float32)

    def _end_stream(self) -> None:
        self._streaming.close()
        self.newest = None


class _MoshiStream(CodecStream):
    def __init__(self, codec: MoshiCodec) -> None:
        self._codec = codec

    def decode(self, codes: Tensor) -> Tensor:
        codes = self._codec.check(codes)
        if self._codec.newest is not self:
            raise StateError("this moshi stream ended when a newer one began: use one at a time, or codec 'streaming'")
        return torch.cat([torch.zeros(0), *(self._codec.run(frame) for frame in codes.split(1, dim=1))])
