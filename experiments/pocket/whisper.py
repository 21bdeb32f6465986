"""The Whispers to train: sizes, tokenizer, features and batches."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from csmkit.audio import SAMPLE_RATE
from experiments.pocket.features import Utterance, read_shard, shard_names
from experiments.pocket.synthesize import PHONES, TRAINING

N_TEXT = 1000  # byte-level BPE
EOT, SOT = N_TEXT, N_TEXT + 1
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
NO_TIMESTAMPS = N_TEXT + len(SPECIAL) - 1
TIME_ZERO = N_TEXT + len(SPECIAL)  # then one token every 20 ms up to 30 s
VOCAB = TIME_ZERO + 1501
N_MELS, MEL_HZ, WHISPER_RATE = 80, 100, 16_000
MARGIN = 3  # frames of 20 ms around a word that still count as the word
SLACK_FRAMES = 20  # 0.2 s of zeros at least follow the audio
WIDTH = 192
SIZES = {"tiny.en": (2, 1), "base.en": (4, 2), "small.en": (7, 3)}  # encoder, decoder layers


def train_tokenizer(sentences: list[str]) -> Tokenizer:
    """Byte-level BPE in Whisper's order of ids: text, end, start, tasks, no speech, no timestamps, timestamps."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TEXT, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f" {s}" for s in sentences], trainer)
    times = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    tokenizer.add_special_tokens([*SPECIAL, *times])
    if tokenizer.get_vocab_size() != VOCAB:
        raise RuntimeError(f"tokenizer has {tokenizer.get_vocab_size()} tokens, expected {VOCAB}")
    return tokenizer


def whisper_config(size: str) -> WhisperConfig:
    """One of `SIZES` as a transformers config; 1500 positions, as every Whisper has."""
    encoder_layers, decoder_layers = SIZES[size]
    return WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=N_MELS,
        d_model=WIDTH,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=WIDTH // 64,
        decoder_attention_heads=WIDTH // 64,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=1500,
        max_target_positions=448,
        dropout=0.0,
        decoder_start_token_id=SOT,
        bos_token_id=EOT,
        eos_token_id=EOT,
        pad_token_id=EOT,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )


@lru_cache
def mel_filters() -> Tensor:
    """faster-whisper's own filters, ``(201, 80)``."""
    from faster_whisper.feature_extractor import FeatureExtractor

    return torch.tensor(FeatureExtractor().mel_filters.T, dtype=torch.float32).contiguous()


def features(audio: Tensor) -> Tensor:
    """16 kHz samples → ``(frames, 80)``, the same numbers as faster-whisper's extractor gives."""
    padded = nn.functional.pad(audio, (0, 160))
    spectrum = torch.stft(padded, 400, 160, window=torch.hann_window(400), return_complex=True)[:, :-1].T
    log = (spectrum.abs().square() @ mel_filters()).clamp_min(1e-10).log10()
    return (log.clamp_min(log.max() - 8.0) + 4.0) / 4.0


class WordEnds:
    """Where each word of an utterance ends, from phones per word as flite's lexicon has them."""

    def __init__(self, path: Path) -> None:
        self.phones: dict[str, list[str]] = json.loads(path.read_text())
        self._found: dict[int, list[tuple[str, float]]] = {}

    def prefixes(self, utterance: Utterance) -> list[tuple[str, float]]:
        """``(text up to and with this word, end in seconds)`` for each word; empty where the phones do not match."""
        key = id(utterance)  # the corpus keeps every utterance alive
        if key not in self._found:
            self._found[key] = self._prefixes(utterance)
        return self._found[key]

    def spans(self, utterance: Utterance) -> list[tuple[int, int]]:
        """First and last 20 ms frame of each word, (-1, -1) where it is not known."""
        ends = {text: round(second * 50) for text, second in self.prefixes(utterance)}
        words, before, spans = utterance.text.split(), 0, []
        for n in range(1, len(words) + 1):
            end = ends.get(" ".join(words[:n]), -1)
            spans.append((before, end) if before >= 0 and end >= 0 else (-1, -1))
            before = end
        return spans

    def _prefixes(self, utterance: Utterance) -> list[tuple[str, float]]:
        from difflib import SequenceMatcher

        if utterance.phones[0] < 0:  # of a voice whose phones are not known
            return []
        words = utterance.text.split()
        expected: list[str] = []
        ends: list[int] = []
        for word in words:
            spoken = self.phones.get(re.sub(r"[^a-z']", "", word))
            if not spoken:
                return []
            expected += spoken
            ends.append(len(expected) - 1)
        labels = [PHONES[i] for i in utterance.phones]
        runs = [(p, i) for i, p in enumerate(labels) if i + 1 == len(labels) or labels[i + 1] != p]
        runs = [(p, i) for p, i in runs if p != "pau"]
        matcher = SequenceMatcher(None, expected, [p for p, _ in runs], autojunk=False)
        at = {block.a + k: block.b + k for block in matcher.get_matching_blocks() for k in range(block.size)}
        found = []
        for word_index, last in enumerate(ends):
            if last in at:
                found.append((" ".join(words[: word_index + 1]), (runs[at[last]][1] + 1) * 0.02))
        return found


@dataclass(frozen=True)
class Clip:
    """A training example: 16 kHz samples, text, phone labels every 20 ms, and where each word is, in such frames."""

    audio: np.ndarray
    text: str
    phones: np.ndarray
    spans: list[tuple[int, int]]


def clip_of(utterance: Utterance, ends: WordEnds) -> Clip:
    """Resample an utterance for Whisper."""
    samples = utterance.samples.astype(np.float32) / 32768
    audio = soxr.resample(samples, SAMPLE_RATE, WHISPER_RATE)
    return Clip(audio, utterance.text, utterance.phones, ends.spans(utterance))


def vary(clip: Clip, utterance: Utterance, ends: WordEnds, random: np.random.Generator) -> Clip:
    """What a listener meets: prefixes of utterances, other levels, noise, silence without words."""
    audio, text, phones = clip.audio, clip.text, clip.phones
    chance = random.random()
    if chance < 0.07:  # no speech: silence or noise alone
        length = int(random.integers(3200, 64_000))
        noise = random.standard_normal(length).astype(np.float32)
        if random.random() < 0.5:
            noise = np.cumsum(noise) * 0.05  # darker
            noise = noise - np.convolve(noise, np.ones(400) / 400, mode="same")
        level = 10 ** random.uniform(-4, -1) if random.random() < 0.8 else 0.0
        quiet = noise * level / (np.std(noise) + 1e-9)
        return Clip(quiet.astype(np.float32), "", np.zeros(length // 320, dtype=np.int64), [])
    if chance < 0.25:
        cuts = ends.prefixes(utterance)[:-1]
        if cuts:
            text, second = cuts[int(random.integers(len(cuts)))]
            stop = int((second + random.uniform(-0.01, 0.06)) * WHISPER_RATE)
            audio, phones = audio[:stop], phones[: stop // 320]
    clip = replace(clip, audio=audio, text=text, phones=phones)
    if random.random() < 0.3:
        clip = faster(clip, random.uniform(0.88, 1.14))
    audio = in_room(clip.audio, random) if random.random() < 0.2 else clip.audio
    gain = 10 ** random.uniform(-0.7, 0.5)
    if random.random() < 0.3:
        audio = audio + random.standard_normal(len(audio)).astype(np.float32) * 10 ** random.uniform(-4, -2.0)
    return replace(clip, audio=(audio * gain).astype(np.float32))


def faster(clip: Clip, factor: float) -> Clip:
    """A clip at another speed, and with that at another pitch."""
    audio = soxr.resample(clip.audio, WHISPER_RATE * factor, WHISPER_RATE, quality="QQ")
    at = np.minimum((np.arange(len(audio) // 320) * factor).astype(np.int64), len(clip.phones) - 1)
    spans = [(round(first / factor), round(last / factor)) if last >= 0 else (-1, -1) for first, last in clip.spans]
    return replace(clip, audio=audio, phones=clip.phones[at], spans=spans)


def in_room(audio: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Sound with the reverberation of a room: noise that decays by 60 dB in 0.1 to 0.5 s, 3 to 20 dB below it."""
    n = int(WHISPER_RATE * random.uniform(0.1, 0.5))
    tail = random.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    size = 1 << (len(audio) + n).bit_length()
    late = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)[: len(audio)]
    late *= 10 ** (-random.uniform(3, 20) / 20) * np.sqrt(np.mean(audio**2) / (np.mean(late**2) + 1e-12))
    return (audio + late).astype(np.float32)


def join(first: Clip, second: Clip, random: np.random.Generator) -> Clip:
    """Two clips with a short pause, as one answer of several clauses sounds."""
    pause = int(random.integers(0, 15))  # of 20 ms
    audio = np.concatenate([first.audio, np.zeros(pause * 320, dtype=np.float32), second.audio])
    at = (len(first.audio) + pause * 320) // 320
    phones = np.zeros(at + len(second.phones), dtype=np.int64)
    n_first = min(len(first.phones), at)
    phones[:n_first], phones[at:] = first.phones[:n_first], second.phones
    moved = [(start + at, end + at) if end >= 0 else (-1, -1) for start, end in second.spans]
    return Clip(audio, f"{first.text} {second.text}".strip(), phones, first.spans + moved)


class Corpus:
    """All utterances of some folders' training shards; new shards join on `refresh`."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders, self.utterances, self._seen = folders, [], set()
        self.refresh()

    def refresh(self) -> None:
        """Read the shards written since the last look."""
        for folder in self.folders:
            for name in (name for split in TRAINING for name in shard_names(folder, split)):
                if (folder, name) not in self._seen:
                    self._seen.add((folder, name))
                    self.utterances: list[Utterance] = self.utterances + read_shard(folder, name)

    def groups(self, random: np.random.Generator, seconds: float) -> list[list[Utterance]]:
        """Batches of about ``seconds`` of audio, utterances of like length together, in random order."""
        pick = random.integers(len(self.utterances), size=1200)
        pool = sorted((self.utterances[int(i)] for i in pick), key=lambda u: len(u.samples))
        groups: list[list[Utterance]] = [[]]
        for utterance in pool:
            longest = len(utterance.samples) / SAMPLE_RATE
            if longest * (len(groups[-1]) + 1) > seconds and groups[-1]:
                groups.append([])
            groups[-1].append(utterance)
        random.shuffle(groups)  # type: ignore[arg-type]
        return groups


@dataclass
class WhisperBatch:
    """``mel`` (batch, frames, 80) zero-padded; ``tokens``, ``labels`` (batch, n); ``phones`` (batch, frames / 2).

    ``spans`` (batch, n, 2): the frames at which the word of each label is heard; -1 where it is not known.
    """

    mel: Tensor
    tokens: Tensor
    labels: Tensor
    phones: Tensor
    spans: Tensor


def make_batch(clips: list[Clip], tokenizer: Tokenizer, random: np.random.Generator, full: bool) -> WhisperBatch:
    """Features with slack (now and then to the full 30 s), tokens with or without timestamps."""
    mels = [features(torch.from_numpy(clip.audio)) for clip in clips]
    longest = max(len(m) for m in mels) + SLACK_FRAMES + int(random.integers(0, 60))
    frames = 3000 if full else min(-(-longest // 2) * 2, 3000)
    mel = torch.zeros(len(clips), frames, N_MELS)
    phones = torch.full((len(clips), frames // 2), -100)
    rows, places = [], []
    for i, (clip, m) in enumerate(zip(clips, mels, strict=True)):
        if random.random() < 0.5:  # masks in time and frequency (SpecAugment), and uneven loudness over frequency
            m = m.clone()
            low = int(random.integers(0, N_MELS - 10))
            m[:, low : low + int(random.integers(0, 10))] = m.mean()
            at = int(random.integers(0, max(len(m) - 8, 1)))
            m[at : at + int(random.integers(0, 8))] = m.mean()
            m = m + 0.05 * float(random.standard_normal()) * torch.linspace(-1, 1, N_MELS)
            m = m + 0.04 * torch.randn(m.shape)
        mel[i, : len(m)] = m
        n = min(len(clip.phones), frames // 2)
        phones[i, :n] = torch.from_numpy(clip.phones[:n])
        encoded = tokenizer.encode(f" {clip.text}") if clip.text else None
        ids = encoded.ids if encoded else []
        places.append([(-1, -1), *word_places(encoded.tokens if encoded else [], clip.spans)])
        if random.random() < 0.15 and ids:
            end = min(int(len(clip.audio) / 320), 1500)
            rows.append([SOT, TIME_ZERO, *ids, TIME_ZERO + end, EOT])
        else:
            rows.append([SOT, NO_TIMESTAMPS, *ids, EOT])
    width = max(len(r) for r in rows) - 1
    tokens, labels = torch.full((len(rows), width), EOT), torch.full((len(rows), width), -100)
    spans = torch.full((len(rows), width, 2), -1)
    for i, row in enumerate(rows):
        spans[i, : len(places[i])] = torch.tensor(places[i])
        tokens[i, : len(row) - 1] = torch.tensor(row[:-1])
        labels[i, : len(row) - 1] = torch.tensor(row[1:])
        if row[1] == NO_TIMESTAMPS:
            labels[i, 0] = -100  # the caller gives it
    return WhisperBatch(mel, tokens, labels, phones, spans)


def word_places(tokens: list[str], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The span of the word that each token belongs to; a token that begins a word begins with "\u0120"."""
    word, places = -1, []
    for token in tokens:
        word += token.startswith("\u0120")
        places.append(spans[word] if word < len(spans) else (-1, -1))
    return places


def chosen_layers(given: int, wanted: int) -> list[int]:
    """Which layers of a model start one of another depth: evenly spread when fewer; -1 is a new one, at the end."""
    if wanted > given:
        return [*range(given), *[-1] * (wanted - given)]
    return [round(i * (given - 1) / max(wanted - 1, 1)) if wanted > 1 else given - 1 for i in range(wanted)]


def looking_away(attention: Tensor, spans: Tensor) -> Tensor:
    """Minus the logarithm of the share of attention, mean over the heads, that falls on the word being written.

    Told where to look, a model finds the alignment of text and sound in minutes (guided attention: Tachibana et al.
    2018).

    Args:
        attention: ``(batch, heads, n, frames / 2)``.
        spans: ``(batch, n, 2)``, -1 where the place is not known.
    """
    place = torch.arange(attention.shape[-1], device=attention.device)
    inside = (place >= spans[..., :1] - MARGIN) & (place <= spans[..., 1:] + MARGIN)
    share = (attention.mean(1) * inside).sum(-1)
    known = spans[..., 1] >= 0
    return -(share[known] + 1e-3).log().mean() if known.any() else attention.new_zeros(())


class WhisperTrainee(nn.Module):
    """A Whisper that takes windows of any length, with a head that names the phone of every 20 ms."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        # On a CPU the fused attention costs more, backwards, than plain products.
        self.model = WhisperForConditionalGeneration._from_config(config, attn_implementation="eager")
        self.phone_head = nn.Linear(config.d_model, len(PHONES))

    def encode(self, mel: Tensor) -> Tensor:
        """``(batch, frames, 80)`` → ``(batch, frames / 2, dim)``; what transformers' encoder does, at any length."""
        encoder = self.model.model.encoder
        x = nn.functional.gelu(encoder.conv1(mel.transpose(1, 2)))
        x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        x = nn.functional.dropout(x, encoder.dropout, self.training)
        for layer in encoder.layers:
            out = layer(x, attention_mask=None)
            x = out[0] if isinstance(out, tuple) else out
        return encoder.layer_norm(x)

    def forward(self, batch: WhisperBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Text loss, phone loss, and how far the last cross-attention looks away from the words."""
        encoded = self.encode(batch.mel)
        heard = self.phone_head(encoded).float()
        phone = nn.functional.cross_entropy(heard.flatten(0, 1), batch.phones.flatten(), ignore_index=-100)
        phone = torch.nan_to_num(phone)  # of voices whose phones are not known: a mean over nothing
        out = self.model.model.decoder(
            input_ids=batch.tokens, encoder_hidden_states=encoded, use_cache=False, output_attentions=True
        )
        logits = self.model.proj_out(out.last_hidden_state).float()
        text = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100, label_smoothing=0.05
        )
        return text, phone, looking_away(out.cross_attentions[-1].float(), batch.spans)

    @torch.no_grad()
    def start_from(self, other: WhisperTrainee) -> None:
        """Begin with the layers of a trained model of another depth; a new layer begins by adding nothing."""
        ours, theirs = self.model.model, other.model.model
        for mine, given in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
            layers, trained = mine.layers, given.layers
            mine.layers, given.layers = nn.ModuleList(), nn.ModuleList()
            mine.load_state_dict(given.state_dict())
            mine.layers, given.layers = layers, trained
            for layer, source in zip(layers, chosen_layers(len(trained), len(layers)), strict=True):
                if source >= 0:
                    layer.load_state_dict(trained[source].state_dict())
                    continue
                for name, parameter in layer.named_parameters():
                    if "out_proj" in name or "fc2" in name:
                        parameter.zero_()
        self.phone_head.load_state_dict(other.phone_head.state_dict())
