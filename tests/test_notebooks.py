"""Every notebook: its form, its twin, and that it runs from top to bottom on the bundled models."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from lab_server import kernel_environment, need

need("anywidget", "ipykernel", "jupytext", "matplotlib", "nbclient", "nbformat", "pandas", "papermill")
import jupytext
import nbformat

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what papermill imports
    import papermill

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_CELLS, MOST_LINES = 20, 15
SHORT = {"texts": ["good morning.", "hello."], "n_texts": 2, "seeds": [1, 2]}
PARAMETERS: dict[str, dict[str, Any]] = {  # small ones; a notebook that is not here runs on its own
    "00_quickstart": {"text": "good morning."},
    "01_chunk_size": {**SHORT, "chunk_sizes": [1, 4, [1, 2, 4]], "keep": "kept"},
    "02_temperature": {**SHORT, "temperatures": [0.0, 0.9], "top_ks": [1, 50], "whisper": "tiny.en"},
    "03_whisper_models": {**SHORT, "models": ["tiny.en", "base.en"]},
    "05_report": {
        "experiments": str(FOLDER.parent / "experiments"),
        "results": str(FOLDER.parent / "results"),
        "n_texts": 1,
        "seeds": [0],
    },
    "04_chatbot": {"messages": ["Hello!", "How are you today?"]},
    "06_talk": {"silences_ms": [300, 600], "turns": [["hello.", 4.0], ["can you / tell me a joke?", 4.0]]},
}
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@each
def test_a_notebook_is_short_and_begins_with_what_it_is_and_needs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert (
        first.cell_type == "markdown"
        and first.source.startswith("# ")
        and "You need: " in " ".join(first.source.split())
    )
    assert len(cells(path, "code")) <= MOST_CELLS
    assert max(len(cell.source.splitlines()) for cell in notebook.cells) <= MOST_LINES


@each
def test_a_notebook_keeps_no_outputs_and_has_one_cell_of_parameters_with_the_preset(path: Path) -> None:
    code = cells(path, "code")
    assert not any(cell.outputs or cell.execution_count for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    assert 'preset = "pocket"' in tagged[0].source


@each
def test_a_notebook_and_its_twin_say_the_same(path: Path) -> None:
    twin = jupytext.read(path.with_suffix(".py"))
    notebook = nbformat.read(path, as_version=4)

    def said(book: Any) -> list[tuple[str, str, list[str]]]:
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in book.cells]

    assert said(twin) == said(notebook), "run: jupytext --sync notebooks/*.ipynb"


@each
@pytest.mark.timeout(600)
def test_a_notebook_runs_from_top_to_bottom_and_shows_something_in_each_cell(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in kernel_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    done = tmp_path / "done.ipynb"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of papermill and of the kernel's client, which are not ours
        papermill.execute_notebook(
            path, done, PARAMETERS.get(path.stem, {}), cwd=tmp_path, kernel_name="python3", progress_bar=False
        )
    told = {"parameters", "injected-parameters"}
    code = [cell for cell in cells(done, "code") if not told & set(cell.metadata.get("tags", []))]
    assert [cell.source for cell in code if not cell.outputs] == []
    streams = [output.text for cell in code for output in cell.outputs if output.output_type == "stream"]
    assert streams == [], "neither warnings nor the lines of a progress bar"
