# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A server and its clients
# The voice behind OpenAI's interfaces, asked by OpenAI's own package. You need: a CPU.

# %% tags=["parameters"]
preset = "pocket"  # or "sesame", with access to the models
text = "Good morning. How are you today?"
message = "Hello!"
whisper = "base.en"
n_listeners = 4
seed = 1

# %%
import base64
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas
from IPython.display import Audio
from openai import OpenAI

from csmkit.serve import ServeOptions, Server
from csmkit.serve.models import ModelChoice

server = Server(ServeOptions(port=0), ModelChoice(preset=preset, whisper=whisper)).start()
client = OpenAI(base_url=f"{server.address}/v1", api_key="none")
[model.id for model in client.models.list()]

# %% [markdown]
# **Speech**, heard while it is made: the first bytes come long before the last.


# %%
def listen(text):
    begun, arrivals, data = time.perf_counter(), [], b""
    asked = {"model": "csm", "voice": "speaker-0", "input": text, "extra_body": {"seed": seed}}
    with client.audio.speech.with_streaming_response.create(**asked, response_format="pcm") as answer:
        for piece in answer.iter_bytes():
            arrivals.append(time.perf_counter() - begun)
            data += piece
    sound = np.frombuffer(data, "<i2") / 32768
    return {"first_s": arrivals[0], "last_s": arrivals[-1], "audio_s": len(sound) / 24000}, sound


figures, sound = listen(text)
Audio(sound, rate=24000, normalize=False)

# %%
pandas.DataFrame([figures]).round(2)

# %% [markdown]
# **Several listeners at once** share one model.

# %%
with ThreadPoolExecutor(n_listeners) as pool:
    rows = [row for row, _ in pool.map(listen, [text] * n_listeners)]
pandas.DataFrame(rows).round(2)

# %% [markdown]
# **Transcription** of what was heard.

# %%
asked = {"model": "csm", "voice": "speaker-0", "input": text, "extra_body": {"seed": seed}}
wav = client.audio.speech.create(**asked, response_format="wav")
client.audio.transcriptions.create(model="whisper", file=("speech.wav", wav.content)).text

# %% [markdown]
# **A conversation** on a WebSocket: a message goes in, the answer comes in pieces.

# %%
events, samples = [], b""
with client.realtime.connect(model="csm") as connection:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": message}]}
    connection.conversation.item.create(item=item)
    connection.response.create()
    for event in connection:
        events.append(event.type)
        if event.type == "response.output_audio.delta":
            samples += base64.b64decode(event.delta)
        if event.type == "response.done":
            break
event.response.output[0].content[0].transcript

# %%
pandas.Series(events).value_counts(sort=False)

# %%
Audio(np.frombuffer(samples, "<i2") / 32768, rate=24000, normalize=False)

# %%
server.stop()
"stopped"
