"""Train one of the pocket Whispers.

    python -m experiments.pocket.train_whisper --size base.en --text DIR --data DIR [DIR ...] --out DIR --minutes 40

``--data`` may hold folders with other recordings of the same sentences, such as what the codec makes of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from experiments.pocket.exported import whisper_tensors
from experiments.pocket.synthesize import TRAINING
from experiments.pocket.training import Averaged, Means, Muon, Run, device, load_averaged
from experiments.pocket.whisper import (
    SIZES,
    WHISPER_RATE,
    Corpus,
    WhisperTrainee,
    WordEnds,
    clip_of,
    join,
    make_batch,
    train_tokenizer,
    vary,
    whisper_config,
)

PAIRED = 0.2  # share of the batches whose clips are joined two by two


def phones_per_word(sentences: list[str], path: Path) -> None:
    """Ask flite's lexicon for the phones of every word of the corpus (once); JSON ``{word: [phone, ...]}``."""
    words = sorted({"".join(c for c in w if c.isalpha() or c == "'") for s in sentences for w in s.split()} - {""})

    def look_up(word: str) -> list[str]:
        command = ["flite", "-voice", "kal16", "-ps", "-t", word, "-o", "none"]
        spoken = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return [phone for phone in spoken if phone != "pau"]

    with ThreadPoolExecutor(2) as pool:
        path.write_text(json.dumps(dict(zip(words, pool.map(look_up, words), strict=True))))


def optimisers(trainee: WhisperTrainee, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for the rest; the sinusoidal positions stay as they are."""
    trainee.model.model.encoder.embed_positions.requires_grad_(False)
    named = [(n, p) for n, p in trainee.named_parameters() if p.requires_grad]
    inside = [p for n, p in named if ".layers." in n and p.ndim == 2]
    rest = [p for n, p in named if not (".layers." in n and p.ndim == 2)]
    return [
        Muon(inside, lr=2e-3 * rate),
        torch.optim.AdamW(rest, lr=1.5e-3 * rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def trained(size: str, folder: Path) -> WhisperTrainee:
    """A model of a run's averaged weights, or of an exported directory, whose phone head is then new."""
    other = WhisperTrainee(whisper_config(size))
    other.model.model.encoder.embed_positions.requires_grad_(False)
    if (folder / "model.bin").exists():
        other.model.model.load_state_dict(whisper_tensors(folder))
    else:
        load_averaged(other, folder, "trainee")
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=sorted(SIZES), required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start-from", default=None, help="SIZE=DIR: a run of that size, or an exported Whisper")
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual learning rates")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=48.0, help="audio a step")
    args = parser.parse_args()
    torch.manual_seed(0)
    where = device()
    args.out.mkdir(parents=True, exist_ok=True)
    sentences = [line for split in TRAINING for line in (args.text / f"{split}.txt").read_text().splitlines()]
    lexicon, vocabulary = args.text / "phones.json", args.out / "tokenizer.json"
    if not lexicon.exists():
        phones_per_word(sentences, lexicon)
    trainee = WhisperTrainee(whisper_config(args.size))
    if args.start_from:
        size, _, folder = args.start_from.partition("=")
        trainee.start_from(trained(size, Path(folder)))
        if not vocabulary.exists():
            vocabulary.write_text((Path(folder) / "tokenizer.json").read_text())
    trainee.to(where).train()
    if not vocabulary.exists():
        train_tokenizer(sentences).save(str(vocabulary))
    ends, tokenizer = WordEnds(lexicon), Tokenizer.from_file(str(vocabulary))
    average = Averaged(trainee, 0.998)
    run = Run(args.out, args.minutes, {"trainee": trainee, "average": average}, optimisers(trainee, args.rate))
    random = np.random.default_rng(run.step)
    corpus, means, going = Corpus(args.data), Means(), True
    while going:
        corpus.refresh()
        for group in corpus.groups(random, args.seconds):
            run.set_rate(run.flat_then_linear())
            full = random.random() < 0.015
            group = group[:3] if full else group
            clips = [vary(clip_of(u, ends), u, ends, random) for u in group]
            if (
                len(clips) > 1
                and random.random() < PAIRED
                and len(clips[0].audio) + len(clips[-1].audio) < 8 * WHISPER_RATE
            ):
                clips = [join(a, b, random) for a, b in zip(clips[::2], clips[1::2], strict=False)]
            batch = make_batch(clips, tokenizer, random, full)
            batch.__dict__.update({name: value.to(where) for name, value in vars(batch).items()})
            with torch.autocast(where.type, torch.bfloat16):
                text, phone, away = trainee(batch)
            for optimiser in run.optimisers:
                optimiser.zero_grad()
            guided = 0.3 * (1 - run.progress) * away
            (text + (0.5 if run.progress > 0.3 else 1.0) * phone + guided).backward()
            torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
            for optimiser in run.optimisers:
                optimiser.step()
            average.update(trainee, run.step)
            means.add(text=text, phone=phone, away=away)
            if run.step % 50 == 0:
                run.log(utterances=len(corpus.utterances), **means)
            if not (going := run.tick()):
                break


if __name__ == "__main__":
    main()
