"""A conversation kept in a folder: what was said as JSON, how it sounded as safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csmkit.errors import CheckpointError, CheckpointNotFoundError, InputError
from csmkit.llm.transformers import Message
from csmkit.speech.settings import Segment

if TYPE_CHECKING:
    from torch import Tensor

    from csmkit.speech.streams import Codec

TEXT_NAME, SOUND_NAME = "conversation.json", "sound.safetensors"
FORMAT = 1


def save_conversation(
    folder: str | PathLike[str], history: Sequence[Message], turns: Sequence[Sequence[Segment]]
) -> None:
    """Write a conversation; what the folder held of another one is replaced.

    Args:
        folder: made if it is not there.
        history: of the language model.
        turns: the segments of each turn, as the voice hears them. Codes are kept where there are any, else the audio.

    Raises:
        InputError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    sounds: dict[str, Tensor] = {}
    rows: list[list[dict[str, Any]]] = []
    for t, turn in enumerate(turns):
        rows.append([{"speaker": segment.speaker, "text": segment.text} for segment in turn])
        for s, segment in enumerate(turn):
            if segment.codes is not None:
                sounds[f"{t}.{s}.codes"] = segment.codes.contiguous()
            elif segment.audio is not None:
                sounds[f"{t}.{s}.audio"] = segment.audio.contiguous()
    text = json.dumps({"format": FORMAT, "history": list(history), "turns": rows}, indent=1, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(sounds, folder / SOUND_NAME)
        (folder / TEXT_NAME).write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:  # the latter for a folder that is full or may not be written to
        hint = "give a folder that you may write to"
        raise InputError(f"cannot save the conversation in {str(folder)!r} ({error}): {hint}") from error


def load_conversation(
    folder: str | PathLike[str], codec: Codec | None = None
) -> tuple[list[Message], list[list[Segment]]]:
    """Read what `save_conversation` wrote: the history, and the segments of each turn.

    Args:
        folder: that was saved.
        codec: that has to know the codes; None where nobody will hear them.

    Raises:
        CheckpointNotFoundError: no conversation there.
        CheckpointError: damaged, of a later version of csmkit, or with the sound of another codec.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / TEXT_NAME).is_file() or not (folder / SOUND_NAME).is_file():
        raise CheckpointNotFoundError(f"no conversation in {str(folder)!r}: give a folder that save() wrote")
    try:
        values = json.loads((folder / TEXT_NAME).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise CheckpointError(f"{str(folder)!r} has format {values['format']!r}, this csmkit reads {FORMAT}")
        sounds = load_file(folder / SOUND_NAME)
        turns = [
            [
                Segment(row["speaker"], row["text"], sounds.get(f"{t}.{s}.audio"), codes=sounds.get(f"{t}.{s}.codes"))
                for s, row in enumerate(turn)
            ]
            for t, turn in enumerate(values["turns"])
        ]
        history = [{"role": str(message["role"]), "content": str(message["content"])} for message in values["history"]]
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"the conversation in {str(folder)!r} is damaged ({error}): save it again") from error
    for segment in (segment for turn in turns for segment in turn if codec is not None):
        if segment.codes is not None and not _knows(codec, segment.codes):
            hint = "load it into a chatbot with the voice that spoke it"
            raise CheckpointError(f"the conversation in {str(folder)!r} has the codes of another codec: {hint}")
    return history, turns


def _knows(codec: Codec, codes: Tensor) -> bool:
    if not codes.numel():
        return True
    return len(codes) >= codec.n_codebooks and int(codes.min()) >= 0 and int(codes.max()) < codec.codebook_size
