"""A random Whisper of one layer in CTranslate2's layout, made in a second: the real code path without real weights."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
SPECIAL += ["<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]


def _tokenizer(directory: Path) -> int:
    """Whole words as text tokens, Whisper's special tokens behind them; returns the size of the vocabulary."""
    tokenizer = Tokenizer(models.BPE(vocab={f"Ġ{word}": i for i, word in enumerate(WORDS)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    times = [f"<|{0.02 * step:.2f}|>" for step in range(1501)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL + times])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], bos_token=SPECIAL[0], unk_token=SPECIAL[0]
    ).save_pretrained(directory)
    return tokenizer.get_vocab_size()


def build(directory: Path, **metadata: bool) -> Path:
    """Write the model; ``metadata`` goes into its csmkit.json."""
    source = directory.with_name(directory.name + "-hf")
    n_vocab = _tokenizer(source)
    first = n_vocab - 1501 - len(SPECIAL)
    config = WhisperConfig(
        vocab_size=n_vocab,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        bos_token_id=first,
        eos_token_id=first,
        pad_token_id=first,
        decoder_start_token_id=first + 1,
    )
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # a random model would answer with one token for ever; this one changes its mind
        model.model.decoder.embed_positions.weight.normal_(std=1.0)
    model.generation_config.update(
        no_timestamps_token_id=first + 8,
        suppress_tokens=list(range(first + 1, n_vocab)),
        begin_suppress_tokens=[first],
        alignment_heads=[[0, 0]],
    )
    model.save_pretrained(source)
    (source / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80, "sampling_rate": 16_000}))
    files = ["tokenizer.json", "preprocessor_config.json"]
    ctranslate2.converters.TransformersConverter(str(source), copy_files=files).convert(str(directory))
    if metadata:
        (directory / "csmkit.json").write_text(json.dumps(metadata))
    return directory
