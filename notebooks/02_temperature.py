# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How warm should the voice be?
# Word errors, length, repetition, silence and variety against temperature and top-k. You need: a CPU.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
texts = ["good morning, how are you today?", "the weather is nice and warm.", "would you like a cup of tea?"]
seeds = [1, 2, 3, 4]
temperatures = [0.0, 0.3, 0.6, 0.9, 1.2]
top_ks = [1, 5, 50, 500]
top_k_temperature = 0.9  # at which top-k is varied
whisper = "base.en"

# %%
import pandas
from IPython.display import Markdown

from csmkit.lab import plots
from csmkit.lab.comparisons import extremes, variety_rows
from csmkit.lab.findings import range_finding
from csmkit.lab.stack import Stack
from csmkit.lab.statistics import summary_rows
from csmkit.lab.trials import TrialSettings, run_trials
from csmkit.lab.widgets import Player

stack = Stack(preset)
asr = stack.recogniser(whisper)

# %% [markdown]
# **The trials.** Each point below is the median over texts and seeds, with its 95 % bootstrap interval.

# %%
warmer = [TrialSettings(temperature=temperature, seed=seed) for temperature in temperatures for seed in seeds]
trials = run_trials(stack.voice, texts, warmer, asr)
rows = [trial.row for trial in trials]
pandas.DataFrame(rows)[["temperature", "seed", "wer", "audio_s", "finish_reason", "transcript"]].tail()

# %%
plots.trade_off(rows, "temperature", "wer")

# %%
Markdown(range_finding(rows, "temperature", "wer"))

# %% [markdown]
# **Length, repetition, silence.** A voice that runs away gets longer, says the same codes again, or falls silent.

# %%
measures = ["wer", "audio_s", "repeated_frames_ratio", "silence_ratio", "longest_silence_ms"]
columns = {name: [row["median"] for row in summary_rows(rows, "temperature", name)] for name in measures}
pandas.DataFrame(columns, index=pandas.Index(temperatures, name="temperature")).round(3)

# %%
plots.trade_off(rows, "temperature", "audio_s")

# %%
pandas.crosstab([row["temperature"] for row in rows], [row["finish_reason"] for row in rows], rownames=["temperature"])

# %% [markdown]
# **Variety.** How differently the seeds say the same text: 0 is the same codes each time.

# %%
varied = variety_rows(trials)
plots.trade_off(varied, "temperature", "variety")

# %%
Markdown(range_finding(varied, "temperature", "variety"))

# %% [markdown]
# **Top-k**, at one temperature.

# %%
narrower = [TrialSettings(temperature=top_k_temperature, topk=topk, seed=seed) for topk in top_ks for seed in seeds]
top_k_rows = [trial.row for trial in run_trials(stack.voice, texts, narrower, asr)]
plots.trade_off(top_k_rows, "topk", "wer")

# %%
Markdown(range_finding(top_k_rows, "topk", "wer"))

# %% [markdown]
# **Listen to the extremes**: the trial that was understood best, then the one that was understood worst.

# %%
best, worst = extremes(trials, "wer")
clear = Player()
clear.play(best.audio)
clear.wait()
{name: best.row[name] for name in ("temperature", "seed", "wer", "text", "transcript")}

# %%
unclear = Player()
unclear.play(worst.audio)
unclear.wait()
{name: worst.row[name] for name in ("temperature", "seed", "wer", "text", "transcript")}
