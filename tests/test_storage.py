"""Texts and rows of a notebook at an address: here in memory, and on a disk by its address."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from csmkit.errors import InputError, MissingDependencyError
from csmkit.lab.notebook import keep_rows, texts_from
from csmkit.lab.texts import draw_texts


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_rows_are_kept_in_a_folder_or_at_an_address(tmp_path: Path, form: str) -> None:
    path = keep_rows([{"a": 1}, {"a": None}], form.format(tmp_path / "new"))
    assert path.endswith("/rows.jsonl")
    lines = (tmp_path / "new" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": None}]
    assert "not kept" in keep_rows([{"a": 1}], "")


def test_texts_come_from_an_address_as_from_a_file() -> None:
    with fsspec.open("memory://texts/some.txt", "w") as file:
        file.write("# a comment\none.\n\ntwo.\nthree.\n")
    assert texts_from("memory://texts/some.txt", 2) == draw_texts(["one.", "two.", "three."], 2)
    assert texts_from("conversation", 3) == draw_texts("conversation", 3)


def test_what_cannot_be_read_is_named_with_the_remedy() -> None:
    with pytest.raises(InputError, match="check the address and your access"):
        texts_from("memory://texts/nothing.txt", 1)
    with pytest.raises(InputError, match="give a folder, or an address such as s3"):
        keep_rows([], "nowhere://bucket/path")


def test_a_missing_package_for_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3", name="s3fs")

    monkeypatch.setattr(fsspec, "open", absent)
    with pytest.raises(MissingDependencyError, match="pip install s3fs"):
        keep_rows([], "s3://bucket/path")
