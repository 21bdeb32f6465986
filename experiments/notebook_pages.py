"""Run notebooks and keep them with their figures as pages of the documentation.

    python -m experiments.notebook_pages [--notebooks notebooks] [--docs docs/notebooks] [NAME ...]

Without names: the quickstart, the chunk size and the conversation. Each becomes ``docs/notebooks/NAME.md``, its figures
PNG files beside it. Sounds and widgets are left out; where a picture of the widget is in ``docs/images``, it is shown.
"""

from __future__ import annotations

import argparse
import base64
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill

NAMES = ("00_quickstart", "01_chunk_size", "06_talk")
PICTURES = {"Studio": "studio.png", "Talk": "talk.png", "ByEar": "by_ear.png"}
SOUND = "*Here the notebook has a player.*"
MOST_LINES = 24  # of a text output


def page(notebook: Any, name: str, docs: Path) -> str:
    """A notebook that has run, as Markdown; its figures are written to ``docs``."""
    parts = []
    n_figures = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        if "injected-parameters" not in cell.metadata.get("tags", []):
            parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                n_figures += 1
                path = docs / f"{name}_{n_figures}.png"
                path.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![Figure {n_figures} of {name}]({path.name})")
            elif data:
                parts += _shown(data, cell.source, docs)
    return "\n\n".join(parts) + "\n"


def _shown(data: Any, source: str, docs: Path) -> Iterator[str]:
    """One output that is no figure."""
    widget = next((name for name in PICTURES if re.search(rf"\b{name}\(", source)), None)
    if "application/vnd.jupyter.widget-view+json" in data or "<audio" in data.get("text/html", "") or widget:
        picture = PICTURES.get(widget or "")
        if picture and (docs.parent / "images" / picture).is_file():
            yield f"![{widget} in JupyterLab](../images/{picture})"
        else:
            yield SOUND
    elif "text/markdown" in data:
        yield data["text/markdown"]
    elif "<table" in data.get("text/html", ""):
        yield _table(data["text/html"])
    elif "text/plain" in data:
        lines = data["text/plain"].splitlines()
        yield "```text\n" + "\n".join(lines[:MOST_LINES]) + "\n```"


def _table(html: str) -> str:
    """A table of pandas as HTML without styles and blank lines, which end it in Markdown."""
    table = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return "\n".join(line.strip() for line in table.splitlines() if line.strip())


def write_pages(names: Iterable[str], notebooks: Path, docs: Path) -> list[Path]:
    """Run notebooks in a folder of their own, and write their pages.

    Raises:
        papermill.PapermillExecutionError: a cell failed; no page of that notebook is written.
    """
    docs.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            done = Path(folder) / "done.ipynb"
            papermill.execute_notebook(notebooks / f"{name}.ipynb", done, cwd=folder, kernel_name="python3")
            notebook = nbformat.read(done, as_version=4)
        for old in docs.glob(f"{name}_*.png"):
            old.unlink()
        path = docs / f"{name}.md"
        path.write_text(page(notebook, name, docs), encoding="utf-8")
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    parser.add_argument("--docs", type=Path, default=Path("docs/notebooks"))
    given = parser.parse_args(arguments)
    for path in write_pages(given.names, given.notebooks, given.docs):
        print(path)


if __name__ == "__main__":
    main()
