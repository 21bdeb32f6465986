"""What goes into a paper: LaTeX that stands as it is."""

from __future__ import annotations

import re

from csmkit.lab.analysis.findings import analyse
from csmkit.lab.report.latex import REFERENCES, escaped, paper_text

ROWS = [
    {"chunk_frames": size, "text": f"t{text}", "seed": 0, "rtf": 0.1, "max_underrun_ms": 0.0}
    | {"ttfa_ms": 10.0 * size + text}
    for size in (2, 6)
    for text in range(14)
]


def test_the_table_has_a_row_a_setting_with_booktabs_and_as_many_cells_in_each():
    tex = paper_text(analyse(ROWS, figures=["latency"]), "Chunk size")
    body = tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if " & " in line]
    assert len(lines) == 3 and len({line.count(" & ") for line in lines}) == 1
    assert r"\shortstack{chunk size \\ (frames of 80 ms)}" in tex and r"\shortstack{time to first audio \\ (ms)}" in tex


def test_the_paragraph_on_the_method_tells_the_design_and_cites_what_the_bibliography_has():
    tex = paper_text(analyse(ROWS, figures=["latency"]), "Chunk size")
    assert "on 14 texts with 1 random seed each (28 trials)" in tex
    assert "resamples texts (2000 resamples)" in tex and "time to first audio (ms) 20" in tex
    cited = set(re.findall(r"\\citep\{(\w+)\}", tex))
    assert cited == set(re.findall(r"@article\{(\w+),", REFERENCES)) and len(cited) == 5


def test_letters_that_mean_something_to_latex_are_printed_as_they_are():
    assert escaped("50 % of a_b & {c} \\") == r"50 \% of a\_b \& \{c\} \textbackslash{}"
