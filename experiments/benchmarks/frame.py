"""What one frame of codes costs the language model: random weights of the bundled voice's size, greedy and sampled.

Run ``python -m experiments.benchmarks.frame [--frames 50] [--repeats 5] [--codebook-size 2048]``. The contestants
take turns of one utterance, so that a busy machine slows both alike; its prompt counts, the codec does not. ``cpu_ms``
leaves out the time that other processes had the core. The greedy codes of the two are compared on the way.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration

from csmkit.csm.checkpoint import load_model, load_tokenizer, read_json
from csmkit.generator import Generator
from csmkit.mimi.codecs import FakeCodec
from experiments.benchmarks.report import add_save, print_json, print_table

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>")
TEXT = "hello there, how are you today? it is good to hear from you."
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "high_freq_factor": 0.5,
    "low_freq_factor": 0.125,
    "original_max_position_embeddings": 1024,
}


def pocket_size(audio_vocab: int, n_codebooks: int = 8) -> CsmForConditionalGeneration:
    """A CSM of the bundled voice's size with random weights, and a codec too small to matter."""
    depth: dict[str, Any] = {
        "num_codebooks": n_codebooks,
        "vocab_size": audio_vocab,
        "backbone_hidden_size": 256,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": n_codebooks + 1,
        "rope_parameters": ROPE,
    }
    codec = {"model_type": "mimi", "num_filters": 2, "hidden_size": 16, "upsample_groups": 16, "codebook_dim": 4}
    codec |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 16}
    codec |= {"codebook_size": audio_vocab, "num_quantizers": n_codebooks, "vector_quantization_hidden_dimension": 4}
    torch.manual_seed(0)
    config = CsmConfig(
        num_codebooks=n_codebooks,
        vocab_size=audio_vocab,
        text_vocab_size=64,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        pad_token_id=2,
        audio_token_id=2,
        audio_eos_token_id=3,
        codebook_pad_token_id=audio_vocab - 1,
        rope_parameters=ROPE,
        depth_decoder_config=depth,
        codec_config=codec,
        initializer_range=0.1,
    )
    return CsmForConditionalGeneration(config).eval().requires_grad_(False)


def save(model: CsmForConditionalGeneration, directory: Path) -> None:
    """Write the checkpoint with a tokenizer of characters."""
    model.save_pretrained(directory)
    characters = sorted(set(TEXT + "[]0"))
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))


def run(speak: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Wall and processor time of one utterance in ms a frame, and its codes ``(n_frames, n_codebooks)``."""
    wall, cpu = time.perf_counter(), time.process_time()
    codes = speak()
    return (time.perf_counter() - wall) * 1e3 / len(codes), (time.process_time() - cpu) * 1e3 / len(codes), codes


def contestants(codebook_size: int, n_frames: int) -> dict[tuple[str, str], Callable[[], Tensor]]:
    """The engines by name and sampling, over the same weights."""
    theirs = pocket_size(codebook_size)
    with tempfile.TemporaryDirectory() as folder:
        save(theirs, Path(folder))
        model = load_model(folder)
        tokenizer = load_tokenizer(folder, model.config, read_json(Path(folder) / "config.json"))
    ours = Generator(model, tokenizer, FakeCodec(model.config.n_codebooks, model.config.codebook_size))
    ids = torch.tensor([tokenizer.ids(0, TEXT)])

    def transformers(**how: Any) -> Tensor:
        depth = {f"depth_decoder_{name}": value for name, value in how.items()}
        return theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_frames, **how, **depth)[0]

    def csmkit(**how: Any) -> Tensor:
        # Random weights say the same over and over, and here all frames count.
        return torch.stack(list(ours.frames(TEXT, seed=0, max_audio_length_ms=80 * n_frames, guards=None, **how)))

    return {
        ("transformers", "greedy"): lambda: transformers(do_sample=False),
        ("csmkit", "greedy"): lambda: csmkit(temperature=0.0),
        ("transformers", "top-k 50"): lambda: transformers(do_sample=True, temperature=0.9, top_k=50),
        ("csmkit", "top-k 50"): lambda: csmkit(temperature=0.9, topk=50),
    }


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50, help="frames of an utterance")
    parser.add_argument("--repeats", type=int, default=5, help="utterances of each contestant that count")
    parser.add_argument("--codebook-size", type=int, default=2048, help="codes of each codebook")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)

    speakers = contestants(options.codebook_size, options.frames)
    codes = {key: speak() for key, speak in speakers.items()}  # the first utterance warms up
    times: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in speakers}
    for _ in range(options.repeats):
        for key, speak in speakers.items():
            times[key].append(run(speak)[:2])
    rows = []
    for (engine, sampling), durations in times.items():
        wall, cpu = zip(*durations, strict=True)
        figures = {"median_ms": statistics.median(wall), "min_ms": min(wall), "cpu_ms": statistics.median(cpu)}
        rows.append({"engine": engine, "sampling": sampling, **{name: round(ms, 2) for name, ms in figures.items()}})
    print_table(rows)
    speedups = {
        f"{name}_speedup": round(rows[2][name] / rows[3][name], 2) for name in ("median_ms", "min_ms", "cpu_ms")
    }
    equal = torch.equal(codes["transformers", "greedy"], codes["csmkit", "greedy"])
    print_json("frame", rows, options.save, greedy_codes_equal=equal, **speedups)


if __name__ == "__main__":
    main()
