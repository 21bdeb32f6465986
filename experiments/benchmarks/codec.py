"""What one 80 ms frame costs the codec: random weights, one frame a call.

Run ``python -m experiments.benchmarks.codec [--size full] [--frames 60] [--threads 1] [--device cpu]``. The contestants
take turns of five frames, so that a busy machine slows all alike. transformers has no streaming decoder, its
convolutions forget: its row is a call on the new frame alone, whose sound is wrong at every seam. Ratios are of
processor time, which leaves out what other programs took.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import MimiConfig, MimiModel

from csmkit.errors import MissingDependencyError
from csmkit.mimi.codecs import StreamingCodec
from csmkit.mimi.moshi import MoshiCodec
from experiments.benchmarks.report import Clock, add_save, print_json, print_table

FRAME_MS = 80.0
BATCH = 5  # frames of one contestant before the next has its turn
WARM_UP = 5
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "pocket": {
        "num_filters": 24,
        "hidden_size": 256,
        "upsampling_ratios": [4, 5, 6, 8],
        "upsample_groups": 256,
        "num_quantizers": 8,
        "codebook_size": 512,
        "codebook_dim": 32,
        "vector_quantization_hidden_dimension": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "intermediate_size": 768,
        "sliding_window": 40,
    },
}


def random_mimi(directory: Path, size: str) -> MimiModel:
    """Write a codec with random weights and codebooks, and return it."""
    torch.manual_seed(0)
    model = MimiModel(MimiConfig(**SIZES[size])).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor.normal_()
    model.save_pretrained(directory)
    return model


def contestants(model: MimiModel, directory: Path, device: str) -> dict[str, Callable[[Tensor], Any]]:
    """One-frame decoders by name; the first is the one all are compared with."""
    decoders: dict[str, Callable[[Tensor], Any]] = {}
    for name, dtype in (("csmkit float32", torch.float32), ("csmkit bfloat16", torch.bfloat16)):
        decoders[name] = StreamingCodec.load(directory, device=device, dtype=dtype).stream().decode
    try:
        decoders["moshi streaming"] = MoshiCodec.load(directory, device=device).stream().decode
    except MissingDependencyError as error:
        print(f"without moshi: {error}")

    @torch.inference_mode()
    def transformers_frame(codes: Tensor) -> Tensor:
        return model.decode(codes[None].to(device), return_dict=True).audio_values.cpu()

    decoders["transformers, frame alone"] = transformers_frame
    return decoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--frames", type=int, default=60, help="frames measured for each contestant")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as directory:
        model = random_mimi(Path(directory), options.size).to(options.device)
        codes = torch.randint(model.config.codebook_size, (model.config.num_quantizers, 1))
        decoders = contestants(model, Path(directory), options.device)
        clock = Clock(list(decoders))
        for decode in decoders.values():
            for _ in range(WARM_UP):
                decode(codes)
        for _ in range(-(-options.frames // BATCH)):
            for name, decode in decoders.items():
                decode(codes)  # brings its weights back into the cache
                for _ in range(BATCH):
                    clock.time(name, lambda decode=decode: decode(codes))
    rows = [{"decoder": row.pop("figure"), **row} for row in clock.rows("{}")]
    for row in rows:
        row["times_csmkit"] = row.pop("ratio")
        row["rtf"] = round(row["median_ms"] / FRAME_MS, 3)
    print_table(rows)
    print_json("codec", rows, options.save, size=options.size, frame_ms=FRAME_MS, device=options.device)


if __name__ == "__main__":
    main()
