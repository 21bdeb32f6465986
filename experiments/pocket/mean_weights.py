"""Mean of the weights of several pocket Whispers of one size, written as a run that ``export`` reads.

    python -m experiments.pocket.mean_weights --size base.en --of DIR DIR [--shares 0.5 0.5] --out DIR

Each ``--of`` is a training's run, whose averaged weights count, or an exported directory. A Whisper that was trained on
new material forgets some of the old; its mean with the weights that it began with has most of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from experiments.pocket.train_whisper import trained
from experiments.pocket.training import Averaged
from experiments.pocket.whisper import WhisperTrainee


@torch.no_grad()
def mean_of(size: str, folders: list[Path], shares: list[float]) -> WhisperTrainee:
    """The model whose weights are the sum of the given ones, each times its share.

    The head that names phones, which only training uses, is the first one's.

    Raises:
        SystemExit: the shares are not one for each folder with a sum of 1.
    """
    if len(shares) != len(folders) or abs(sum(shares) - 1) > 1e-6:
        raise SystemExit(f"--shares {shares}: give one for each of the {len(folders)} folders, 1 in sum")
    models = [trained(size, folder) for folder in folders]
    weights = [dict(model.model.model.named_parameters()) for model in models]
    for name, mean in weights[0].items():
        mean.copy_(sum(share * of[name] for share, of in zip(shares, weights, strict=True)))
    return models[0]


def main() -> None:
    """Parse the arguments and write the run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", required=True)
    parser.add_argument("--of", type=Path, nargs="+", required=True, help="runs or exported directories")
    parser.add_argument("--shares", type=float, nargs="+", default=None, help="one for each; all the same")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    mean = mean_of(args.size, args.of, args.shares or [1 / len(args.of)] * len(args.of))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tokenizer.json").write_bytes((args.of[0] / "tokenizer.json").read_bytes())
    state = {"trainee": mean.state_dict(), "average": Averaged(mean).state_dict()}
    torch.save(state, args.out / "checkpoint.pt")


if __name__ == "__main__":
    main()
