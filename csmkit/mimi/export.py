"""A codec's tensors as transformers writes them, whatever the files call them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from csmkit.mimi.files import CodecFiles


def flat_tensors(files: CodecFiles) -> dict[str, Callable[[], Tensor]]:
    """Every tensor of a codec, both halves, by the name that transformers' ``save_pretrained`` gives it.

    Returns:
        a function each, which reads the tensor in the file's dtype; errors as `CodecFiles.read`.
    """
    if not files.is_moshi:
        return {name: partial(files.read_raw, name) for name in sorted(files.names)}
    # moshi fuses queries, keys and values: transformers' own model says which tensors there must be.
    from transformers import MimiConfig, MimiModel

    from csmkit.mimi.encoder import flat_name

    with torch.device("meta"):
        model = MimiModel(MimiConfig.from_dict(files.raw_config))
    names = sorted({flat_name(name) for name in model.state_dict()})
    return {name: partial(files.read, name) for name in names}


def config_values(files: CodecFiles) -> dict[str, Any]:
    """The codec's part of a CSM's config.json; for moshi's file alone the published sizes, transformers' defaults."""
    values = {**files.raw_config, "model_type": "mimi"}
    values.pop("audio_num_codebooks", None)  # of the CSM that a codec converted to Sesame's layout lies beside
    return values
