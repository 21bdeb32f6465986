"""Fit the codec's eight codebooks on features, before any network is trained, and tokenise the corpus.

    python -m experiments.pocket.quantize --data DIR --out DIR

Codebook 0 clusters a bottleneck that a small network needs to name the phones of a frame (it takes the place of Mimi's
distilled semantic codebook). Codebooks 1..6 each quantise a few principal components of the frame's log-mel spectrum,
codebook 7 its pitch. The components of the acoustic codebooks are orthogonal, so that the sum of their rows, as a
residual quantiser forms it, is a product quantiser: nearest-neighbour search level after level finds the same codes.

Because the codes exist from the first minutes, the decoder, the encoder and the speech model train side by side.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.pocket.features import PITCH_DIMS, frame_features, read_shard, shard_names
from experiments.pocket.synthesize import PHONES, PHONES_PER_FRAME, SPLITS

CODEBOOK_SIZE = 512
SEMANTIC_DIMS = 16
BLOCKS = ((0, 2), (2, 5), (5, 8), (8, 12), (12, 17), (17, 24))  # principal components of codebooks 1..6
COMPONENTS = BLOCKS[-1][1]
CODE_DIMS = 32  # acoustic latent: 24 components, 6 pitch values, 2 unused
N_CODEBOOKS = 2 + len(BLOCKS)
PITCH_SCALE = torch.tensor([1.0, 1.0, 1.0, 1.0, 8.0, 8.0])


class PhoneNet(nn.Module):
    """Names the four phones of a frame from it and the frame before, through a narrow layer."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2 * n_features, 384), nn.GELU(), nn.Linear(384, 256), nn.GELU())
        self.narrow = nn.Sequential(
            nn.Linear(256, SEMANTIC_DIMS), nn.LayerNorm(SEMANTIC_DIMS, elementwise_affine=False)
        )
        self.head = nn.Sequential(
            nn.Linear(SEMANTIC_DIMS, 256), nn.GELU(), nn.Linear(256, PHONES_PER_FRAME * len(PHONES))
        )

    def bottleneck(self, features: Tensor) -> Tensor:
        """``(n_frames, n_features)`` of one utterance → ``(n_frames, SEMANTIC_DIMS)``."""
        before = torch.cat([features[:1], features[:-1]])
        return self.narrow(self.body(torch.cat([features, before], 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(n_frames, 4, n_phones)``."""
        return self.head(self.bottleneck(features)).view(-1, PHONES_PER_FRAME, len(PHONES))


def k_means(points: Tensor, k: int, steps: int = 25, seed: int = 0) -> Tensor:
    """Lloyd's algorithm from a k-means++-like start; ``(k, dims)`` centres."""
    generator = torch.Generator().manual_seed(seed)
    start = points[torch.randperm(len(points), generator=generator)[: 20 * k]]
    centres = start[:1]
    distance = (start - centres[0]).square().sum(1)
    for _ in range(k - 1):
        pick = torch.multinomial(distance.clamp_min(1e-9), 1, generator=generator)
        centres = torch.cat([centres, start[pick]])
        distance = torch.minimum(distance, (start - start[pick]).square().sum(1))
    for _ in range(steps):
        owner = nearest(points, centres)
        count = torch.bincount(owner, minlength=k)
        total = torch.zeros_like(centres).index_add_(0, owner, points)
        empty = count == 0
        centres = total / count.clamp_min(1)[:, None]
        centres[empty] = points[torch.randint(len(points), (int(empty.sum()),), generator=generator)]
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Index of the closest centre for each point, in pieces that fit the cache."""
    half = centres.square().sum(1) / 2
    return torch.cat([(piece @ centres.T - half).argmax(1) for piece in points.split(8192)])


@dataclass
class Quantiser:
    """Everything needed to turn a frame's features into eight codes and into the latent the encoder must reach."""

    tensors: dict[str, Tensor]

    @classmethod
    def load(cls, path: Path) -> Quantiser:
        """Read ``quantiser.safetensors``."""
        return cls(load_file(path))

    def phone_net(self) -> PhoneNet:
        """The network behind codebook 0."""
        net = PhoneNet(len(self.tensors["mean"]))
        net.load_state_dict({k[6:]: v for k, v in self.tensors.items() if k.startswith("phone.")})
        return net.eval()

    def normal(self, mel: Tensor, pitch: Tensor) -> Tensor:
        """Features to zero mean and unit variance."""
        return (torch.cat([mel, pitch * PITCH_SCALE], 1) - self.tensors["mean"]) / self.tensors["std"]

    def latent(self, mel: Tensor, pitch: Tensor, net: PhoneNet) -> tuple[Tensor, Tensor]:
        """Semantic ``(n_frames, CODE_DIMS)`` and acoustic ``(n_frames, CODE_DIMS)`` latents of one utterance."""
        semantic = net.bottleneck(self.normal(mel, pitch))
        components = (mel - self.tensors["mel_mean"]) @ self.tensors["basis"]
        acoustic = torch.cat(
            [components, (pitch * PITCH_SCALE - self.tensors["pitch_mean"]) * self.tensors["pitch_gain"]], 1
        )
        pad = nn.functional.pad
        return pad(semantic, (0, CODE_DIMS - SEMANTIC_DIMS)), pad(acoustic, (0, CODE_DIMS - acoustic.shape[1]))

    def codes(self, semantic: Tensor, acoustic: Tensor) -> Tensor:
        """``(n_frames, N_CODEBOOKS)`` codes by residual nearest neighbour, as the codec will do it."""
        books = self.tensors["codebooks"]
        found, rest = [nearest(semantic, books[0])], acoustic
        for book in books[1:]:
            found.append(nearest(rest, book))
            rest = rest - book[found[-1]]
        return torch.stack(found, 1)


def fit_phone_net(features: list[Tensor], labels: list[Tensor], seconds: float) -> tuple[PhoneNet, float]:
    """Train the bottleneck network for a while; the share of 20 ms labels it names right at the end comes back."""
    import time

    net = PhoneNet(features[0].shape[1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    inputs = torch.cat([torch.cat([f, torch.cat([f[:1], f[:-1]])], 1) for f in features])
    targets = torch.cat(labels)
    start, right = time.time(), 0.0
    while (spent := (time.time() - start) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - spent) + 1e-5
        pick = torch.randint(len(inputs), (1024,))
        narrow = net.narrow(net.body(inputs[pick]))
        narrow = narrow + 0.15 * torch.randn_like(
            narrow
        )  # spreads the clusters apart, so that k-means keeps the phones
        logits = net.head(narrow).view(-1, PHONES_PER_FRAME, len(PHONES))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets[pick].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        right = 0.99 * right + 0.01 * float((logits.argmax(2) == targets[pick]).float().mean())
    return net.eval(), right


def end_of_speech_row(book: Tensor, semantic: Tensor, labels: Tensor) -> Tensor:
    """Row 0 of codebook 0: sounds like silence, and lies off the plane of the data, so that no speech is given code 0.

    The end of speech is a frame of zeros in every codebook; a code 0 in real speech would be mistaken for its start.
    """
    silence = semantic[(labels == PHONES.index("pau")).all(1)].mean(0)
    row = book[1:][nearest(silence[None], book[1:])[0]].clone()
    row[-1] = 4.0
    return row


def fit(data: Path, n_shards: int, seconds: float) -> tuple[Quantiser, dict[str, float]]:
    """Fit normalisation, phone network, principal components and codebooks on the first shards."""
    mels, pitches, labels = [], [], []
    for name in shard_names(data, "train")[:n_shards]:
        for utterance in read_shard(data, name):
            mel, pitch = frame_features(utterance)
            mels.append(mel)
            pitches.append(pitch)
            labels.append(torch.from_numpy(utterance.phones).view(-1, PHONES_PER_FRAME))
    mel, pitch = torch.cat(mels), torch.cat(pitches) * PITCH_SCALE
    both = torch.cat([mel, pitch], 1)
    t = {"mean": both.mean(0), "std": both.std(0) + 1e-3, "mel_mean": mel.mean(0), "pitch_mean": pitch.mean(0)}
    features = [(torch.cat([m, p * PITCH_SCALE], 1) - t["mean"]) / t["std"] for m, p in zip(mels, pitches, strict=True)]
    net, right = fit_phone_net(features, labels, seconds)
    t |= {f"phone.{k}": v for k, v in net.state_dict().items()}
    values, vectors = torch.linalg.eigh(torch.cov((mel - t["mel_mean"]).T))
    t["basis"] = vectors.flip(1)[:, :COMPONENTS].contiguous()
    explained = float(values.flip(0)[:COMPONENTS].sum() / values.sum())
    t["pitch_gain"] = 2.0 / pitch.std(0)
    quantiser = Quantiser(t)
    with torch.no_grad():
        latents = [quantiser.latent(m, p, net) for m, p in zip(mels, pitches, strict=True)]
    semantic = torch.cat([s for s, _ in latents])
    acoustic = torch.cat([a for _, a in latents])
    books = torch.zeros(N_CODEBOOKS, CODEBOOK_SIZE, CODE_DIMS)
    books[0, 1:] = k_means(semantic, CODEBOOK_SIZE - 1)
    books[0, 0] = end_of_speech_row(books[0], semantic, torch.cat(labels))
    for i, (low, high) in enumerate((*BLOCKS, (COMPONENTS, COMPONENTS + PITCH_DIMS)), start=1):
        books[i, :, low:high] = k_means(acoustic[:, low:high], CODEBOOK_SIZE)
    t["codebooks"] = books
    codes = quantiser.codes(semantic, acoustic)
    rebuilt = sum(books[i][codes[:, i]] for i in range(1, N_CODEBOOKS))
    mel_error = (rebuilt[:, :COMPONENTS] @ t["basis"].T + t["mel_mean"] - mel).square().mean().sqrt()
    entropy = [
        float(torch.distributions.Categorical(torch.bincount(codes[:, i]).float() + 1e-9).entropy())
        for i in range(N_CODEBOOKS)
    ]
    figures = {
        "frames": len(mel),
        "phone_accuracy": right,
        "mel_variance_explained": explained,
        "mel_rms_error_db": float(mel_error) * 8.686,
        "mel_std_db": float(mel.std()) * 8.686,
        "entropy_nats": [round(e, 2) for e in entropy],
        "component_std": [round(float(v.sqrt()), 2) for v in values.flip(0)[:COMPONENTS]],
    }
    return quantiser, figures


def tokenise(data: Path, out: Path, quantiser: Quantiser, keep_latents: bool = True) -> None:
    """Write ``NAME.codes.safetensors`` (codes int16, latents float16, all utterances end to end) beside each shard."""
    net = quantiser.phone_net()
    for split in SPLITS:
        for name in shard_names(data, split):
            target = out / f"{name}.codes.safetensors"
            if target.exists():
                continue
            codes, latents = [], []
            with torch.no_grad():
                for utterance in read_shard(data, name):
                    semantic, acoustic = quantiser.latent(*frame_features(utterance), net)
                    codes.append(quantiser.codes(semantic, acoustic))
                    latents.append(torch.cat([semantic, acoustic], 1).half())
            tensors = {"codes": torch.cat(codes).to(torch.int16)}
            if keep_latents:
                tensors["latents"] = torch.cat(latents)
            save_file(tensors, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=10, help="training shards to fit on")
    parser.add_argument("--seconds", type=float, default=90.0, help="training time of the phone network")
    args = parser.parse_args()
    torch.manual_seed(0)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "quantiser.safetensors"
    if path.exists():
        quantiser = Quantiser.load(path)
    else:
        quantiser, figures = fit(args.data, args.shards, args.seconds)
        save_file(quantiser.tensors, path)
        print(json.dumps(figures))
    tokenise(args.data, args.out, quantiser)


if __name__ == "__main__":
    main()
