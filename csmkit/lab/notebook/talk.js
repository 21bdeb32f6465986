// A live conversation: microphone frames to Python, answers from Python to the ear, both sides' text on the page.
// It follows sound.js, player.js and microphone.js in one module. Python writes the trait `shown`; see talk.py.

const SPEAKERS = { loading: "loading the models \u2026", nobody: "listening", user: "you speak", thinking: "thinking", voice: "the voice speaks" };
const METER_FLOOR_DB = -60;

// The conversation that uses the microphone of the page; starting another one stops it.
function active(next) {
  const key = Symbol.for("csmkit.talk");
  const before = globalThis[key];
  if (before && before !== next) before.stop("Another conversation on this page took over.");
  globalThis[key] = next;
}

class Conversation {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.engine = new Engine(model);
    this.engine.views.add(this); // so that its news is drawn
    this.message = "";
    this.level = 0;
    this.source = null;
    this.draw = this.draw.bind(this);
    this.lose = () => this.stop(RESTARTED);
    model.on("change:shown", this.draw);
    model.on("comm_live_update", this.lose);
  }

  get listening() {
    return this.source !== null;
  }

  async startMicrophone() {
    const handlers = {
      onFrame: (frame, rate) => this.send(frame, rate),
      onLoss: (reason) => this.stop(reason),
      onSilence: (silent) => this.say(silent ? SILENT : ""),
    };
    await this.start(new Microphone(handlers));
  }

  async startRecording(file) {
    const handlers = {
      onFrame: (frame, rate) => this.send(frame, rate),
      isOver: () => this.model.get("shown").speaker === "nobody" && !this.engine.sounding.size,
      onEnd: () => this.stop(""),
    };
    await this.start(new Recording({ file, ...handlers }));
  }

  async start(source) {
    if (this.engine.restarted) return this.say(RESTARTED);
    this.source?.close();
    active(this);
    this.source = source;
    this.say("");
    try {
      this.model.send({ type: "talk_start" });
      if (source instanceof Recording) await this.ready(); // what is said while the models load is not heard
      if (this.source === source) await source.open();
    } catch (error) {
      if (this.source === source) this.stop(error.message);
    }
  }

  // Resolves when Python listens, or has said why it does not.
  ready() {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { ready, message } = this.model.get("shown");
        if (!ready && !message) return;
        this.model.off("change:shown", look);
        if (ready) resolve();
        else reject(new Error(message));
      };
      this.model.on("change:shown", look);
      look();
    });
  }

  // Every frame also tells what the listener has heard of which answer: Python's clock of the ear.
  send(frame, rate) {
    if (this.engine.restarted) return this.stop(RESTARTED);
    const { engine } = this;
    this.level = Math.max(levelOf(frame), this.level * 0.8);
    const played_ms = engine.sounding.size ? (engine.now / RATE) * 1000 : null;
    const pcm = pcmOf(frame);
    this.model.send({ type: "frame", rate, play: engine.track.play, played_ms }, undefined, [pcm.buffer]);
    this.drawLevel();
  }

  // Stop listening, and silence the answer.
  stop(message) {
    this.source?.close();
    this.source = null;
    this.level = 0;
    if (!this.engine.restarted) this.model.send({ type: "talk_stop" });
    this.engine.stop();
    this.say(message);
  }

  say(message) {
    this.message = message;
    this.draw();
  }

  draw() {
    for (const view of this.views) view.draw();
  }

  drawLevel() {
    for (const view of this.views) view.drawLevel();
  }

  close() {
    this.source?.close();
    this.model.off("change:shown", this.draw);
    this.model.off("comm_live_update", this.lose);
    this.engine.close();
  }
}

class TalkView {
  constructor(conversation, el) {
    this.conversation = conversation;
    this.root = element("div", "csmkit-player csmkit-talk", el);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Spoken conversation");
    const bar = element("div", "csmkit-player-bar", this.root);
    this.button = iconButton("csmkit-player-button csmkit-talk-button", bar, "microphone", "Talk");
    this.button.onclick = () => (conversation.listening ? conversation.stop("") : conversation.startMicrophone());
    this.meter = element("div", "csmkit-talk-meter", bar);
    this.meter.setAttribute("role", "meter");
    this.meter.setAttribute("aria-label", "Level of the microphone in dB");
    this.meter.setAttribute("aria-valuemin", String(METER_FLOOR_DB));
    this.meter.setAttribute("aria-valuemax", "0");
    this.bar = element("div", "csmkit-talk-level", this.meter);
    this.speaker = element("span", "csmkit-talk-speaker", bar);
    this.speaker.setAttribute("role", "status");
    this.addRecordingButton(bar);
    this.message = element("div", "csmkit-talk-message", this.root);
    this.message.setAttribute("role", "alert");
    this.hint = element("div", "csmkit-talk-hint", this.root);
    this.log = element("div", "csmkit-talk-turns", this.root);
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", "What was said");
    conversation.views.add(this);
    this.draw();
  }

  addRecordingButton(bar) {
    const input = element("input", "csmkit-talk-file", bar);
    input.type = "file";
    input.accept = "audio/*";
    input.hidden = true;
    input.onchange = () => {
      if (input.files[0]) this.conversation.startRecording(input.files[0]);
      input.value = "";
    };
    const button = textButton("csmkit-talk-recording", bar, "Use a recording");
    button.title = "Send a WAV file instead of the microphone";
    button.onclick = () => input.click();
  }

  close() {
    this.conversation.views.delete(this);
  }

  draw() {
    const { conversation } = this;
    const { engine, model, listening } = conversation;
    const shown = model.get("shown");
    const speaking = engine.sounding.size > 0;
    setIcon(this.button, listening ? "stop" : "microphone", listening ? "Stop" : "Talk");
    const { speaker = "nobody" } = shown;
    const state = speaking ? "voice" : speaker === "voice" ? "nobody" : speaker;
    const active = listening || speaking || state !== "nobody";
    this.root.dataset.speaker = active ? state : "off";
    this.setText(this.speaker, active ? SPEAKERS[state] : "press Talk and speak");
    this.setText(this.message, engine.restarted ? RESTARTED : conversation.message || shown.message || "");
    this.setText(this.hint, shown.hint ?? "");
    this.drawLevel();
    if (this.turns !== shown.turns) this.drawTurns((this.turns = shown.turns));
  }

  setText(node, text) {
    if (node.textContent !== text) node.textContent = text; // so that a screen reader is not told the same again
  }

  drawLevel() {
    const { level, listening } = this.conversation;
    const db = Math.max(METER_FLOOR_DB, 20 * Math.log10(level + 1e-9));
    this.bar.style.width = `${listening ? (100 * (db - METER_FLOOR_DB)) / -METER_FLOOR_DB : 0}%`;
    this.meter.setAttribute("aria-valuenow", db.toFixed(0));
  }

  drawTurns(turns) {
    this.log.replaceChildren();
    for (const turn of turns ?? []) {
      this.drawLine("user", "You", turn.user, turn.user_final ? "" : "csmkit-talk-tentative");
      if (!turn.voice && turn.latency_ms === null) continue;
      const notes = [];
      if (turn.latency_ms !== null) notes.push(`${turn.latency_ms.toFixed(0)} ms`);
      if (turn.interrupted) notes.push("interrupted");
      this.drawLine("voice", "Voice", turn.voice, "", notes.join(" \u00b7 "));
    }
  }

  drawLine(side, name, text, className, note = "") {
    const line = element("div", `csmkit-talk-line csmkit-talk-${side} ${className}`, this.log);
    element("b", "", line).textContent = `${name} `;
    element("span", "csmkit-talk-text", line).textContent = text || "\u2026";
    if (!note) return;
    const shown = element("span", "csmkit-talk-latency", line);
    shown.textContent = ` ${note}`;
    shown.title = "from the end of your speech to the first sound of the answer";
  }
}

ICONS.microphone =
  "M9 2.5a2.5 2.5 0 0 0-2.5 2.5v4a2.5 2.5 0 0 0 5 0V5A2.5 2.5 0 0 0 9 2.5zM4.5 8.5v.5a4.5 4.5 0 0 0 9 0v-.5H12V9a3 3 0 0 1-6 0v-.5zM8.2 14h1.6v2H8.2z";

export default () => {
  let conversation = null;
  return {
    initialize({ model }) {
      conversation = new Conversation(model);
      return () => conversation.close();
    },
    render({ el }) {
      const view = new TalkView(conversation, el);
      return () => view.close();
    },
  };
};
