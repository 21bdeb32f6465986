"""What a checkpoint says that its voice can do: how much in one generation, as whom, and after what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Self

from csmkit.checks import check_integer
from csmkit.errors import CheckpointError, InputError
from csmkit.files.tensors import read_json

FILE_NAME = "csmkit.json"


@dataclass(frozen=True)
class Abilities:
    """What a voice can do; the contents of the ``csmkit.json`` of its checkpoint directory, each key optional.

    Attributes:
        most_words: the longest text of one generation, in spoken words. Longer texts are cut at the ends of sentences
            and spoken one passage after another. 60 words are some 25 s of speech.
        most_sentences: the most sentences of one generation; None for as many as fit.
        context_passages: number of passages spoken before that lead the next one's prompt, so that the voice stays.
        n_speakers: the voice has the speakers 0 to ``n_speakers - 1``; None where the checkpoint does not say.
        follows_prompt: whether the voice speaks like a recording that leads its context.

    Raises:
        InputError: a value outside these ranges.
    """

    most_words: int = 60
    most_sentences: int | None = None
    context_passages: int = 1
    n_speakers: int | None = None
    follows_prompt: bool = True

    def __post_init__(self) -> None:
        check_integer("most_words", self.most_words)
        check_integer("most_sentences", self.most_sentences, optional=True)
        check_integer("context_passages", self.context_passages, 0)
        check_integer("n_speakers", self.n_speakers, optional=True)
        if not isinstance(self.follows_prompt, bool):
            raise InputError(f"follows_prompt={self.follows_prompt!r}: give true or false")

    @classmethod
    def read(cls, directory: str | PathLike[str]) -> Self:
        """The abilities of a voice's checkpoint directory; the defaults where it has no csmkit.json.

        Raises:
            CheckpointError: the file is not JSON, or has a key or a value that is not allowed.
        """
        path = Path(directory) / FILE_NAME
        if not path.is_file():
            return cls()
        values, known = read_json(path), [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise CheckpointError(f"{str(path)!r} has the unknown keys {', '.join(unknown)}: use {', '.join(known)}")
        try:
            return cls(**values)
        except InputError as error:
            raise CheckpointError(f"{str(path)!r}: {error}") from error

    def check_speaker(self, speaker: int) -> None:
        """Raise InputError for a speaker that the voice does not have."""
        if self.n_speakers is not None and speaker >= self.n_speakers:
            last = self.n_speakers - 1
            raise InputError(f"speaker={speaker}: this voice has the speakers 0 to {last}, give one of them")

    def check_prompt(self, prompt: Sequence[object]) -> None:
        """Raise InputError for a speaker prompt where the voice does not follow one."""
        if prompt and not self.follows_prompt:
            raise InputError(
                "a speaker prompt (voice= or --voice) for a voice that cannot speak like a recording: "
                "leave it out and choose one of the voice's own speakers by speaker= (--speaker), or load a voice that "
                "can, such as sesame/csm-1b"
            )
