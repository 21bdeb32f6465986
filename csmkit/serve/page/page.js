// The page: typed or spoken turns, the answer's sound in the notebook's player, texts and the timeline of a turn.

import playerOf from "/player.js";
import { Conversation, decoded } from "/conversation.js";
import { Microphone } from "/microphone.js";
import { draw, figures } from "/timeline.js";

const byId = (id) => document.getElementById(id);
const TOKEN = "csmkit-token";
const SILENT = "the microphone is silent: check that it is not muted, and that it is the right one";

// What the player takes for the model of a widget: messages there and back.
class PlayerModel {
  constructor(onMessage) {
    this.callbacks = new Map();
    this.send = onMessage;
  }

  on(name, callback) {
    this.callbacks.set(name, callback);
  }

  off(name) {
    this.callbacks.delete(name);
  }

  get() {
    return 60; // lead_ms: the silence before the first chunk
  }

  tell(message, ...buffers) {
    this.callbacks.get("msg:custom")?.(message, buffers);
  }
}

class Page {
  constructor() {
    this.play = 0; // counts answers
    this.heardMs = 0;
    this.lines = new Map();
    this.answering = false;
    this.sounding = false;
    this.model = new PlayerModel((message) => this.fromPlayer(message));
    const player = playerOf();
    player.initialize({ model: this.model });
    player.render({ model: this.model, el: byId("player") });
    this.microphone = new Microphone({
      onFrame: (samples) => this.conversation?.hear(samples),
      onSilence: (silent) => this.say(silent ? SILENT : "listening"),
      onLoss: (reason) => this.lose(reason),
    });
    byId("typed").onsubmit = (event) => this.submit(event);
    byId("door").onsubmit = (event) => this.enter(event);
    byId("microphone").onclick = () => this.toggleMicrophone();
    byId("stop").onclick = () => this.stop();
    byId("voice").onchange = ({ target }) => this.conversation.chooseVoice(target.value);
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
  }

  async open() {
    const token = sessionStorage.getItem(TOKEN);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/v1/audio/voices", { headers });
    byId("door").hidden = answer.status !== 401;
    if (answer.status === 401) return this.say("this server asks for its token");
    if (!answer.ok) {
      this.say("the models are loading");
      return setTimeout(() => this.open(), 1000);
    }
    const { voices } = await answer.json();
    byId("voice").replaceChildren(...voices.map((name) => new Option(name, name)));
    this.conversation = new Conversation(token);
    this.conversation.addEventListener("event", ({ detail }) => this.receive(detail));
    this.conversation.addEventListener("closed", ({ detail }) => this.closed(detail));
  }

  enter(event) {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, byId("token").value);
    this.open();
  }

  say(text) {
    byId("state").textContent = text;
  }

  closed(reason) {
    this.microphone.stop();
    this.showMicrophone();
    this.say(`the connection is closed${reason ? `: ${reason}` : ""}; load the page again`);
  }

  submit(event) {
    event.preventDefault();
    const text = byId("text").value.trim();
    if (!text) return;
    this.silence();
    this.asked = performance.now();
    this.conversation.say(text);
    this.line(`typed-${this.asked}`, "You").textContent = text;
    byId("text").value = "";
  }

  async toggleMicrophone() {
    if (this.microphone.on) this.microphone.stop();
    else {
      try {
        await this.microphone.start();
        this.say("listening");
      } catch (error) {
        this.say(`no microphone: ${error.message}`);
      }
    }
    this.showMicrophone();
  }

  lose(reason) {
    this.showMicrophone();
    this.say(reason);
  }

  showMicrophone() {
    const button = byId("microphone");
    button.setAttribute("aria-pressed", String(this.microphone.on));
    button.textContent = this.microphone.on ? "Stop microphone" : "Start microphone";
  }

  stop() {
    if (this.answering || this.sounding) this.silence();
  }

  // Stop the answer, and tell the server how far it was heard.
  silence() {
    if (this.answering) this.conversation.send("response.cancel");
    if (this.answering || this.sounding) {
      this.model.tell({ type: "stop", play: this.play });
      const end = Math.min(Math.floor(this.heardMs), Math.floor(this.sentMs));
      this.conversation.send("conversation.item.truncate", { item_id: this.item, content_index: 0, audio_end_ms: end });
    }
    this.answering = this.sounding = false;
    this.showStop();
  }

  showStop() {
    byId("stop").disabled = !this.answering && !this.sounding;
  }

  fromPlayer(message) {
    if (message.type === "stop") return this.silence();
    if (message.type !== "report" || message.report.play !== this.play) return;
    this.heardMs = 1000 * message.report.heard_s;
    this.sounding = ["playing", "waiting", "queued"].includes(message.report.phase);
    this.showStop();
  }

  // A line of the conversation by its item's id.
  line(id, who) {
    if (!this.lines.has(id)) {
      const item = document.createElement("li");
      const name = document.createElement("span");
      const text = document.createElement("span");
      name.className = "who";
      name.textContent = `${who}: `;
      item.append(name, text);
      byId("conversation").append(item);
      this.lines.set(id, text);
    }
    return this.lines.get(id);
  }

  receive(event) {
    switch (event.type) {
      case "session.created":
        return this.say("connected");
      case "error":
        return this.say(event.error.message);
      case "input_audio_buffer.speech_started":
        this.silence();
        return this.say("you are speaking");
      case "input_audio_buffer.speech_stopped":
        this.asked = performance.now();
        return this.say("thinking");
      case "conversation.item.input_audio_transcription.delta":
        this.line(event.item_id, "You").textContent += event.delta;
        return undefined;
      case "conversation.item.input_audio_transcription.completed":
        if (event.transcript) this.line(event.item_id, "You").textContent = event.transcript;
        return undefined;
      case "response.output_item.added":
        return this.begin(event.item.id);
      case "response.output_audio.delta":
        return this.sound(decoded(event.delta));
      case "response.output_audio_transcript.delta":
        this.line(event.item_id, "csmkit").textContent += event.delta;
        return undefined;
      case "conversation.item.truncated":
        this.line(event.item_id, "csmkit").textContent = `${event.csmkit.transcript} (stopped)`;
        return undefined;
      case "response.done":
        return this.end(event.response);
      default:
        return undefined;
    }
  }

  begin(item) {
    this.play += 1;
    this.item = item;
    this.heardMs = this.sentMs = 0;
    this.firstMs = null;
    this.answering = true;
    this.model.tell({ type: "begin", play: this.play, at_once: true });
    this.say("answering");
    this.showStop();
  }

  sound(samples) {
    this.firstMs ??= performance.now() - this.asked;
    this.sentMs += samples.length / 24;
    this.model.tell({ type: "chunk", play: this.play }, samples);
  }

  end(response) {
    this.answering = false;
    const error = response.status_details?.error?.message ?? "";
    this.model.tell({ type: "end", play: this.play, error });
    byId("figures").textContent = figures(response.csmkit.metrics, this.firstMs);
    draw(byId("timeline"), response.csmkit.spans);
    this.say(this.microphone.on ? "listening" : "connected");
    this.showStop();
  }
}

new Page().open();
