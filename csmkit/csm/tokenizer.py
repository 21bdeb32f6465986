"""Loads the text tokenizer of a voice, which turns text into ids as CSM was trained to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from csmkit.csm.config import CsmConfig
from csmkit.errors import CheckpointError, CheckpointNotFoundError
from csmkit.files.tensors import read_json

LLAMA3_VOCAB, LLAMA3_BOS, LLAMA3_EOS = 128_256, 128_000, 128_001  # ids from bos on are special


@dataclass(frozen=True)
class TextTokenizer:
    """Turns the text of a speaker into ids, as CSM was trained to read it."""

    tokenizer: Tokenizer
    bos: int
    eos: int

    def ids(self, speaker: int, text: str) -> list[int]:
        """``bos [speaker]text eos``."""
        return [self.bos, *self.tokenizer.encode(f"[{speaker}]{text}", add_special_tokens=False).ids, self.eos]


def load_tokenizer(path: str | PathLike[str], config: CsmConfig, values: Mapping[str, Any]) -> TextTokenizer:
    """Load the text tokenizer of a voice.

    Args:
        path: path of tokenizer.json, or of a directory that holds it.
        config: sizes of the model.
        values: contents of config.json, which may name the ids of the two special tokens.

    Raises:
        CheckpointNotFoundError: the file does not exist.
        CheckpointError: the file is not a tokenizer, or belongs to another model.
    """
    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointNotFoundError(
            f"no {file.name} in {str(file.parent)!r}: give the tokenizer.json of this voice by tokenizer=; for CSM-1B "
            "it is Llama 3.2's, which is also in the repository sesame/csm-1b"
        )
    read_json(file)  # for a better message if it is not JSON
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers package raises plain Exception
        raise CheckpointError(
            f"{str(file)!r} is not a tokenizer ({error}): fetch the file again, or give another by tokenizer="
        ) from error
    tokenizer.encode_special_tokens = True  # a special token spelled out in a text is text
    bos = _special_id(tokenizer, "<|begin_of_text|>", (values.get("bos_token_id"),))
    eos = _special_id(tokenizer, "<|end_of_text|>", (values.get("text_eos_token_id"), values.get("eos_token_id")))
    if bos is None or eos is None:
        raise CheckpointError(
            f"{str(file)!r} has no '<|begin_of_text|>' and '<|end_of_text|>', which enclose every text: "
            "give the tokenizer of this voice by tokenizer="
        )
    largest = max(bos, eos, tokenizer.get_vocab_size() - 1)
    if largest >= config.text_vocab:
        raise CheckpointError(
            f"{str(file)!r} has ids up to {largest}, the model has embeddings for {config.text_vocab}: "
            "give the tokenizer of this model"
        )
    if config.text_vocab == LLAMA3_VOCAB:
        _check_llama3(tokenizer, bos, eos, file)
    return TextTokenizer(tokenizer, bos, eos)


def _check_llama3(tokenizer: Tokenizer, bos: int, eos: int, file: Path) -> None:
    """Raise CheckpointError unless it is the tokenizer that CSM-1B was trained with: others make it speak nonsense."""
    remedy = "give Llama 3.2's tokenizer.json, or sesame/csm-1b's, by tokenizer="
    if (bos, eos) != (LLAMA3_BOS, LLAMA3_EOS):
        raise CheckpointError(
            f"{str(file)!r} gives '<|begin_of_text|>' and '<|end_of_text|>' the ids {bos} and {eos}; a model of "
            f"{LLAMA3_VOCAB} ids was trained with {LLAMA3_BOS} and {LLAMA3_EOS}: {remedy}"
        )
    line = "[0]Hi"
    ids = tokenizer.encode(line, add_special_tokens=False).ids
    read_back = tokenizer.decode(ids, skip_special_tokens=False)
    if read_back != line or max(ids) >= LLAMA3_BOS:
        raise CheckpointError(f"{str(file)!r} turns {line!r} into {ids}, which reads {read_back!r}: {remedy}")


def _special_id(tokenizer: Tokenizer, token: str, fallback: Sequence[int | None]) -> int | None:
    """The id of a special token by its name, else the first of the fallbacks that is known."""
    found = tokenizer.token_to_id(token)
    return found if found is not None else next((value for value in fallback if value is not None), None)
