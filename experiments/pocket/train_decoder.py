"""Train the codec's decoder: codes → waveform.

    python -m experiments.pocket.train_decoder --data DIR --codes DIR --out DIR --minutes 90

The loss compares magnitudes of short-time spectra at four resolutions, so phase is the decoder's own choice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from csmkit.audio import FRAME_SAMPLES, SAMPLE_RATE
from experiments.pocket.codec import Decoder, codec_config, unit_variance_start
from experiments.pocket.exported import exported_codec
from experiments.pocket.features import shard_names
from experiments.pocket.quantize import Quantiser
from experiments.pocket.training import Averaged, Means, Run, device

CROP = 25  # frames, 2 s
BATCH = 4
RESOLUTIONS = (2048, 1024, 512, 256)
QUIET = 7e-4  # magnitudes below count as silence


class Crops:
    """Random crops of codes and samples out of all finished shards; new shards join as they appear."""

    def __init__(self, data: list[Path], codes: list[Path], seed: int) -> None:
        self.pairs = list(zip(data, codes, strict=True))
        self.random = np.random.default_rng(seed)
        self.shards: dict[str, tuple[np.ndarray, Tensor]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look for shards that have been tokenised since the last look."""
        for data, codes in self.pairs:
            for name in shard_names(data, "train"):
                key = f"{data}/{name}"
                path = codes / f"{name}.codes.safetensors"
                if key not in self.shards and path.exists():
                    self.shards[key] = (np.load(data / f"{name}.npy", mmap_mode="r"), load_file(path)["codes"])

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """``(n, CROP, codebooks)`` codes and ``(n, CROP * 1920)`` samples."""
        keys = list(self.shards)
        codes, samples = [], []
        for _ in range(n):
            audio, tokens = self.shards[keys[self.random.integers(len(keys))]]
            at = int(self.random.integers(len(tokens) - CROP))
            codes.append(tokens[at : at + CROP].long())
            piece = audio[at * FRAME_SAMPLES : (at + CROP) * FRAME_SAMPLES]
            samples.append(torch.from_numpy(piece.astype(np.float32) / 32768))
        return torch.stack(codes), torch.stack(samples)


def spectral_loss(made: Tensor, real: Tensor) -> Tensor:
    """L1 of log magnitudes, weighted towards the frequencies of speech, plus spectral convergence."""
    total = made.new_zeros(())
    for size in RESOLUTIONS:
        window = torch.hann_window(size, device=made.device)
        both = torch.stft(torch.cat([made, real]), size, size // 4, window=window, return_complex=True, center=False)
        magnitude = torch.view_as_real(both).square().sum(-1).add(1e-12).sqrt() / (size * 3 / 8) ** 0.5
        ours, theirs = magnitude.chunk(2)
        frequency = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE).to(made.device)
        weight = (1 / (1 + frequency / 1500))[:, None]
        weight = weight / weight.mean()
        log_error = ((ours + QUIET).log() - (theirs + QUIET).log()).abs() * weight
        convergence = (ours - theirs).norm() / theirs.norm()
        total = total + (log_error.mean() + convergence) * (0.5 if size == 256 else 1.0)
    return total / 3.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--codes", type=Path, nargs="+", required=True)
    parser.add_argument("--quantiser", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--start-from", type=Path, default=None, help="an exported voice")
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual learning rate")
    args = parser.parse_args()
    torch.manual_seed(0)
    where = device()
    crops = Crops(args.data, args.codes, seed=0)
    if args.start_from:
        decoder = exported_codec(args.start_from, args.quantiser)[1].to(where)
    else:
        decoder = Decoder(codec_config(), Quantiser.load(args.quantiser).tensors["codebooks"]).to(where)
        with unit_variance_start(decoder.decoder):
            decoder.decoder.layers[-1].start_deviation = 0.05
            decoder(crops.draw(8)[0].to(where))
    average = Averaged(decoder)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1.5e-3 * args.rate, betas=(0.8, 0.99), weight_decay=0.01)
    run = Run(args.out, args.minutes, {"decoder": decoder, "average": average}, [optimiser])
    crops.random = np.random.default_rng(run.step)
    means = Means()
    while True:
        run.set_rate(run.cosine())
        codes, samples = (t.to(where) for t in crops.draw(BATCH))
        with torch.autocast(where.type, torch.bfloat16):
            made = decoder(codes)
        loss = spectral_loss(made.float(), samples)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(decoder.parameters(), 2.0)
        optimiser.step()
        average.update(decoder, run.step)
        means.add(loss=loss.detach(), norm=norm)
        if run.step % 100 == 0:
            run.log(**means)
            crops.refresh()
        if not run.tick():
            break


if __name__ == "__main__":
    main()
