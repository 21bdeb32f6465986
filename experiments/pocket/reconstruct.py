"""What the codec makes of the training speech, so that the Whispers do not take the codec's colour for words.

    python -m experiments.pocket.reconstruct --data DIR --codes DIR --decoder DIR --out DIR --shards 8

``--decoder`` is a run of `experiments.pocket.train_decoder` or an exported voice. Writes shards of the same form as
`experiments.pocket.synthesize`. Nothing the voice makes is ever used for training.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from csmkit.audio import FRAME_SAMPLES
from experiments.pocket.codec import Decoder, codec_config
from experiments.pocket.exported import exported_codec
from experiments.pocket.features import read_shard, shard_names
from experiments.pocket.quantize import Quantiser
from experiments.pocket.synthesize import TRAINING
from experiments.pocket.training import load_averaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("data", "codes", "decoder", "quantiser", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=8, help="of each training split")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.decoder / "model.safetensors").exists():
        decoder = exported_codec(args.decoder, args.quantiser)[1]
    else:
        decoder = Decoder(codec_config(), Quantiser.load(args.quantiser).tensors["codebooks"])
        load_averaged(decoder, args.decoder, "decoder")
    decoder.eval()
    names = [name for split in TRAINING for name in shard_names(args.data, split)[: args.shards]]
    for name in tqdm(names):
        if (args.out / f"{name}.json").exists():
            continue
        codes, at, parts = load_file(args.codes / f"{name}.codes.safetensors")["codes"].long(), 0, []
        for utterance in read_shard(args.data, name):
            with torch.inference_mode():
                made = decoder(codes[None, at : at + utterance.n_frames])[0]
            at += utterance.n_frames
            parts.append((made.clamp(-1, 1) * 32767).to(torch.int16).numpy())
            assert len(parts[-1]) == utterance.n_frames * FRAME_SAMPLES
        np.save(args.out / f"{name}.npy", np.concatenate(parts))
        shutil.copy(args.data / f"{name}.json", args.out / f"{name}.json")


if __name__ == "__main__":
    main()
