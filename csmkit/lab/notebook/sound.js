// Plays chunks of sound without gaps: each chunk starts at the sample where the chunk before it ends.
// Needs a model with `send(message)`, `on(event, callback)`, `off(event, callback)` and `get("lead_ms")`; see widget.py
// for the messages.

const RATE = 24000; // Hz; the context has this rate too, as another rate would resample each chunk alone
const GUARD = 256; // samples: two blocks of the audio thread, the soonest that a start is still on time
const FADE_S = 0.008; // length of the fade when sound stops, so that it does not click
const PATIENCE_MS = 3000; // a player with nothing to play for this long lets the next player go first
const REPORT_MS = 1000;
const BIN = 240; // samples for each value of the waveform picture: 10 ms
const RESTARTED = "the kernel was restarted: run the cell again";

function sharedContext() {
  const key = Symbol.for("csmkit.audio-context"); // one for all players of a page: browsers limit their number
  globalThis[key] ??= new AudioContext({ sampleRate: RATE });
  return globalThis[key];
}

// The players of a page that want to play, oldest first. Only the first one sounds.
function queue() {
  const key = Symbol.for("csmkit.players");
  globalThis[key] ??= [];
  return globalThis[key];
}

// Browsers mute a page until the user has clicked or typed; a context that is only starting is not blocked.
function isBlocked() {
  return sharedContext().state !== "running" && navigator.userActivation?.hasBeenActive !== true;
}

function samplesOf(view) {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength); // floats must be aligned
  return new Float32Array(bytes);
}

function peaksOf(samples) {
  const peaks = [];
  for (let from = 0; from < samples.length; from += BIN) {
    const bin = samples.subarray(from, from + BIN);
    peaks.push(bin.reduce((highest, sample) => Math.max(highest, Math.abs(sample)), 0));
  }
  return peaks;
}

// One answer. Positions and lengths are in samples: `from` counts from the start of the answer, `at` is the context's
// time of the chunk's first sample, or null while the chunk is not scheduled.
class Track {
  constructor(play) {
    this.play = play;
    this.beganMs = performance.now();
    this.chunks = [];
    this.peaks = [];
    this.arrivals = [];
    this.words = []; // { text, from, to } in seconds
    this.underruns = 0;
    this.complete = false;
    this.stopped = false;
    this.error = "";
  }

  get length() {
    const last = this.chunks.at(-1);
    return last ? last.from + last.samples.length : 0;
  }

  add(samples) {
    this.arrivals.push((performance.now() - this.beganMs) / 1000);
    const chunk = { samples, from: this.length, at: null, done: false, late: false };
    this.chunks.push(chunk);
    this.peaks.push(...peaksOf(samples));
    return chunk;
  }

  // All samples in one array.
  joined() {
    const all = new Float32Array(this.length);
    for (const chunk of this.chunks) all.set(chunk.samples, chunk.from);
    return all;
  }

  // The position in the answer when the context's time is `now`.
  heard(now) {
    const begun = this.chunks.filter((chunk) => chunk.at !== null && chunk.at <= now).at(-1);
    return begun ? begun.from + Math.min(now - begun.at, begun.samples.length) : 0;
  }
}

class Engine {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.track = new Track(0);
    this.position = 0;
    this.restarted = false;
    this.reset();
    this.receive = this.receive.bind(this);
    this.lose = this.lose.bind(this);
    model.on("msg:custom", this.receive);
    model.on("comm_live_update", this.lose);
    model.send({ type: "ready" });
  }

  reset() {
    this.sounding = new Set();
    this.cursor = null; // where the next chunk starts
    this.gain = null;
    this.from = 0; // where the sound that is scheduled begins
    this.replaying = false;
  }

  get phase() {
    if (this.sounding.size) return isBlocked() ? "blocked" : "playing";
    if (this.track.stopped) return "stopped";
    if (!this.isFirst && queue().includes(this)) return "queued";
    if (this.track.complete) return "ended";
    return this.track.play ? "waiting" : "idle";
  }

  // The position that the listener hears, in samples of the answer.
  get now() {
    if (this.sounding.size) {
      this.position = Math.max(this.from, this.track.heard(sharedContext().currentTime * RATE));
    } else if (this.phase === "ended") this.position = this.track.length;
    return this.position;
  }

  get isFirst() {
    return queue()[0] === this;
  }

  // Join the queue: at its end, or at its head where the user pressed a button and wants to hear it now.
  enter(atOnce) {
    const players = queue();
    const [before] = players;
    if (!players.includes(this)) {
      players.push(this);
      this.reports = setInterval(() => this.tell(), REPORT_MS); // shows Python that the page is open
    }
    if (atOnce && before && before !== this) {
      players.splice(players.indexOf(this), 1);
      players.unshift(this);
      before.interrupt();
    }
    this.watch();
  }

  leave() {
    clearTimeout(this.timer);
    clearInterval(this.reports);
    const players = queue();
    const place = players.indexOf(this);
    if (place < 0) return;
    players.splice(place, 1);
    if (place === 0) players[0]?.start();
  }

  // This player is the first now: schedule the chunks that came while it waited.
  start() {
    for (const chunk of this.track.chunks) if (!chunk.done) this.sound(chunk);
    this.watch();
    if (this.track.complete && !this.sounding.size) this.leave();
    this.tell();
  }

  // While the first player has nothing to play, let the others go first from time to time.
  watch() {
    clearTimeout(this.timer);
    if (!this.isFirst || this.sounding.size) return;
    this.timer = setTimeout(() => {
      const players = queue();
      if (!this.isFirst || this.sounding.size) return;
      players.push(players.shift());
      players[0].start();
    }, PATIENCE_MS);
  }

  receive(message, buffers) {
    if (message.play < this.track.play) return; // it belongs to an earlier answer
    if (message.play > this.track.play) this.begin(message.play, message.at_once);
    if (message.type === "chunk") this.add(samplesOf(buffers[0]));
    if (message.type === "words") this.track.words = message.words;
    if (message.type === "end") this.end(message.error);
    if (message.type === "stop") this.stop();
    this.tell();
  }

  begin(play, atOnce) {
    this.silence();
    this.position = 0;
    this.track = new Track(play);
    this.enter(atOnce);
    this.unblock();
  }

  add(samples) {
    if (this.track.stopped) return; // it was sent before Stop was pressed
    const chunk = this.track.add(samples);
    if (this.isFirst) this.sound(chunk);
  }

  sound(chunk, offset = 0) {
    chunk.late = this.schedule(chunk, offset);
    if (chunk.late && !this.replaying) this.track.underruns += 1;
  }

  end(error) {
    this.track.complete = true;
    this.track.error = error;
    if (!this.sounding.size && this.track.chunks.every((chunk) => chunk.done)) this.leave();
  }

  // The kernel is gone: nothing more will arrive. What is here can still be played.
  lose() {
    this.restarted = true;
    if (this.track.play && !this.track.complete) this.end("");
    this.tell();
  }

  stop() {
    const begun = this.sounding.size > 0 || queue().includes(this);
    this.track.stopped ||= !this.track.complete || (begun && !this.replaying);
    this.silence();
    this.leave();
  }

  // Silence the player, and tell Python, which stops the source of the chunks.
  interrupt() {
    this.model.send({ type: "stop", play: this.track.play });
    this.stop();
    this.tell();
  }

  // Schedule a chunk behind the last one, without its first `offset` samples; returns whether there was a gap.
  schedule(chunk, offset) {
    const context = sharedContext();
    const soonest = Math.ceil(context.currentTime * RATE) + GUARD;
    const late = this.cursor !== null && this.cursor < soonest;
    if (late || this.cursor === null) {
      const lead = this.replaying ? 0 : Math.round((this.model.get("lead_ms") * RATE) / 1000);
      this.cursor = soonest + lead;
    }
    if (!this.gain) {
      this.gain = context.createGain();
      this.gain.connect(context.destination);
    }
    const samples = offset ? chunk.samples.subarray(offset) : chunk.samples;
    const buffer = context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(this.gain);
    source.onended = () => this.ended(source);
    source.start(this.cursor / RATE);
    this.sounding.add(source);
    chunk.at = this.cursor - offset;
    chunk.done = true;
    this.cursor += samples.length;
    return late;
  }

  ended(source) {
    if (this.sounding.delete(source) && !this.sounding.size) {
      this.position = this.track.length;
      if (this.track.complete || this.track.stopped) {
        this.reset();
        this.leave();
      } else this.watch();
      this.tell();
    }
  }

  silence() {
    const { gain, sounding } = this;
    this.position = this.now;
    this.reset();
    if (!gain) return;
    const until = sharedContext().currentTime + FADE_S;
    gain.gain.setValueAtTime(1, until - FADE_S);
    gain.gain.linearRampToValueAtTime(0, until);
    for (const source of sounding) source.stop(until);
  }

  // Play from a position, in samples of the answer. Underruns are counted on the first hearing only.
  seek(position) {
    const { track } = this;
    if (!track.chunks.length) return;
    const from = Math.min(Math.max(0, Math.round(position)), track.length - 1);
    this.silence();
    this.unblock();
    this.replaying = true;
    this.position = this.from = from;
    for (const chunk of track.chunks) {
      chunk.at = null;
      chunk.done = chunk.from + chunk.samples.length <= from;
    }
    this.enter(true);
    const first = track.chunks.find((chunk) => !chunk.done);
    this.sound(first, Math.max(0, from - first.from));
    this.start();
  }

  unblock() {
    const context = sharedContext();
    if (context.state === "running") return;
    context.addEventListener("statechange", () => this.tell(), { once: true });
    context.resume();
  }

  press() {
    const { phase, track } = this;
    if (phase === "blocked") this.unblock();
    else if (phase === "playing" || phase === "waiting" || phase === "queued") this.interrupt();
    else if (track.chunks.length) this.seek(0);
  }

  // Report to Python, and draw. Sent as a message, because changes of a widget's state wait until the kernel is idle.
  tell() {
    const { track } = this;
    const report = {
      play: track.play,
      phase: this.phase,
      heard_s: this.now / RATE,
      reported_s: Date.now() / 1000,
      underruns: track.underruns,
      arrivals_s: [...track.arrivals],
      durations_s: track.chunks.map((chunk) => chunk.samples.length / RATE),
    };
    if (!this.restarted) this.model.send({ type: "report", report });
    for (const view of this.views) view.draw();
  }

  close() {
    this.model.off("msg:custom", this.receive);
    this.model.off("comm_live_update", this.lose);
    this.silence();
    this.leave();
  }
}
