"""What goes into a paper as it is: the table with booktabs, a paragraph on the method, and what it cites."""

from __future__ import annotations

from collections.abc import Sequence

from csmkit.lab.analysis.findings import Findings
from csmkit.lab.analysis.sentences import interval_rows
from csmkit.lab.analysis.statistics import LEAST_SEEDS, RESAMPLES

PAPER, BIBLIOGRAPHY = "paper.tex", "references.bib"
REFERENCES = r"""@article{owen2007pigeonhole, author = {Owen, Art B.}, title = {The pigeonhole bootstrap}, journal = {The Annals of Applied Statistics}, volume = {1}, number = {2}, pages = {386--411}, year = {2007}}
@article{clopper1934use, author = {Clopper, C. J. and Pearson, E. S.}, title = {The use of confidence or fiducial limits illustrated in the case of the binomial}, journal = {Biometrika}, volume = {26}, number = {4}, pages = {404--413}, year = {1934}}
@article{korn1998confidence, author = {Korn, Edward L. and Graubard, Barry I.}, title = {Confidence intervals for proportions with small expected number of positive counts estimated from survey data}, journal = {Survey Methodology}, volume = {24}, number = {2}, pages = {193--201}, year = {1998}}
@article{holm1979simple, author = {Holm, Sture}, title = {A simple sequentially rejective multiple test procedure}, journal = {Scandinavian Journal of Statistics}, volume = {6}, number = {2}, pages = {65--70}, year = {1979}}
@article{schuirmann1987comparison, author = {Schuirmann, Donald J.}, title = {A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of average bioavailability}, journal = {Journal of Pharmacokinetics and Biopharmaceutics}, volume = {15}, number = {6}, pages = {657--680}, year = {1987}}
"""  # noqa: E501
_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
}


def paper_text(findings: Findings, title: str) -> str:
    """The table of figures by setting and the paragraph on the method, for LaTeX with booktabs and natbib."""
    head = r"% \usepackage{booktabs,graphicx,natbib}; \bibliography{references}"
    figures = table(interval_rows(findings), f"{title}: figures by setting with 95 % intervals.")
    return "\n\n".join([head, figures, methods(findings), ""])


def table(rows: Sequence[dict[str, object]], caption: str) -> str:
    """Rows of equal keys as a table no wider than the text; the columns that are figures are centred."""
    header = list(rows[0])
    lines = [" & ".join(escaped(str(row[name])) for name in header) + r" \\" for row in rows]
    head = " & ".join(rf"\shortstack{{{_stacked(name)}}}" for name in header) + r" \\"
    body = "\n".join(lines)
    return rf"""\begin{{table*}}
\caption{{{escaped(caption)}}}
\centering\resizebox{{\textwidth}}{{!}}{{%
\begin{{tabular}}{{{"l" + "c" * (len(header) - 1)}}}
\toprule
{head}
\midrule
{body}
\bottomrule
\end{{tabular}}}}
\end{{table*}}"""


def methods(findings: Findings) -> str:
    """How the figures came about, in sentences that cite; the numbers are those of the rows."""
    texts, seeds = ({row[name] for row in findings.rows} for name in ("text", "seed"))
    drawn = "texts and seeds" if len(seeds) >= LEAST_SEEDS else "texts"
    margins = ", ".join(
        f"{item.label} {item.margin:g}" for item in findings.headlines if item.margin is not None and findings.axes
    )
    text = (
        f"Each setting was run on {len(texts)} texts with {len(seeds)} random seed{'s' * (len(seeds) > 1)} each "
        f"({len(findings.rows)} trials). Figures are medians over texts and seeds, error rates means weighted by "
        f"length. Intervals are 95 % percentile intervals of a bootstrap that resamples {drawn} ({RESAMPLES} "
        "resamples) CITE(owen2007pigeonhole); shares of trials have exact intervals CITE(clopper1934use) with the "
        "number of texts as the effective sample size CITE(korn1998confidence). "
    )
    if findings.axes:
        text += (
            f"Differences are taken between trials that share text, seed and all other settings. Of "
            f"{len(findings.comparisons)} differences the p-values were corrected by Holm's method "
            f"CITE(holm1979simple), and a difference is called clear below 0.05. Equivalence was tested by two "
            f"one-sided tests CITE(schuirmann1987comparison) at these margins: {margins}."
        )
    parts = escaped(text).split("CITE(")
    cited = [rf"\citep{{{part.partition(')')[0]}}}{part.partition(')')[2]}" for part in parts[1:]]
    return parts[0] + "".join(cited)


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _stacked(label: str) -> str:
    """A header on two lines: what it is, and its unit."""
    name, bracket, unit = label.partition(" (")
    return escaped(name) + (r" \\ (" + escaped(unit) if bracket else "")
