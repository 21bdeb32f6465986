"""Encodes a whole sound to codes, by transformers' MimiModel: the time of a frame does not depend on it."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from transformers import MimiConfig as TransformersMimiConfig
from transformers import MimiModel

from csmkit.audio import FRAME_SAMPLES
from csmkit.errors import CheckpointError
from csmkit.mimi.files import CodecFiles, flat_name

_log = logging.getLogger(__name__)


class WholeEncoder:
    """The encoding half of a codec, in float32.

    Args:
        files: the codec's checkpoint.
        device: device that the encoder runs on.

    Raises:
        CheckpointError: a tensor is missing or has another shape than the config says.
    """

    def __init__(self, files: CodecFiles, device: torch.device) -> None:
        _log.info("loading the encoder of %s", files.path)
        config = TransformersMimiConfig.from_dict({**files.raw_config, "decoder_config": None})
        self.n_codebooks, self.device = files.config.n_codebooks, device
        model = MimiModel(config)
        state = {name: files.read(flat_name(name)).float() for name in model.state_dict()}
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"encoder in {str(files.path)!r} does not fit its config.json ({error}): export the checkpoint again"
            ) from error
        self.model = model.requires_grad_(False).eval().to(device)

    def encode(self, audio: np.ndarray) -> Tensor:
        """Codes of ``(samples,)`` float32 at 24 kHz: ``(n_codebooks, ceil(samples / 1920))`` int64 on the CPU.

        The last frame is filled up with silence before encoding, as moshi does it; transformers' own padding inside
        the convolutions gives that frame other codes.
        """
        n_frames = -(-len(audio) // FRAME_SAMPLES)
        if not n_frames:
            return torch.zeros(self.n_codebooks, 0, dtype=torch.int64)
        filled = torch.zeros(1, 1, n_frames * FRAME_SAMPLES)
        filled[0, 0, : len(audio)] = torch.from_numpy(audio)
        with torch.no_grad():
            encoded = self.model.encode(filled.to(self.device), num_quantizers=self.n_codebooks, return_dict=True)
        return encoded.audio_codes[0].cpu()
