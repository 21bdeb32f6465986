"""The pictures of the README that the package draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.pictures import WIDTH, draw

ROOT = Path(__file__).parents[1]


@pytest.mark.bundled
def test_the_pictures_are_drawn_again_as_they_are_kept(tmp_path: Path) -> None:
    drawn = draw(tmp_path)
    assert [path.name for path in drawn] == ["seam.png", "spectrograms.png"]
    for path in drawn:
        kept = ROOT / "docs" / "images" / path.name
        with Image.open(path) as new, Image.open(kept) as old:
            assert new.size == old.size and new.width == WIDTH
            assert len(np.unique(np.asarray(new.convert("L")))) > 10, "something is drawn"
        assert kept.stat().st_size < 100_000
