# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which temperature should the voice use?
# Word errors, length, repetition, silence and variety against temperature and top-k. You need: a CPU.
#
# Where csmkit is not installed, run first: `%pip install -q -c ../constraints.txt -e "..[asr,eval,notebook]"`

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
texts = "conversation"  # a set of texts ("harvard" is another), a file or address of one sentence a line, or a list
n_texts = 30  # an error rate needs at least 30
seeds = [1, 2]
temperatures = [0.0, 0.3, 0.6, 0.9, 1.2]
top_ks = [1, 50, 500]
top_k_temperature = 0.9  # temperature at which top-k is varied
measures = ["audio_s", "repeated_frames_ratio", "silence_ratio", "longest_silence_ms"]
whisper = "base.en"
keep = ""  # folder, or an address such as s3://bucket/path, where the rows are kept

# %%
import pandas
from IPython.display import Markdown

from csmkit.lab import plots
from csmkit.lab.analysis.questions import extremes, interval_table, range_finding, variety_rows
from csmkit.lab.analysis.sentences import advice
from csmkit.lab.analysis.statistics import UNITS
from csmkit.lab.notebook import ByEar, hear, keep_rows, texts_from
from csmkit.lab.trials.trial import TrialSettings, run_trials
from csmkit.machine import machine
from csmkit.stack import Stack

stack = Stack(preset)
asr = stack.recogniser(whisper)
machine()

# %% [markdown]
# **The trials.** Word errors below are means by words, all else medians, each with its 95 % interval over texts and
# seeds.

# %%
texts = texts_from(texts, n_texts)
warmer = [TrialSettings(temperature=temperature, seed=seed) for temperature in temperatures for seed in seeds]
trials = run_trials(stack.voice, texts, warmer, asr)
rows = [trial.row for trial in trials]
pandas.DataFrame(rows)[["temperature", "seed", "wer", "audio_s", "finish_reason", "transcript"]].tail()

# %%
plots.trade_off(rows, "temperature", "wer", units=UNITS, weight="n_words")

# %%
Markdown(advice(rows, ["wer", "audio_s", "longest_silence_ms"]))

# %% [markdown]
# **By ear.** The same text at two temperatures.

# %%
ByEar(trials, ["temperature", "seed"], [*measures, "wer", "ttfa_ms", "finish_reason"])

# %% [markdown]
# **Length, repetition, silence.** A voice that does not end by itself speaks longer, repeats codes, or falls silent.

# %%
pandas.DataFrame(interval_table(rows, "temperature", measures))

# %%
plots.trade_off(rows, "temperature", "audio_s", units=UNITS)

# %%
frame = pandas.DataFrame(rows)
pandas.crosstab(frame["temperature"], frame["finish_reason"])

# %% [markdown]
# **Variety.** How differently the seeds say the same text: 0 is the same codes each time.

# %%
varied = variety_rows(trials)
plots.trade_off(varied, "temperature", "variety")

# %%
Markdown(range_finding(varied, "temperature", "variety"))

# %% [markdown]
# **Top-k**, at one temperature: how many of the likeliest codes are drawn from.

# %%
narrower = [TrialSettings(temperature=top_k_temperature, topk=topk, seed=seed) for topk in top_ks for seed in seeds]
top_k_trials = run_trials(stack.voice, texts, narrower, asr)
top_k_rows = [trial.row for trial in top_k_trials]
plots.trade_off(top_k_rows, "topk", "wer", units=UNITS, weight="n_words")

# %%
Markdown(range_finding(top_k_rows, "topk", "wer", weight="n_words"))

# %%
pandas.DataFrame(interval_table(top_k_rows, "topk", measures))

# %%
plots.trade_off(variety_rows(top_k_trials), "topk", "variety")

# %% [markdown]
# **Listen to the extremes**: the trial that was understood best, then the one that was understood worst.

# %%
best, worst = extremes(trials, "wer")
clear = hear(best.audio, best.transcript.words)
{name: best.row[name] for name in ("temperature", "seed", "wer", "text", "transcript")}

# %%
unclear = hear(worst.audio, worst.transcript.words)
{name: worst.row[name] for name in ("temperature", "seed", "wer", "text", "transcript")}

# %%
keep_rows([*rows, *top_k_rows], keep)
