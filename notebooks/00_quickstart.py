# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # csmkit in twelve cells
# Speak, stream, chat, talk. You need: a CPU.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
text = "good morning, how are you today?"
question = "Hello! How are you?"
seed = 1

# %%
from IPython.display import Markdown

from csmkit import Segment, StreamingConversationalChatbot
from csmkit.lab.analysis.questions import turn_finding
from csmkit.lab.notebook import Player, Studio, Talk, describe, hear, hear_turn
from csmkit.machine import machine
from csmkit.stack import Stack

voice = Stack(preset).voice
machine()

# %% [markdown]
# **Speak.** A whole waveform is one chunk: nothing is heard until all of it is generated.

# %%
player = hear(voice.generate(text, seed=seed))

# %% [markdown]
# **Stream.** The same words chunk by chunk, heard while they are generated; Stop ends the playback and the generation.

# %%
streaming = hear(voice.generate_streaming(text, seed=seed, chunk_frames=(1, 2, 4, 6)))
describe(streaming.sent)

# %% [markdown]
# **Answer.** Earlier turns, with their text and sound, are the context.

# %%
asked = "would you like a cup of tea?"
context = [Segment(speaker=1, text=asked, audio=voice.generate(asked, speaker=1, seed=seed))]
reply = hear(voice.generate_streaming("yes, that would be nice.", context=context, seed=seed))

# %% [markdown]
# **Chat.** A language model writes, the voice speaks clause by clause, and a recogniser transcribes it.

# %%
chatbot = StreamingConversationalChatbot(preset=preset, generator=voice, seed=seed)
turn = Player()
events = hear_turn(chatbot, turn, question)
turn.wait()
chatbot.history

# %%
Markdown(turn_finding(events[-1]["metrics"]))

# %% [markdown]
# **Try it.** Without code: type, choose, Speak; compare the recordings and keep the ones you like.

# %%
studio = Studio(preset, text=text)
studio

# %% [markdown]
# **Talk.** Press Talk and speak; the voice answers half a second after you fall silent, and stops when you break in.
# Without a microphone: `talk.say("question.wav")`.

# %%
talk = Talk(preset)
talk
