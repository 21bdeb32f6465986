"""The voice to train: a small CSM in transformers' own modules, its tokenizer, and its training batches."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration

from experiments.pocket.codec import codec_config
from experiments.pocket.features import shard_names
from experiments.pocket.quantize import CODE_DIMS, CODEBOOK_SIZE, N_CODEBOOKS
from experiments.pocket.synthesize import PHONES_PER_FRAME, TRAINING

SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>", "<|pad|>")
BOS, EOS, AUDIO, AUDIO_EOS, PAD = range(len(SPECIAL))
CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789.,?!'[]-:;"
AUDIO_VOCAB = CODEBOOK_SIZE + 3  # as CSM: three ids beyond the codes, never spoken
DIM = 256
TEXT_ALONE = 0.3  # share of the earlier turns that come without sound


def build_tokenizer() -> Tokenizer:
    """One token a character; lower case, accents dropped, what cannot be spoken dropped."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|pad|>"))
    allowed = "".join("\\" + c if c in "[]-." else c for c in CHARACTERS)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace("’", "'"),
            normalizers.Replace(Regex(r"[\s–—/_]+"), " "),
            normalizers.Replace(Regex(f"[^{allowed}]"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def voice_config() -> CsmConfig:
    """Sizes of the bundled voice; RoPE scaled as CSM's is."""
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0}
    return CsmConfig(
        num_codebooks=N_CODEBOOKS,
        vocab_size=AUDIO_VOCAB,
        text_vocab_size=len(SPECIAL) + len(CHARACTERS),
        hidden_size=DIM,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters=scaling
        | {"high_freq_factor": 0.5, "low_freq_factor": 0.125, "original_max_position_embeddings": 1024},
        pad_token_id=PAD,
        bos_token_id=BOS,
        audio_token_id=AUDIO,
        audio_eos_token_id=AUDIO_EOS,
        codebook_pad_token_id=CODEBOOK_SIZE + 2,
        codebook_eos_token_id=0,
        depth_decoder_config={
            "num_codebooks": N_CODEBOOKS,
            "backbone_hidden_size": DIM,
            "vocab_size": AUDIO_VOCAB,
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 33,
            "rope_parameters": scaling
            | {"high_freq_factor": 0.0078125, "low_freq_factor": 0.001953125, "original_max_position_embeddings": 16},
        },
        codec_config=codec_config().to_dict(),
    )


def start_from_codebooks(model: CsmForConditionalGeneration, codebooks: Tensor) -> None:
    """Begin with audio embeddings that are random projections of the codebook rows: like sounds start alike."""
    table = model.depth_decoder.model.embed_tokens.weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for i, book in enumerate(codebooks):
            project = torch.randn(CODE_DIMS, DIM, generator=generator)
            rows = book[1:] @ project
            scale = 0.3 / rows.std()
            table[i * AUDIO_VOCAB + 1 : i * AUDIO_VOCAB + CODEBOOK_SIZE] = rows * scale
        table += 0.02 * torch.randn(table.shape, generator=generator)


def neighbour_targets(codebooks: Tensor) -> Tensor:
    """``(N_CODEBOOKS, CODEBOOK_SIZE, AUDIO_VOCAB)``: labels shared with codes that sound alike.

    Which of two close rows a frame falls to is chance; telling the model so lets it learn from fewer frames.
    """
    targets = torch.zeros(len(codebooks), CODEBOOK_SIZE, AUDIO_VOCAB)
    for i, book in enumerate(codebooks):
        distance = torch.cdist(book, book).square()
        closest = distance.masked_fill(torch.eye(len(book), dtype=torch.bool), torch.inf).min(1).values.median()
        targets[i, :, :CODEBOOK_SIZE] = torch.softmax(-1.5 * distance / closest, 1)
    targets[0, 0] = 0
    targets[0, 0, 0] = 1  # the end of speech is never in doubt
    return targets


@dataclass(frozen=True)
class Line:
    """One utterance as the voice sees it: text, speaker, codes ``(n_frames, codebooks)``, phones ``(n_frames, 4)``.

    An earlier turn that was not ``heard`` is text alone.
    """

    text: str
    speaker: int
    codes: Tensor
    phones: Tensor
    heard: bool = True

    @property
    def n_rows(self) -> int:
        """Prompt positions: brackets, speaker, bos, eos, characters, and where it was heard frames and end frame."""
        return len(self.text) + 5 + (len(self.codes) + 1) * self.heard


class Lines:
    """All tokenised utterances of some splits; new shards join on `refresh`."""

    def __init__(self, data: list[Path], codes: list[Path], splits: tuple[str, ...] = TRAINING) -> None:
        self.pairs, self.splits = list(zip(data, codes, strict=True)), splits
        self.lines: list[Line] = []
        self._seen: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that have been tokenised since the last look."""
        for data, codes in self.pairs:
            for name in (name for split in self.splits for name in shard_names(data, split)):
                path = codes / f"{name}.codes.safetensors"
                if f"{data}/{name}" in self._seen or not path.exists():
                    continue
                self._seen.add(f"{data}/{name}")
                tokens, at = load_file(path)["codes"].long(), 0
                for row in json.loads((data / f"{name}.json").read_text()):
                    phones = torch.tensor(row["phones"]).view(-1, PHONES_PER_FRAME)
                    self.lines.append(Line(row["text"], row["speaker"], tokens[at : at + len(phones)], phones))
                    at += len(phones)


@dataclass
class Batch:
    """Padded sequences: what each position holds and what follows it.

    Shapes: ``text`` (batch, rows) ids or -1; ``codes`` (batch, rows, codebooks), valid where ``is_audio``; ``speaks``
    (batch, rows): the next row is a frame to be predicted, ``target`` (batch, rows, codebooks) with phones
    ``(batch, rows, 4)``, -100 where the next frame is the end of speech.
    """

    text: Tensor
    codes: Tensor
    is_audio: Tensor
    speaks: Tensor
    target: Tensor
    phones: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move every tensor."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def make_batch(dialogues: list[list[Line]], tokenizer: Tokenizer) -> Batch:
    """Prompts in CSM's layout: per line its text, its frames, the end frame; frames are targets wherever they are."""
    rows = max(sum(line.n_rows for line in lines) for lines in dialogues)
    n = len(dialogues)
    text = torch.full((n, rows), -1)
    codes = torch.zeros(n, rows, N_CODEBOOKS, dtype=torch.long)
    is_audio, speaks = torch.zeros(n, rows, dtype=torch.bool), torch.zeros(n, rows, dtype=torch.bool)
    target = torch.zeros(n, rows, N_CODEBOOKS, dtype=torch.long)
    phones = torch.full((n, rows, PHONES_PER_FRAME), -100)
    for b, lines in enumerate(dialogues):
        at = 0
        for line in lines:
            ids = [BOS, *tokenizer.encode(f"[{line.speaker}]{line.text}", add_special_tokens=False).ids, EOS]
            text[b, at : at + len(ids)] = torch.tensor(ids)
            at += len(ids)
            if not line.heard:
                continue
            count = len(line.codes)
            codes[b, at : at + count] = line.codes
            is_audio[b, at : at + count + 1] = True
            speaks[b, at - 1 : at + count] = True
            target[b, at - 1 : at - 1 + count] = line.codes
            phones[b, at - 1 : at - 1 + count] = line.phones
            at += count + 1
    return Batch(text, codes, is_audio, speaks, target, phones)


class Sampler:
    """Batches of about ``budget`` rows, sequences of like length together; some begin with earlier turns."""

    def __init__(self, lines: Lines, budget: int, context_share: float, seed: int) -> None:
        self.lines, self.budget, self.context_share = lines, budget, context_share
        self.random = np.random.default_rng(seed)
        self.waiting: list[list[list[Line]]] = []

    def _dialogue(self) -> list[Line]:
        pick = self.lines.lines
        n = int(self.random.choice([2, 3, 4], p=[0.6, 0.3, 0.1])) if self.random.random() < self.context_share else 1
        *earlier, last = [pick[int(i)] for i in self.random.integers(len(pick), size=n)]
        return [*(replace(line, heard=self.random.random() >= TEXT_ALONE) for line in earlier), last]

    def draw(self) -> list[list[Line]]:
        """The next batch; pools of sequences are sorted by length and cut."""
        if not self.waiting:
            pool = sorted((self._dialogue() for _ in range(600)), key=lambda d: sum(line.n_rows for line in d))
            batch: list[list[Line]] = []
            for dialogue in pool:
                longest = sum(line.n_rows for line in dialogue)
                if batch and longest * (len(batch) + 1) > self.budget:
                    self.waiting.append(batch)
                    batch = []
                batch.append(dialogue)
            self.waiting.append(batch)
            self.random.shuffle(self.waiting)  # type: ignore[arg-type]
        return self.waiting.pop()
