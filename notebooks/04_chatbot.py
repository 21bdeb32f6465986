# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A conversation
# Answers with live sound, an interruption, and where the time of a turn goes. You need: a CPU.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
messages = ["Hello!", "How are you today?", "What is the weather like?"]
last_message = "What is your favourite food?"
interrupt_after = 2  # chunks of the last answer
chunk_frames = 4
whisper = "base.en"
seed = 1

# %%
import pandas
from csmkit.lab.plots.turn_rows import chunk_rows, turn_rows
from IPython.display import Markdown

from csmkit import StreamingConversationalChatbot
from csmkit.lab import plots
from csmkit.lab.analysis.questions import turn_finding
from csmkit.lab.notebook import Player, hear_turn
from csmkit.machine import machine

chatbot = StreamingConversationalChatbot(preset=preset, asr=whisper, chunk_frames=chunk_frames, seed=seed)
machine()

# %% [markdown]
# **The first answer**, heard while it is made. Stop in the player interrupts the language model, the voice and the
# recogniser.

# %%
player = Player()
first = hear_turn(chatbot, player, messages[0])
player.wait()
first[-1]["metrics"]["finish_reason"], chatbot.history

# %%
Markdown(turn_finding(first[-1]["metrics"]))

# %% [markdown]
# **The timeline of the turn.** A listener hears a gap in the playback as silence.

# %%
plots.turn_timeline(turn_rows(first))

# %%
plots.chunk_latency(chunk_rows(first))

# %% [markdown]
# **The conversation goes on.**

# %%
turns = [first]
for message in messages[1:]:
    answer = Player()
    turns.append(hear_turn(chatbot, answer, message))
    answer.wait()
pandas.DataFrame(chatbot.history).style.set_properties(**{"text-align": "left"})

# %%
figures = ["llm_ttft_ms", "text_ttfs_ms", "ttfa_ms", "ttfa_audible_ms", "rtf", "audio_s", "wer", "finish_reason"]
pandas.DataFrame([turn[-1]["metrics"] for turn in turns])[figures].round(2)

# %% [markdown]
# **An interruption.** The listener interrupts, and the history keeps only what was spoken.

# %%
cut_short = Player()
interrupted = hear_turn(chatbot, cut_short, last_message, interrupt_after)
cut_short.wait()
Markdown(f"Ended as **{interrupted[-1]['finish_reason']}**. " + turn_finding(interrupted[-1]["metrics"]))

# %%
written = "".join(event["text"] for event in interrupted if event["type"] == "llm_delta")
{"written until then": written, "kept as spoken": chatbot.history[-1]["content"]}

# %%
chatbot.close()
plots.turn_timeline(turn_rows(interrupted))
