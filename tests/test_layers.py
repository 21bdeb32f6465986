"""The layers of the package: who may import whom, read from the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import csmkit

PACKAGE = Path(csmkit.__file__).parent

# From the ground up; rooms of one line know each other's public names only where ROOMS_APART does not forbid it.
LAYERS = (
    ("errors", "checks", "closing", "moved", "version"),
    ("audio", "timing", "plugins", "machine", "codec", "kernels"),
    ("text", "files"),
    ("csm", "mimi"),
    ("speech", "asr", "llm"),
    ("convert",),
    ("stack",),
    ("chat",),
    ("live",),
    ("lab", "serve"),
    ("cli",),
)
LAB_LAYERS = (
    ("texts",),
    ("metrics",),
    ("trials",),
    ("sweep",),
    ("analysis",),
    ("plots",),
    ("listen",),
    ("report", "notebook"),
)
ROOMS_APART = {("csm", "mimi"), ("speech", "asr"), ("speech", "llm"), ("asr", "llm"), ("lab", "serve")}


def _modules() -> dict[str, Path]:
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def _imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of csmkit that a file imports; of ``from package import module``, both."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A package's names for annotations are those that it imports when they are first used.
    for node in ast.walk(tree if path.name == "__init__.py" else _without_type_checking(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & set(modules)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    """Imports for annotations alone are never run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


MODULES = _modules()
IMPORTS = {name: _imports(path, MODULES) - {name} for name, path in MODULES.items()}


def _pairs() -> list[tuple[str, str]]:
    return [(name, other) for name, others in IMPORTS.items() for other in sorted(others)]


def _level(room: str, layers: tuple[tuple[str, ...], ...]) -> int:
    levels = [level for level, rooms in enumerate(layers) if room in rooms]
    assert levels, f"{room!r} has no layer: add it to tests/test_layers.py where it belongs"
    return levels[0]


def _room(name: str, depth: int = 1) -> str | None:
    parts = name.split(".")
    return parts[depth] if len(parts) > depth else None


def test_no_module_imports_from_a_higher_layer() -> None:
    upward = [
        f"{name} imports {other}"
        for name, other in _pairs()
        if (room := _room(name)) and (below := _room(other)) and _level(below, LAYERS) > _level(room, LAYERS)
    ]
    assert upward == []


def test_rooms_that_do_not_know_each_other_do_not_import_each_other() -> None:
    pairs = [
        f"{name} imports {other}"
        for name, other in _pairs()
        if (_room(name), _room(other)) in ROOMS_APART or (_room(other), _room(name)) in ROOMS_APART
    ]
    assert pairs == []


def test_within_the_lab_no_room_imports_a_higher_one() -> None:
    upward = [
        f"{name} imports {other}"
        for name, other in _pairs()
        if _room(name) == _room(other) == "lab"
        and (room := _room(name, 2))
        and (below := _room(other, 2))
        and _level(below, LAB_LAYERS) > _level(room, LAB_LAYERS)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circles() == []


def _circles() -> list[list[str]]:
    """Groups of modules of which each leads to each other one; the package itself only hands out public names."""
    graph = {name: {other for other in others if other in MODULES} for name, others in IMPORTS.items()}
    reached = {name: _reached(name, graph) for name in graph}
    groups = {
        tuple(sorted({name} | {other for other in reached[name] if name in reached[other]}))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


@pytest.mark.parametrize(
    "module", ["csmkit", "csmkit.errors", "csmkit.timing", "csmkit.plugins", "csmkit.stack", "csmkit.cli"]
)
def test_importing_it_loads_no_model_library(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([name for name in ('torch', 'transformers', 'faster_whisper', 'pandas') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_former_names_of_public_modules_still_lead_to_what_they_were() -> None:
    from importlib import import_module

    from csmkit.moved import MOVED

    for old, new in MOVED.items():
        assert import_module(old) is import_module(new)


def test_public_names_are_there_and_say_what_there_is_otherwise() -> None:
    assert {"ServerLLM", "TransformersLLM", "EchoLLM", "Guards", "Request", "Sampling"} <= set(csmkit.__all__)
    for name in csmkit.__all__:
        assert getattr(csmkit, name).__module__.startswith("csmkit") if name != "SAMPLE_RATE" else True
    with pytest.raises(AttributeError, match=r"public are .*Generator"):
        _ = csmkit.Nothing
