# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which Whisper model should recognise the speech?
# Word errors, how soon partial text comes and how often it changes, and how much recognition slows the voice. You need:
# a CPU.
#
# Where csmkit is not installed, run first: `%pip install -q -c ../constraints.txt -e "..[asr,eval,notebook]"`

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
texts = "conversation"  # a set of texts ("harvard" is another), a file or address of one sentence a line, or a list
n_texts = 30  # an error rate needs at least 30
seeds = [1]
models = ["tiny.en", "base.en", "small.en"]
chunk_frames = 2
keep = ""  # folder, or an address such as s3://bucket/path, where the rows are kept

# %%
import pandas
from IPython.display import Markdown

from csmkit.lab import plots
from csmkit.lab.analysis.questions import differences, extremes, whisper_finding
from csmkit.lab.analysis.sentences import advice
from csmkit.lab.analysis.statistics import UNITS
from csmkit.lab.notebook import ByEar, hear, keep_rows, texts_from
from csmkit.lab.trials.trial import TrialSettings, run_trials
from csmkit.machine import machine
from csmkit.stack import Stack

stack = Stack(preset)
machine()

# %% [markdown]
# **The trials.** All recognisers get the same sound, as the seeds are the same. The trials without a recogniser are the
# baseline for the cost of recognition.

# %%
texts = texts_from(texts, n_texts)
settings = [TrialSettings(chunk_frames=chunk_frames, seed=seed) for seed in seeds]
alone = [trial.row for trial in run_trials(stack.voice, texts, settings)]
trials = [trial for model in models for trial in run_trials(stack.voice, texts, settings, stack.recogniser(model))]
rows = [trial.row for trial in trials]
pandas.DataFrame(rows).groupby("whisper", sort=False)[["wer", "cer", "n_partials", "asr_revised"]].mean().round(3)

# %%
plots.trade_off(rows, "whisper", "wer", units=UNITS, weight="n_words")

# %%
plots.trade_off(rows, "whisper", "first_partial_ms", metric_label="first partial text (ms)", units=UNITS)

# %%
plots.trade_off(rows, "whisper", "asr_lag_oldest_p50_ms", units=UNITS)

# %% [markdown]
# **What recognition costs the voice.** The real-time factor and the processor's seconds until the last chunk, each
# minus those of the same text and seed without a recogniser.

# %%
added = differences([*alone, *rows], "whisper", None, ["rtf", "cpu_s"])
none = (0.0, "without a recogniser")
plots.trade_off(added, "whisper", "rtf", metric_label="real-time factor added (s/s)", units=UNITS, line=none)

# %%
plots.trade_off(added, "whisper", "cpu_s", metric_label="processor time added (s)", units=UNITS, line=none)

# %%
Markdown(whisper_finding(rows, added) + "\n\n" + advice(rows, ["wer", "asr_lag_oldest_p50_ms", "first_partial_ms"]))

# %% [markdown]
# **By ear.** What two recognisers made of the same sound: the words are shown under the waveform, and a click plays
# from a word.

# %%
ByEar(trials, ["whisper", "seed"], ["transcript", "wer", "first_partial_ms", "asr_lag_p50_ms", "n_revised_words"])

# %%
keep_rows(rows, keep)

# %% [markdown]
# **How partial text grows**, with its sound: the trial whose partial text changed
# most often.

# %%
_, busiest = extremes(trials, "n_partials")
listened = hear(busiest.audio, busiest.transcript.words)
pandas.DataFrame(
    [(round(at_s * 1000), text) for at_s, text in busiest.partials], columns=["ms since the call", "partial"]
)

# %%
{name: busiest.row[name] for name in ("whisper", "text", "transcript", "wer", "final_after_ms")}
