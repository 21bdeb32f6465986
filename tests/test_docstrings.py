"""What docstrings say of arguments and attributes: an entry makes sense without its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import csmkit

PACKAGE = Path(csmkit.__file__).parent
ROOMS = ("*.py", *sorted(f"{path.name}/**/*.py" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
FRAGMENT = re.compile(r"(of|for|that|which|as|from|with|to|by|in|on|whose|who|its|their|it)\b(?! (?:many|much))")
_SECTION = re.compile(r"(Args|Attributes):")
_ENTRY = re.compile(r"(\*{0,2}\w[\w, *]*):\s+(\S.*)")


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """The name and the text of each entry under Args and Attributes."""
    name, text, indent = "", "", 0
    for line in [*docstring.splitlines(), "."]:
        depth = len(line) - len(line.lstrip())
        found = _ENTRY.fullmatch(line.strip()) if indent and depth == indent else None
        if name and (found or (line.strip() and depth < indent)):
            yield name, text
            name = ""
        if found:
            name, text = found[1], found[2]
        elif name:
            text = f"{text} {line.strip()}"
        if line.strip() and depth < indent:
            indent = 0
        if _SECTION.fullmatch(line.strip()):
            indent = depth + 4


def is_fragment(text: str) -> bool:
    return FRAGMENT.match(text) is not None or len(re.findall(r"\w+", text)) < 3


def test_entries_are_found_and_fragments_are_told_from_whole_ones() -> None:
    docstring = """Say it.

    Args:
        text: of the voice.
        speed: words a minute,
            at least 1.

    Returns:
        n: of nothing.

    Attributes:
        rate: in Hz.
    """
    assert [(name, is_fragment(text)) for name, text in entries(docstring)] == [
        ("text", True),
        ("speed", False),
        ("rate", True),
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_entries_of_docstrings_make_sense_without_their_names(room: str) -> None:
    fragments = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {name}: {text}"
        for path in sorted(PACKAGE.glob(room))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for name, text in entries(ast.get_docstring(node) or "")
        if is_fragment(text)
    ]
    assert fragments == []
