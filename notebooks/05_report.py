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
experiment = "chunk_size"  # a folder of results/ and a recipe of experiments/
results, experiments = "../results", "../experiments"
first_look = ["n_texts=3", "seeds=0,1,2"]  # how small a sweep runs where there are no rows yet
measure = "ttfa_ms"  # the column of the close look
paper = "paper"  # folder for what goes into the paper

# %%
import base64
import shutil
from pathlib import Path

import pandas
from IPython.display import IFrame, Markdown

from csmkit.lab import plots
from csmkit.lab.report import analyse, build_report, difference_rows, interval_rows, sentences
from csmkit.lab.statistics import UNITS
from csmkit.lab.sweep import load_recipe, read_rows, run_sweep

recipe = load_recipe(Path(experiments) / f"{experiment}.toml", [f"preset={preset}"])
folder = Path(paper) / experiment  # a copy: what is kept in results/ stays as it is

# %% [markdown]
# **The rows.** One a trial. Where there are none, a small sweep runs first; `csmkit sweep` fills the folder properly.

# %%
if (Path(results) / experiment / "rows.jsonl").is_file():
    shutil.copytree(Path(results) / experiment, folder, dirs_exist_ok=True)
else:
    run_sweep(load_recipe(Path(experiments) / f"{experiment}.toml", [f"preset={preset}", *first_look]), folder)
rows = read_rows(folder)
pandas.DataFrame(rows)[[*recipe.varied, "text", "seed", measure, "started", "csmkit", "device"]].head()

# %% [markdown]
# **Figures by setting**, each with its 95 % interval over texts and seeds.

# %%
findings = analyse(rows, recipe.baseline)
table = pandas.DataFrame(interval_rows(findings))
table

# %% [markdown]
# **Differences**, between trials that share text, seed and all other settings. Clear is where the interval is on one
# side of zero.

# %%
differences = pandas.DataFrame(difference_rows(findings))
differences

# %%
told = sentences(findings)
Markdown("\n".join(f"- {text}" for text in told["shown"]) or "No difference is clear.")

# %%
Markdown("**Not supported by the data**\n\n" + "\n".join(f"- {text}" for text in told["not shown"] + told["too few"]))

# %% [markdown]
# **A figure for the paper**, one column wide.

# %%
axis = recipe.varied[0]
named = [
    row | {axis: "-".join(map(str, row[axis])) if isinstance(row[axis], tuple) else row[axis]} for row in findings.rows
]
figure = plots.trade_off(named, axis, measure, units=UNITS)
figure

# %%
Path(paper).mkdir(parents=True, exist_ok=True)
table.to_latex(Path(paper) / f"{experiment}.tex", index=False, escape=True)
[str(path) for path in plots.save(figure, Path(paper) / f"{experiment}_{measure}")]

# %% [markdown]
# **The whole report**: all figures, clips and the environment on one page, to hand on.

# %%
page = build_report(folder)
IFrame("data:text/html;base64," + base64.b64encode(page.read_bytes()).decode(), width="100%", height=600)
