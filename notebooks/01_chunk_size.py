# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How large should a chunk be?
# Time to first audio, gaps and overhead against chunk size; what happens where chunks meet. You need: a CPU.
#
# Where csmkit is not installed, run first: `%pip install -q -c ../constraints.txt -e "..[asr,eval,notebook]"`

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
texts = "conversation"  # a set of texts ("harvard" is another), a file or address of one sentence a line, or a list
n_texts = 12  # with fewer than 12, no difference is called clear
seeds = [1, 2]
chunk_sizes = [1, 2, 4, 6, 8, [1, 2, 4, 6]]  # frames of 80 ms, or a schedule whose last number repeats
keep = ""  # folder, or an address such as s3://bucket/path, where the rows are kept

# %%
import pandas
from IPython.display import Markdown

from csmkit.lab import plots
from csmkit.lab.analysis.questions import beside_controls, chunk_finding, range_finding, seam_finding
from csmkit.lab.analysis.sentences import advice
from csmkit.lab.analysis.statistics import UNITS
from csmkit.lab.metrics.seams import worst_seam
from csmkit.lab.notebook import ByEar, keep_rows, texts_from
from csmkit.lab.trials.trial import TrialSettings, run_trial, run_trials
from csmkit.machine import machine
from csmkit.stack import Stack

voice = Stack(preset).voice
machine()

# %% [markdown]
# **The trials.** Every text with every size and seed. The chunk size does not change
# the codes, only when they are handed out. Points are medians, bars their 95 % intervals, faint points the texts.

# %%
texts = texts_from(texts, n_texts)
settings = [TrialSettings(chunk_frames=size, seed=seed) for seed in seeds for size in chunk_sizes]
trials = run_trials(voice, texts, settings)
rows = [{**trial.row, "chunk_frames": str(trial.row["chunk_frames"])} for trial in trials]
pandas.DataFrame(rows)[["chunk_frames", "ttfa_ms", "gap_p95_ms", "n_underruns", "rtf", "audio_s"]].head().round(2)

# %%
plots.trade_off(rows, "chunk_frames", "ttfa_ms", units=UNITS)

# %%
plots.trade_off(rows, "chunk_frames", "gap_p95_ms", units=UNITS)

# %%
plots.trade_off(rows, "chunk_frames", "rtf", units=UNITS)

# %% [markdown]
# **One answer, chunk by chunk.** A point above the line came too late, or was slower than real time.

# %%
first = [trial for trial in trials if (trial.row["text"], trial.row["seed"]) == (texts[0], seeds[0])][:6]
plots.chunk_latency([row for trial in first for row in trial.chunk_rows()], group="chunk_frames")

# %%
Markdown(chunk_finding(rows) + "\n\n" + advice(rows, ["ttfa_ms", "rtf", "max_underrun_ms"]))

# %% [markdown]
# **By ear.** Two of these trials side by side, played with their delays, and the latency of each chunk.

# %%
ByEar(trials, ["chunk_frames", "seed"])

# %%
keep_rows(rows, keep)

# %% [markdown]
# **Where chunks meet.** `streaming` carries the codec's state from chunk to chunk; `independent` decodes each chunk
# alone, as stateless servers do. The seam metric compares each border with frame edges that are not borders.

# %%
codecs = [
    TrialSettings(chunk_frames=size, seed=seed, codec=codec)
    for codec in ("streaming", "independent")
    for size in (2, 6)
    for seed in seeds
]
decoded_trials = run_trials(voice, texts, codecs)
decoded = [trial.row for trial in decoded_trials]
plots.trade_off(beside_controls(decoded), "chunk_frames", "seam_click_z", "place", units=UNITS, decades=True)

# %%
Markdown(seam_finding(decoded) + "\n\n" + range_finding(decoded, "codec", "snr_db", ".0f", "dB"))

# %% [markdown]
# **Seen and heard.** The worst border of the chunks decoded alone, and the same place of the stateful stream.

# %%
pair = {
    codec: run_trial(voice, texts[0], TrialSettings(chunk_frames=2, seed=seeds[0], codec=codec))
    for codec in ("streaming", "independent")
}
sounds = {codec: trial.audio for codec, trial in pair.items()}
seam = worst_seam(sounds["independent"], pair["independent"].seams)
plots.seam_close_up(sounds, seam)

# %%
plots.spectrogram_pair(sounds, pair["independent"].seams)

# %% [markdown]
# **The seams by ear**, with the artifact metrics of each trial.

# %%
ByEar(decoded_trials, ["codec", "chunk_frames", "seed"])
