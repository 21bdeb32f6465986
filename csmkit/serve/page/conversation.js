// A conversation with the server: the events of the Realtime API over a WebSocket.

export class Conversation extends EventTarget {
  constructor(token) {
    super();
    const address = new URL("/v1/realtime?model=csm", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const protocols = token ? ["realtime", `openai-insecure-api-key.${token}`] : ["realtime"];
    this.socket = new WebSocket(address, protocols);
    this.socket.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("event", { detail: JSON.parse(data) }));
    this.socket.onclose = ({ reason }) => this.dispatchEvent(new CustomEvent("closed", { detail: reason }));
  }

  send(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  say(text) {
    const content = [{ type: "input_text", text }];
    this.send("conversation.item.create", { item: { type: "message", role: "user", content } });
    this.send("response.create");
  }

  hear(samples) {
    this.send("input_audio_buffer.append", { audio: encoded(samples) });
  }

  chooseVoice(voice) {
    this.send("session.update", { session: { type: "realtime", audio: { output: { voice } } } });
  }
}

// Float samples as 16-bit integers, in base64.
function encoded(samples) {
  const integers = Int16Array.from(samples, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
  return btoa(String.fromCharCode(...new Uint8Array(integers.buffer)));
}

// The other way.
export function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (integer) => integer / 32767);
}
