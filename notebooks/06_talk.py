# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Talk to it
# When is a turn over, what does waiting cost, and what happens when the user breaks in. You need: a CPU; a microphone
# for the last cell.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
whisper = "base.en"
silences_ms = [200, 350, 500, 700, 900]  # silence that ends a turn
pause_s = 0.4  # inside a turn, at each " / " below
turns = [
    ["hello, how are you?", 5.0],  # what the user says, and the seconds until they speak again
    ["can you tell me / what the weather is like?", 5.0],
    ["can you tell me a joke?", 2.3],  # the answer takes longer: the next turn breaks in
    ["thank you, that is enough.", 5.0],
    ["i would like / a cup of tea.", 5.0],
]

# %%
import pandas

from csmkit.lab import plots
from csmkit.lab.notebook import Talk, hear
from csmkit.lab.trials import conversation
from csmkit.live.turn_detector import TurnDetection
from csmkit.machine import machine
from csmkit.stack import Stack

stack = Stack(preset)
asr, llm = stack.recogniser(whisper), stack.language_model
machine()

# %% [markdown]
# **The user** is a recording, so that every run gets the same sound: the voice itself speaks the turns as another
# speaker.

# %%
user = conversation.speak_user_side(
    stack.voice, [conversation.UserTurn(text, then_s, pause_s) for text, then_s in turns], seed=3
)
said = hear(user.audio)

# %% [markdown]
# **The conversation** with each silence, on the clock of the recording. `cut_off` is 1 where a turn was ended inside
# its speech; `end_to_audible_ms` is from the end of the speech to the first sound of the answer.

# %%
held = {
    silence_ms: conversation.hold_conversation(
        user, stack.voice, llm, asr, conversation.with_silence(TurnDetection(), silence_ms)
    )
    for silence_ms in silences_ms
}
rows = [row for silence_ms, one in held.items() for row in conversation.turn_rows(user, one, silence_ms=silence_ms)]
table = pandas.DataFrame(rows)
table.groupby("silence_ms")[["cut_off", "found", "end_to_audible_ms", "own_ms"]].mean().round(2)

# %%
label = "silence that ends a turn (ms)"
plots.trade_off(
    rows, "silence_ms", "end_to_audible_ms", parameter_label=label, metric_label="speech end to answer (ms)"
)

# %%
plots.trade_off(
    rows, "silence_ms", "cut_off", parameter_label=label, metric_label="turns cut off", units=["text"], share=True
)

# %% [markdown]
# **What was recognised**, with the shortest and the longest silence. A turn that is cut off is answered too early, and
# its rest counts as the next turn.

# %%
table[table["silence_ms"].isin([silences_ms[0], silences_ms[-1]])][["silence_ms", "text", "heard", "cut_off"]]

# %% [markdown]
# **Breaking in.** The answer stops, and the history keeps only the words that were played.

# %%
middle = held[silences_ms[len(silences_ms) // 2]]
cut_short = [event for event in middle.events if event["type"] == "interrupted"]
columns = ["text", "breaks_in", "barge_in_to_silence_ms", "played_ms"]
pandas.DataFrame(conversation.turn_rows(user, middle))[columns].round(0)

# %%
{f"kept of the answer to turn {event['turn']}": event["text"] for event in cut_short}

# %% [markdown]
# **Where the time of a turn goes.** The time axis begins with the user's speech.

# %%
plots.turn_timeline(conversation.timeline_rows(middle))

# %% [markdown]
# **Both sides**, as a listener hears them.

# %%
both = hear(conversation.both_sides(middle))

# %% [markdown]
# **Now you.** Press Talk and speak; headphones keep the voice out of the microphone. Without a microphone, choose a
# recording there, or call `talk.say("question.wav")`. `talk.rows` has the figures of your turns.

# %%
talk = Talk(preset, whisper=whisper)
talk
