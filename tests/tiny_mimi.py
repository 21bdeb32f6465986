"""Small Mimi models with random weights, made by transformers, and the same weights under moshi's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration, MimiConfig, MimiModel

TINY: dict[str, Any] = {
    "num_filters": 2,
    "hidden_size": 16,
    "upsample_groups": 16,
    "num_quantizers": 4,
    "codebook_size": 32,
    "codebook_dim": 6,
    "vector_quantization_hidden_dimension": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "sliding_window": 10,
}


def tiny_mimi(seed: int = 0, **changes: Any) -> MimiModel:
    """A tiny MimiModel, its sound at about full scale and its attention strong enough to be heard."""
    torch.manual_seed(seed)
    model = MimiModel(MimiConfig(**{**TINY, **changes})).eval().requires_grad_(False)
    if int(transformers.__version__.partition(".")[0]) < 5:
        see_no_further_than_the_window(model)
    randomise(model)
    return model


def see_no_further_than_the_window(model: MimiModel) -> None:
    """Give transformers 4 the sliding window of its own configuration, which it forgets when it decodes a whole."""

    def windowed(_: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        place = torch.arange(kwargs["hidden_states"].shape[1])
        back = place[:, None] - place[None, :]
        seen = (back >= 0) & (back < model.config.sliding_window)
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        return args, {**kwargs, "attention_mask": mask[None, None]}

    for transformer in (model.encoder_transformer, model.decoder_transformer):
        for layer in transformer.layers:
            layer.self_attn.register_forward_pre_hook(windowed, with_kwargs=True)


def randomise(model: MimiModel) -> None:
    """Give the tensors that transformers leaves constant values that matter, then bring the sound to full scale."""
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()
            tensor[0] *= 1e-5  # of an unused centroid: the references divide it by the floor of the usage
        elif name.endswith("cluster_usage"):
            tensor.uniform_(0.5, 2.0)
            tensor[0] = 0.0
        elif name.endswith("layer_scale.scale"):
            tensor.uniform_(0.5, 1.0)
        elif "norm" in name:
            tensor.add_(0.1 * torch.randn_like(tensor))
    gain = 1.0 / whole(model, random_codes(model.config, 20)).abs().max()
    modules = dict(model.named_modules())  # transformers 4 has the layers one module higher
    last = modules.get("decoder.decoder_seanet", modules["decoder"]).layers[-1].conv
    last.weight.mul_(gain)
    last.bias.mul_(gain)


def random_codes(config: MimiConfig, n_frames: int, seed: int = 1) -> Tensor:
    """``(n_codebooks, n_frames)`` int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.codebook_size, (config.num_quantizers, n_frames), generator=generator)


def whole(model: MimiModel, codes: Tensor) -> Tensor:
    """What transformers decodes of all frames at once, ``(samples,)``."""
    with torch.no_grad():
        return model.decode(codes[None], return_dict=True).audio_values[0, 0]


def tiny_csm(directory: Path, model: MimiModel, n_codebooks: int = 4, **saving: Any) -> Path:
    """Write a CSM checkpoint directory with ``model`` as its codec."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    ids = {
        "bos_token_id": 1,
        "pad_token_id": 0,
        "audio_token_id": 2,
        "audio_eos_token_id": 3,
        "codebook_pad_token_id": 0,
    }
    config = CsmConfig(
        **sizes,
        **ids,
        num_key_value_heads=1,
        num_codebooks=n_codebooks,
        vocab_size=35,
        text_vocab_size=8,
        codec_config=model.config.to_dict(),
        depth_decoder_config={
            **sizes,
            "num_key_value_heads": 1,
            "num_codebooks": n_codebooks,
            "vocab_size": 35,
            "backbone_hidden_size": 8,
        },
    )
    csm = CsmForConditionalGeneration(config)
    csm.codec_model.load_state_dict(model.state_dict(), strict=True)
    csm.save_pretrained(directory, **saving)
    return directory
