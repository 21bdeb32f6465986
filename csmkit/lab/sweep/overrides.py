"""``chunk_frames=2,4,6``: what a command line says in place of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from csmkit.errors import InputError
from csmkit.lab.sweep.axes import nearest

_ITEM = re.compile(r"\[[^\[\]]*\]|[^,\[\]]+")


def parse_overrides(overrides: Sequence[str], allowed: Iterable[str]) -> dict[str, list[Any]]:
    """Each name and its values.

    Args:
        overrides: ``name=value`` or ``name=value,value``; a value in brackets, such as ``[1,2,4,6]``, is a schedule.
        allowed: names.

    Raises:
        InputError: no equals sign, a name that is not allowed or comes twice, or a list that cannot be read.
    """
    parsed: dict[str, list[Any]] = {}
    known = sorted(allowed)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"override {override!r}: give name=value or name=value,value, such as chunk_frames=2,4,6")
        if name not in known:
            raise InputError(f"override of an unknown {name!r}: {nearest(name, known)}")
        if name in parsed:
            raise InputError(f"{name} is overridden twice: give its values once, with commas between")
        parsed[name] = _values(override, text)
    return parsed


def _values(override: str, text: str) -> list[Any]:
    items = _ITEM.findall(text)
    if not items or ",".join(items) != text:
        raise InputError(f"override {override!r}: give values with commas between, a schedule in brackets: 2,6,[1,2,4]")
    return [_values(override, item[1:-1]) if item.startswith("[") else _scalar(item) for item in items]


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
