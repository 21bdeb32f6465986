"""Sets of texts to speak, and how a sweep or a notebook draws from them.

``harvard``: a hundred phonetically balanced sentences, written by no one here.
``conversation``: turns of everyday conversation.

Recipes may also name a file of one sentence a line, such as the held-out sentences of the bundled voice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from csmkit.errors import InputError
from csmkit.files.addresses import open_address

TEXT_SETS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.txt")))


def read_texts(source: str) -> list[str]:
    """The lines of a set or a file, without empty ones and those that begin with ``#``.

    Args:
        source: name of a set, or path or address (such as ``s3://bucket/file``) of a file of one sentence a line.

    Raises:
        InputError: neither a set nor a file, or an address that cannot be read.
        MissingDependencyError: the package for this kind of address is not installed, such as s3fs.
    """
    return [line for line in map(str.strip, _lines(source)) if line and not line.startswith("#")]


def _lines(source: str) -> list[str]:
    if "://" in source:
        try:
            with open_address(source, "r") as file:
                return list(file)
        except OSError as error:
            cure = "check the address and your access to it"
            raise InputError(f"cannot read texts={source!r} ({error}): {cure}") from error
    path = Path(__file__).with_name(f"{source}.txt") if source in TEXT_SETS else Path(source)
    if not path.is_file():
        raise InputError(
            f"texts={source!r}: no such file; give a file of one sentence a line, a list of texts, or one of the sets "
            f"{', '.join(TEXT_SETS)}"
        )
    return path.read_text(encoding="utf-8").splitlines()


def draw_texts(texts: str | Sequence[str], n_texts: int, seed: int = 0) -> list[str]:
    """So many texts, drawn at random without replacement: the first of a file need not be like the others.

    Args:
        n_texts: number of texts; a larger number keeps those of a smaller one.

    Raises:
        InputError, MissingDependencyError: as `read_texts`, or fewer texts than that.
    """
    order = read_texts(texts) if isinstance(texts, str) else list(texts)
    if not 1 <= n_texts <= len(order):
        raise InputError(
            f"n_texts={n_texts}: there are {len(order)} different texts, give at least 1 and at most so many"
        )
    random.Random(seed).shuffle(order)
    return order[:n_texts]
