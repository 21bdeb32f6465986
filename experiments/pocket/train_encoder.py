"""Train the codec's encoder: waveform → the latents whose nearest codes the decoder and the voice were trained on.

python -m experiments.pocket.train_encoder --data DIR --codes DIR --out DIR --minutes 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from csmkit.audio import FRAME_SAMPLES
from experiments.pocket.codec import Encoder, codec_config, unit_variance_start
from experiments.pocket.exported import exported_codec
from experiments.pocket.features import shard_names
from experiments.pocket.quantize import CODE_DIMS, N_CODEBOOKS, Quantiser
from experiments.pocket.training import Averaged, Means, Run, device

CROP, BATCH = 25, 6
CONTEXT = 3  # first frames of a crop, which have seen too little, do not count


class Crops:
    """Random crops of samples with the latents of their frames."""

    def __init__(self, data: list[Path], codes: list[Path], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.shards: list[tuple[np.ndarray, Tensor, Tensor]] = []
        for folder, tokens in zip(data, codes, strict=True):
            for name in shard_names(folder, "train"):
                path = tokens / f"{name}.codes.safetensors"
                if path.exists():
                    both = load_file(path)
                    self.shards.append((np.load(folder / f"{name}.npy", mmap_mode="r"), both["latents"], both["codes"]))

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(n, samples)``, ``(n, CROP, 2 * CODE_DIMS)`` and ``(n, CROP, codebooks)``."""
        samples, latents, codes = [], [], []
        for _ in range(n):
            audio, latent, code = self.shards[self.random.integers(len(self.shards))]
            at = int(self.random.integers(len(latent) - CROP))
            piece = audio[at * FRAME_SAMPLES : (at + CROP) * FRAME_SAMPLES]
            samples.append(torch.from_numpy(piece.astype(np.float32) / 32768))
            latents.append(latent[at : at + CROP].float())
            codes.append(code[at : at + CROP].long())
        return torch.stack(samples), torch.stack(latents), torch.stack(codes)


def cell_sizes(codebooks: Tensor) -> Tensor:
    """``(2 * CODE_DIMS,)``: half the distance between neighbouring codes, per dimension: the unit of error."""
    sizes = torch.ones(2 * CODE_DIMS)
    for i, book in enumerate(codebooks):
        used = (book[1:].std(0) > 1e-6).nonzero()[:, 0]
        rows = book[1:, used]
        gap = (
            torch.cdist(rows, rows)
            .masked_fill(torch.eye(len(rows), dtype=torch.bool), torch.inf)
            .min(1)
            .values.median()
        )
        sizes[used + (CODE_DIMS if i else 0)] = gap / 2
    return sizes


def code_loss(semantic: Tensor, acoustic: Tensor, codes: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each code under the (negative squared) distances to its codebook's rows, and accuracy.

    The acoustic codebooks live in orthogonal subspaces, so each can be judged on the whole latent.
    """
    losses, right = [], []
    for i in range(N_CODEBOOKS):
        book = codebooks[i]
        used = (book[1:].std(0) > 1e-6).nonzero()[:, 0]
        rows = book[:, used]
        point = (acoustic if i else semantic)[..., used].flatten(0, -2)
        gap = torch.cdist(rows[1:], rows[1:]).fill_diagonal_(torch.inf).min(1).values.median()
        logits = -torch.cdist(point, rows).square() / gap.square()
        losses.append(F.cross_entropy(logits, codes[..., i].flatten()))
        right.append((logits.argmax(1) == codes[..., i].flatten()).float().mean())
    return torch.stack(losses).mean(), torch.stack(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--codes", type=Path, nargs="+", required=True)
    parser.add_argument("--quantiser", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--start-from", type=Path, default=None, help="an exported voice")
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual learning rate")
    args = parser.parse_args()
    torch.manual_seed(0)
    where = device()
    codebooks = Quantiser.load(args.quantiser).tensors["codebooks"].to(where)
    unit = cell_sizes(codebooks.cpu()).to(where)
    crops = Crops(args.data, args.codes, 0)
    if args.start_from:
        encoder = exported_codec(args.start_from, args.quantiser)[0].to(where)
    else:
        encoder = Encoder(codec_config()).to(where)
        with unit_variance_start(encoder.encoder):
            encoder(crops.draw(8)[0].to(where) * 10)
        first: nn.Conv1d = encoder.encoder.layers[0].conv
        first.weight.data *= 10
    average = Averaged(encoder)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=2e-3 * args.rate, betas=(0.8, 0.99), weight_decay=0.01)
    run = Run(args.out, args.minutes, {"encoder": encoder, "average": average}, [optimiser])
    crops.random = np.random.default_rng(run.step)
    means = Means()
    while True:
        run.set_rate(run.cosine())
        samples, latents, codes = (t.to(where) for t in crops.draw(BATCH))
        with torch.autocast(where.type, torch.bfloat16):
            semantic, acoustic = encoder(samples)
        semantic, acoustic = semantic.float()[:, CONTEXT:], acoustic.float()[:, CONTEXT:]
        wrong = (torch.cat([semantic, acoustic], 2) - latents[:, CONTEXT:]) / unit
        near = F.smooth_l1_loss(wrong, torch.zeros_like(wrong))
        codes_loss, right = code_loss(semantic, acoustic, codes[:, CONTEXT:], codebooks)
        optimiser.zero_grad()
        (near + 0.3 * codes_loss).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 2.0)
        optimiser.step()
        average.update(encoder, run.step)
        means.add(near=near, codes=codes_loss, **{f"right{i}": right[i] for i in (0, 1, 3, 6, 7)})
        if run.step % 100 == 0:
            run.log(**means)
        if not run.tick():
            break


if __name__ == "__main__":
    main()
