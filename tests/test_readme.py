"""The README's examples: each is run, and prints what stands below it; numbers that a machine decides may differ."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [text for _, text in BLOCKS if text.startswith("$ csmkit ")]
PROGRAMS = [
    (text, expected)
    for text, expected in re.findall(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", README, re.MULTILINE | re.DOTALL)
]
# A number is decided by the machine; a partial text by how far the recogniser was.
NUMBER, PARTIAL = re.compile(r"\d+(\.\d+)?"), re.compile(r"^\s*partial:.*\n", re.MULTILINE)


def _run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    run = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env=environment, timeout=240)
    assert run.returncode == 0, run.stderr
    return run.stdout


def _without_numbers(text: str) -> list[str]:
    return NUMBER.sub("#", PARTIAL.sub("", text)).strip().splitlines()


def test_there_are_examples_of_the_command_line_and_of_python() -> None:
    assert len(COMMANDS) >= 2 and len(PROGRAMS) >= 2


def test_every_block_that_begins_with_a_command_shows_what_it_prints() -> None:
    shown = [text for _, text in BLOCKS if text.startswith("$ ")]
    assert len(shown) > len(COMMANDS) and all(len(text.strip().splitlines()) > 1 for text in shown)


@pytest.mark.bundled
@pytest.mark.parametrize("example", COMMANDS)
def test_a_command_prints_what_the_readme_shows(example: str, tmp_path: Path) -> None:
    command, expected = example.split("\n", 1)
    arguments = shlex.split(command.removeprefix("$ csmkit "))
    printed = _run([sys.executable, "-c", "from csmkit.cli import run; run()", *arguments], tmp_path)
    assert _without_numbers(printed) == _without_numbers(expected)


@pytest.mark.bundled
@pytest.mark.parametrize(("program", "expected"), PROGRAMS)
def test_a_program_prints_what_the_readme_shows(program: str, expected: str, tmp_path: Path) -> None:
    printed = _run([sys.executable, "-c", program], tmp_path)
    if expected:
        assert _without_numbers(printed) == _without_numbers(expected)


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)#]+)", README))
def test_a_link_of_the_readme_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 159


def test_the_tree_of_the_readme_names_every_room() -> None:
    rooms = {path.name for path in (ROOT / "csmkit").iterdir() if (path / "__init__.py").exists()}
    assert [room for room in sorted(rooms) if f"{room}/" not in README] == []
