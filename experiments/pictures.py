"""Draw the pictures of the README: what a codec without state does where chunks meet.

    python -m experiments.pictures [--folder docs/images]

The bundled voice speaks one sentence in chunks of two frames. ``seam.png`` shows the waveform around its worst border,
``spectrograms.png`` the whole sentence: decoded by one stream, and with each chunk decoded alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from csmkit.lab import plots
from csmkit.lab.metrics.seams import worst_seam
from csmkit.lab.plots.paper import save
from csmkit.lab.trials.trial import TrialSettings, run_trial
from csmkit.stack import Stack

TEXT = "good morning, how are you today?"
WIDTH, N_COLOURS = 640, 64
CODECS = {"streaming": "one stream", "independent": "each chunk alone"}  # codec plugin: its label


def draw(folder: Path) -> list[Path]:
    """Write the pictures to a folder; returns their paths."""
    voice = Stack("pocket").voice
    trials = {
        label: run_trial(voice, TEXT, TrialSettings(chunk_frames=2, seed=1, codec=codec))
        for codec, label in CODECS.items()
    }
    sounds = {label: trial.audio for label, trial in trials.items()}
    alone = CODECS["independent"]
    seams = trials[alone].seams
    figures = {
        "seam": plots.seam_close_up(sounds, worst_seam(sounds[alone], seams)),
        "spectrograms": plots.spectrogram_pair(sounds, seams),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        return [_shrink(save(figure, Path(work) / name)[1], folder) for name, figure in figures.items()]


def _shrink(picture: Path, folder: Path) -> Path:
    """Write a PNG to a folder in the width of half a page, with few colours: some tens of kilobytes."""
    with Image.open(picture) as opened:
        pixels = opened.convert("RGB")
    size = (WIDTH, round(pixels.height * WIDTH / pixels.width))
    small = pixels.resize(size, Image.Resampling.LANCZOS).quantize(N_COLOURS, dither=Image.Dither.NONE)
    target = folder / picture.name
    small.save(target, optimize=True)
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, draw, and print the paths."""
    parser = argparse.ArgumentParser(prog="python -m experiments.pictures", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    for path in draw(parser.parse_args(arguments).folder):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
