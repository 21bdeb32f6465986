"""Where a progress bar is written: in a notebook to one output that changes, and is no stack of lines afterwards."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from IPython.display import DisplayHandle


def bar_file() -> TextIO | None:
    """What tqdm is given as ``file``: a `CellBar` in a kernel, elsewhere None, which means stderr."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return CellBar() if getattr(shell, "kernel", None) is not None else None


class CellBar(io.TextIOBase):
    """An output of the running cell that shows the latest line written to it.

    A bar on stderr moves by carriage returns, of which a notebook turned into a page shows each as a line.
    """

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._line = ""

    def write(self, text: str) -> int:
        """Show a line in place of the one before; an empty one clears it, the end of a line leaves it there."""
        from IPython.display import display

        line = text.strip()
        if line != self._line and (line or "\n" not in text):
            self._line = line
            if self._handle is None:
                self._handle = display({"text/plain": line}, raw=True, display_id=True)
            else:
                self._handle.update({"text/plain": line}, raw=True)
        return len(text)
