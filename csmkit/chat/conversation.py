"""The turns of a conversation: messages for the language model, segments for the generator, and their folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from csmkit.chat.settings import TurnOptions
from csmkit.codec import Codec
from csmkit.errors import CheckpointError, CheckpointNotFoundError, InputError
from csmkit.llm.contract import Message
from csmkit.speech.settings import Segment
from csmkit.text.markup import speakable
from csmkit.text.normalize import in_words

TEXT_NAME, SOUND_NAME = "conversation.json", "sound.safetensors"
FORMAT = 1


@dataclass
class Conversation:
    """The turns of which at least one word was delivered.

    Attributes:
        history: ``{"role", "content"}`` of every message, oldest first.
        turns: segments of each turn, the user's first, then those of the answer.
    """

    history: list[Message] = field(default_factory=list)
    turns: list[list[Segment]] = field(default_factory=list)
    _n_left_out: int = 0  # number of oldest segments that are not used as context any more

    def messages(self, text: str) -> list[Message]:
        """The messages that the language model answers: the history, then ``text`` as the user's."""
        return [*self.history, {"role": "user", "content": text}]

    def earlier(self, n_turns: int) -> list[Segment]:
        """The segments of the last ``n_turns`` turns, oldest first, without those that were left out."""
        return [segment for turn in self.turns for segment in turn][self._first(n_turns) :]

    def leave_out(self, n_turns: int, n_segments: int) -> None:
        """Leave the oldest ``n_segments`` out of ``earlier(n_turns)`` from now on; the history keeps their text."""
        self._n_left_out = self._first(n_turns) + n_segments

    def _first(self, n_turns: int) -> int:
        """Index of the first segment of `earlier` among all segments."""
        before = self.turns[:-n_turns] if n_turns else self.turns
        return max(self._n_left_out, sum(len(turn) for turn in before))

    def add(self, text: str, answer: str, segments: Sequence[Segment]) -> None:
        """Add a turn: the user's text, the part of the answer that was delivered, and the segments of both."""
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        self.turns.append(list(segments))

    def remove_last(self) -> None:
        """Remove the last turn."""
        del self.history[-2:]
        self.turns.pop()

    def clear(self) -> None:
        """Remove every turn."""
        self.history.clear()
        self.turns.clear()
        self._n_left_out = 0


def user_segments(text: str, audio: np.ndarray | None, options: TurnOptions) -> list[Segment]:
    """The user's turn as context, with its audio if it was spoken; empty if it has no word.

    Args:
        text: what the user says.
        audio: sound of the text, ``(samples,)`` at 24 kHz, or None.
        options: options of the turn.
    """
    if audio is not None:
        return [Segment(options.user_speaker, text, audio)]
    spoken = text if options.raw_text else in_words(speakable(text))
    return [Segment(options.user_speaker, spoken)] if spoken else []


def save_conversation(
    folder: str | PathLike[str], history: Sequence[Message], turns: Sequence[Sequence[Segment]]
) -> None:
    """Write a conversation to a folder: the text as JSON, the sound as safetensors; an older one is replaced.

    Args:
        folder: path of the folder, which is created if it does not exist.
        history: messages of the language model, oldest first.
        turns: segments of each turn; for each segment its codes are written, else its audio, if it has any.

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
    except (OSError, SafetensorError) as error:  # SafetensorError for a full or write-protected folder
        hint = "give a folder that you may write to"
        raise InputError(f"cannot save the conversation in {str(folder)!r} ({error}): {hint}") from error


def load_conversation(
    folder: str | PathLike[str], codec: Codec | None = None
) -> tuple[list[Message], list[list[Segment]]]:
    """Read what `save_conversation` wrote: the history, and the segments of each turn.

    Args:
        folder: written by `save_conversation`.
        codec: codec of the generator that continues the conversation, which must know the codes; None checks nothing.

    Raises:
        CheckpointNotFoundError: the folder has no conversation.
        CheckpointError: the conversation is damaged, of a later version of csmkit, or has codes of another codec.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / TEXT_NAME).is_file() or not (folder / SOUND_NAME).is_file():
        raise CheckpointNotFoundError(f"no conversation in {str(folder)!r}: give a folder that save() wrote")
    try:
        values = json.loads((folder / TEXT_NAME).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            given = f"the conversation in {str(folder)!r} has format {values['format']!r}"
            raise CheckpointError(f"{given}, this csmkit reads {FORMAT}: update csmkit")
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
    for codes in (segment.codes for turn in turns for segment in turn if codec is not None):
        try:
            if codes is not None and codes.numel():
                codec.check(codes[: codec.n_codebooks])
        except InputError as error:
            hint = "load it into a chatbot with the voice that spoke it"
            raise CheckpointError(
                f"the conversation in {str(folder)!r} has the codes of another codec: {hint}"
            ) from error
    return history, turns
