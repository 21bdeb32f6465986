"""What rounding the weights costs: words of the bundled voice that are understood, and logits of CSM-1B's shape.

    python -m experiments.benchmarks.rounding [--texts 120] [--seeds 3] [--save results/benchmarks/rounding.json]
    python -m experiments.benchmarks.rounding --logits full    # random weights of CSM-1B's shape; minutes, 8 GB

Each variant of the voice speaks each text with each seed, and the bundled Whisper transcribes it. Differences are to
float32, over pairs of the same text and seed, with intervals over texts and seeds. Logits are compared after the same
codes, so that one different code does not change all that follow: their relative error, the divergence of the
probabilities at the usual temperature in bits, and how often the most probable code is the same. Neither measurement
says what CSM-1B itself loses.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from csmkit.asr.directory import resolve
from csmkit.asr.whisper import WhisperTranscriber
from csmkit.asr.windows import transcribe_long
from csmkit.audio import SAMPLE_RATE, resample
from csmkit.csm.checkpoint import load_model
from csmkit.csm.config import Sampling
from csmkit.csm.execution.eager import EagerStep, depth_spans
from csmkit.csm.execution.onnx import OnnxStep
from csmkit.csm.execution.step import Step
from csmkit.csm.model import CsmModel, Stacks
from csmkit.csm.quantization import Rounding, quantize
from csmkit.csm.sampling import Noise
from csmkit.files.hub import find_voice
from csmkit.lab.analysis.pairs import paired_difference, paired_rows
from csmkit.lab.analysis.statistics import crossed_interval
from csmkit.lab.metrics.codes import variety
from csmkit.lab.metrics.words import word_error_rate, words
from csmkit.lab.texts import draw_texts, read_texts
from csmkit.machine import checksum
from csmkit.speech.generator import Generator
from csmkit.speech.streams import END_OF_SPEECH
from experiments.benchmarks.report import add_save, print_json, print_table
from experiments.benchmarks.sizes import SIZES, write_random_voice

TEXTS = ("conversation", "harvard")
VARIANTS: dict[str, tuple[torch.dtype, Rounding | None]] = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "int8": (torch.bfloat16, Rounding(8)),
    "int4, blocks of 32": (torch.bfloat16, Rounding(4, 32)),
    "int4, blocks of 128": (torch.bfloat16, Rounding(4, 128)),
}


def voice(name: str, variant: str) -> Generator:
    """The voice as a variant has it."""
    dtype, rounding = VARIANTS[variant]
    generator = Generator.load(name, device="cpu", dtype=dtype, execution="eager")
    if rounding is not None:
        quantize(generator.model, rounding)
        generator.step = OnnxStep(generator.model)
    return generator


def speak(name: str, variants: Sequence[str], texts: Sequence[str], seeds: Sequence[int], whisper: str) -> list[dict]:
    """A row each variant, text and seed. The variants take turns, so that stopping early leaves pairs."""
    generators = {variant: voice(name, variant) for variant in variants}
    transcriber = WhisperTranscriber(resolve(whisper))
    rows = []
    for index, text in enumerate(tqdm(texts, desc="texts", disable=None)):
        for seed in seeds:
            for variant, generator in generators.items():
                stream = generator.speak(generator.request(text, index % 2, seed=seed), (6,))
                audio = torch.cat([torch.zeros(0), *stream]).numpy()
                transcript = transcribe_long(transcriber, resample(audio, SAMPLE_RATE, 16_000), final=True).text
                figures = {
                    "wer": word_error_rate(text, transcript),
                    "n_words": len(words(text).split()),
                    "ended": float(stream.finish_reason == END_OF_SPEECH),
                    "seconds": len(audio) / SAMPLE_RATE,
                    "codes": stream.codes,
                }
                rows.append({"variant": variant, "text": text, "seed": seed, **figures})
    return rows


def summary(rows: Sequence[dict[str, Any]], variants: Sequence[str]) -> list[dict[str, Any]]:
    """A row a variant, with 95 % intervals, and its differences to the first in points."""
    base = [row for row in rows if row["variant"] == variants[0]]
    table = []
    for variant in variants:
        mine = [row for row in rows if row["variant"] == variant]
        wer = crossed_interval(mine, "wer", weight="n_words")
        ended = crossed_interval(mine, "ended", share=True)
        pairs = paired_rows(mine, base, "wer", weight="n_words")
        more = paired_difference(pairs, "wer", weight="n_words")
        codes_of = {row["text"]: [other["codes"] for other in mine if other["text"] == row["text"]] for row in mine}
        varieties = [found for codes in codes_of.values() if (found := variety(codes)) is not None]
        table.append(
            {
                "variant": variant,
                "n": len(mine),
                "wer_percent": _percent(wer.median),
                "wer_95": _bounds(wer),
                "wer_more_percent": _percent(more.median),
                "wer_more_95": _bounds(more),
                "ended_percent": _percent(ended.median),
                "ended_95": _bounds(ended),
                "variety": round(sum(varieties) / len(varieties), 3) if varieties else None,
                "seconds": round(sum(row["seconds"] for row in mine) / len(mine), 2),
            }
        )
    return table


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _bounds(interval: Any) -> str:
    return "" if interval.low is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def divergence(size: str, variants: Sequence[str], n_frames: int) -> list[dict[str, Any]]:
    """How far the logits of a random voice move, over the same codes; the first variant is the one compared with."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_random_voice(SIZES[size], directory)
        first = logits(directory, variants[0], n_frames, None)
        codes = first.argmax(dim=-1)
        return [_divergence(variant, first, logits(directory, variant, n_frames, codes)) for variant in variants[1:]]


def logits(directory: Path, variant: str, n_frames: int, codes: Tensor | None) -> Tensor:
    """``(n_frames, n_codebooks, codebook_size)`` float32 after some text, when these codes are the frames so far.

    Args:
        codes: ``(n_frames, n_codebooks)``; None for the most probable ones.
    """
    dtype, rounding = VARIANTS[variant]
    model = load_model(directory, dtype=dtype)
    step: Step = EagerStep(model)
    stacks = Stacks(model.backbone, model.depth, model.head)
    if rounding is not None:
        quantize(model, rounding)
        step = OnnxStep(model)
        stacks = step.stacks
    seen: list[Tensor] = []

    def head(index: int, hidden: Tensor) -> Tensor:
        seen.append(stacks.head(index, hidden)[0].float())
        return seen[-1][None]

    run(model, step, stacks._replace(head=head), n_frames, codes)
    return torch.stack(seen).view(n_frames, model.config.n_codebooks, -1)


@torch.inference_mode()
def run(model: CsmModel, step: Any, stacks: Stacks, n_frames: int, codes: Tensor | None) -> None:
    """Read a prompt of text, then make frames whose codes are given."""
    config = model.config
    state = step.new_state(64 + n_frames, Noise(config, [Sampling()], [0], model.device))
    tokens = torch.zeros(1, 32, config.n_slots, dtype=torch.int64)
    tokens[..., -1] = torch.arange(32) % config.text_vocab
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[..., -1] = True
    step.read(state, tokens, mask)
    spans = depth_spans(model)
    for frame in range(n_frames):
        noise = torch.zeros(1, config.n_codebooks, config.codebook_size)
        if codes is not None:
            noise.scatter_(2, codes[None, frame, :, None], 1e9)
        state.codes, _ = model.speak_frame(state, noise, config.codebook_size, spans, stacks)
        state.hidden = model.read_frame(state, step.advance(state, 1), stacks)


def _divergence(variant: str, first: Tensor, other: Tensor) -> dict[str, Any]:
    wide, narrow = (x - x.mean(dim=-1, keepdim=True) for x in (first, other))
    p, q = (torch.log_softmax(x / Sampling().temperature, dim=-1) for x in (first, other))
    bits = (p.exp() * (p - q)).sum(dim=-1) / torch.log(torch.tensor(2.0))
    row: dict[str, Any] = {"variant": variant}
    for name, part in (("first codebook", slice(0, 1)), ("others", slice(1, None))):
        row[f"{name}: error"] = round(float((narrow[:, part] - wide[:, part]).norm() / wide[:, part].norm()), 4)
        row[f"{name}: bits"] = round(float(bits[:, part].mean()), 4)
        row[f"{name}: same"] = round(float((p.argmax(-1) == q.argmax(-1))[:, part].float().mean()), 3)
    return row


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", default="pocket")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--texts", type=int, default=120, help="drawn from two sets of everyday sentences")
    parser.add_argument("--seeds", type=int, default=3, help="of each text")
    parser.add_argument("--whisper", default="base.en")
    parser.add_argument("--logits", choices=SIZES, default=None, help="compare the logits of this size instead")
    parser.add_argument("--frames", type=int, default=6, help="of the logits")
    add_save(parser)
    options = parser.parse_args()
    if options.logits is not None:
        table = divergence(options.logits, options.variants, options.frames)
        print_table(table)
        print_json("rounding_logits", table, options.save, size=options.logits, n_frames=options.frames)
        return
    weights = checksum(find_voice(options.voice) / "model.safetensors")
    texts = draw_texts([text for name in TEXTS for text in read_texts(name)], options.texts)
    rows = speak(options.voice, options.variants, texts, range(options.seeds), options.whisper)
    table = summary(rows, options.variants)
    print_table(table)
    counts = {"n_texts": options.texts, "n_seeds": options.seeds, "whisper": options.whisper}
    print_json("rounding", table, options.save, voice=options.voice, weights=weights, **counts)


if __name__ == "__main__":
    main()
