"""Texts in and rows out, from and to a folder or an address such as ``s3://bucket/path``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from csmkit.errors import InputError, ResultsError
from csmkit.files.addresses import open_address
from csmkit.lab.texts import draw_texts

ROWS = "rows.jsonl"


def texts_from(texts: str | Sequence[str], n_texts: int, seed: int = 0) -> list[str]:
    """Draw texts at random, as `csmkit.lab.texts.draw_texts` does, also from an address.

    Args:
        texts: name of a set, a file or an address of one sentence a line, or the texts themselves.
        n_texts: number of texts to draw.
        seed: seeds the draw.

    Raises:
        InputError: no such set or file, or fewer texts than ``n_texts``.
        MissingDependencyError: the package for this kind of address is not installed, such as s3fs.
    """
    if not isinstance(texts, str) or "://" not in texts:
        return draw_texts(texts, n_texts, seed)
    try:
        with open_address(texts, "r") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise InputError(f"cannot read texts={texts!r} ({error}): check the address and your access to it") from error
    return draw_texts([line for line in lines if line and not line.startswith("#")], n_texts, seed)


def keep_rows(rows: Iterable[Mapping[str, Any]], place: str) -> str:
    """Write rows to ``rows.jsonl`` of a folder or an address, one JSON object a line; an earlier file is replaced.

    Args:
        rows: rows whose values JSON can hold.
        place: a folder, or an address such as ``s3://bucket/path``; empty keeps nothing.

    Returns:
        Where they are, or a sentence that they were not kept.

    Raises:
        ResultsError: the place cannot be written.
        MissingDependencyError: as `texts_from`.
    """
    if not place:
        return "The rows were not kept: give a folder or an address as `keep`."
    path = f"{place.rstrip('/')}/{ROWS}"
    try:
        with open_address(path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise ResultsError(f"cannot write {path!r} ({error}): give a folder or an address you may write to") from error
    return path
