# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a sweep to a paper
# Tables and figures, as PDF and PNG, from the rows of `csmkit sweep`. You need: a CPU.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models; only used where there are no rows yet
experiment = "chunk_size"  # a folder of results and a recipe of experiments
results = "../results"
experiments = "../experiments"
n_texts = 12  # of the small sweep that runs where there are no rows yet
seeds = [0]  # of the small sweep, too
measure = ""  # column of the figure; empty is the first of the table
paper = "paper"  # folder for what goes into the paper

# %%
import base64
import shutil
from pathlib import Path

import pandas
from IPython.display import IFrame, Markdown

from csmkit.lab import plots, report
from csmkit.lab.sweep import load_recipe, read_rows, run_sweep

kept = Path(results) / experiment
folder = Path(paper) / experiment  # a copy: what is kept in results stays as it is
pandas.DataFrame(report.coverage_rows(Path(experiments), Path(results))).style.hide()

# %% [markdown]
# **The rows**, one for each trial. Where there are none, a small sweep runs first; `csmkit sweep` runs the whole
# recipe.

# %%
overrides = [f"preset={preset}"]
if (kept / "rows.jsonl").is_file():
    shutil.copytree(kept, folder, dirs_exist_ok=True)
else:
    overrides += [f"n_texts={n_texts}", f"seeds={','.join(map(str, seeds))}"]
    run_sweep(load_recipe(Path(experiments) / f"{experiment}.toml", overrides), folder)
rows = read_rows(folder)
recipe = load_recipe(Path(experiments) / f"{experiment}.toml")
pandas.DataFrame(rows).filter([*recipe.varied, "text", "seed", "started", "csmkit", "device", "error"]).head()

# %%
page = report.build_report(folder)
findings = report.analyse(rows, recipe.baseline)
Markdown("\n".join(f"- {text}" for text in report.missing_of(recipe, rows)) or "Every trial of the recipe is there.")

# %% [markdown]
# **Figures by setting**, each with its 95 % interval over texts and seeds.

# %%
table = pandas.DataFrame(report.interval_rows(findings))
table.set_index(list(table.columns[: len(findings.axes) + 1])).T

# %% [markdown]
# **Differences** from the baseline, between trials that share text, seed and all other settings. Below them all of it
# in units of what matters: filled points are clear, and differences within the band do not matter.

# %%
axis = next(iter(findings.axes), recipe.varied[0])
pandas.DataFrame(report.difference_table(findings, axis))

# %%
report.draw_forest(findings, axis) or "Too few texts for intervals."

# %%
told = report.sentences(findings)
Markdown("\n".join(f"- {text}" for text in told["choice"] + told["shown"]) or "No difference is clear.")

# %%
Markdown("**Not supported by the data**\n\n" + "\n".join(f"- {text}" for text in told["not shown"] + told["too few"]))

# %% [markdown]
# **A figure for the paper**, one column wide.

# %%
measure = measure or findings.headlines[0].column
figure = report.draw_figure(findings, axis, measure)
figure

# %%
Path(paper).mkdir(parents=True, exist_ok=True)
[str(path) for path in plots.save(figure, Path(paper) / f"{experiment}_{measure}")]

# %% [markdown]
# **Text for the paper**: the table with booktabs, a paragraph on the method, and `references.bib` with what it cites.

# %%
Markdown(f"```latex\n{(folder / 'paper.tex').read_text()}\n```")

# %% [markdown]
# **The whole report**: all figures, clips and the environment on one page that can be passed on.

# %%
IFrame("data:text/html;base64," + base64.b64encode(page.read_bytes()).decode(), width="100%", height=600)
