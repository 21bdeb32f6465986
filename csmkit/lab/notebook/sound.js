// Plays chunks of sound as they come: each starts in the very sample in which the one before it ends.

const RATE = 24000; // Hz, of the context too: at another rate each buffer would be resampled alone, with seams
const GUARD = 256; // samples, two blocks of the audio thread: what starts sooner than that would start late
const FADE_S = 0.008; // how long Stop fades, so that it does not click
const PATIENCE_MS = 3000; // a player that had nothing to play for so long lets the next one sound
const REPORT_MS = 1000;
const BIN = 240; // samples behind one value of the picture, 10 ms

function sharedContext() {
  const key = Symbol.for("csmkit.audio-context"); // one for all players of a page: browsers limit how many there are
  globalThis[key] ??= new AudioContext({ sampleRate: RATE });
  return globalThis[key];
}

// The players of a page that play, in the order in which they began. Only the first one sounds.
function queue() {
  const key = Symbol.for("csmkit.players");
  globalThis[key] ??= [];
  return globalThis[key];
}

// Browsers keep a page silent until it was clicked or typed into; a context that only starts up is not blocked.
function isBlocked() {
  return sharedContext().state !== "running" && navigator.userActivation?.hasBeenActive !== true;
}

function samplesOf(view) {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength); // floats must lie aligned
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

// One answer. Positions and lengths are in samples: `from` within the answer, `at` within the context's time.
class Track {
  constructor(play) {
    this.play = play;
    this.beganMs = performance.now();
    this.chunks = [];
    this.arrivals = [];
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
    const chunk = { samples, peaks: peaksOf(samples), from: this.length, at: 0, late: false };
    this.chunks.push(chunk);
    return chunk;
  }

  // How far it was heard when the context's time is `now`.
  heard(now) {
    const begun = this.chunks.filter((chunk) => chunk.at <= now && chunk.at > 0).at(-1);
    return begun ? begun.from + Math.min(now - begun.at, begun.samples.length) : 0;
  }
}

class Engine {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.track = new Track(0);
    this.position = 0;
    this.reset();
    this.receive = this.receive.bind(this);
    model.on("msg:custom", this.receive);
    model.send({ type: "ready" });
  }

  reset() {
    this.sounding = new Set();
    this.cursor = null; // where the next chunk starts
    this.gain = null;
    this.replaying = false;
  }

  get phase() {
    if (this.sounding.size) return isBlocked() ? "blocked" : "playing";
    if (this.track.stopped) return "stopped";
    if (!this.isFirst && queue().includes(this)) return "queued";
    if (this.track.complete) return "ended";
    return this.track.play ? "waiting" : "idle";
  }

  // Where the ear is, in samples of the answer.
  get now() {
    if (this.sounding.size) this.position = this.track.heard(sharedContext().currentTime * RATE);
    else if (this.phase === "ended") this.position = this.track.length;
    return this.position;
  }

  get isFirst() {
    return queue()[0] === this;
  }

  // Take a place in the queue: at its end, or at its head, where a button was pressed and somebody waits to hear it.
  enter(atOnce) {
    const players = queue();
    const [before] = players;
    if (!players.includes(this)) {
      players.push(this);
      this.reports = setInterval(() => this.tell(), REPORT_MS); // Python sees that somebody listens
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

  // Its turn has come: play what arrived while it waited.
  start() {
    for (const chunk of this.track.chunks) if (!chunk.at) this.sound(chunk);
    this.watch();
    if (this.track.complete && !this.sounding.size) this.leave();
    this.tell();
  }

  // As long as the first one has nothing to play, let the others go ahead of it from time to time.
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
    if (message.play < this.track.play) return; // of an answer that is over
    if (message.play > this.track.play) this.begin(message.play, message.at_once);
    if (message.type === "chunk") this.add(samplesOf(buffers[0]));
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
    if (this.track.stopped) return; // it was on its way when Stop was pressed
    const chunk = this.track.add(samples);
    if (this.isFirst) this.sound(chunk);
  }

  sound(chunk) {
    chunk.late = this.schedule(chunk);
    if (chunk.late && !this.replaying) this.track.underruns += 1;
  }

  end(error) {
    this.track.complete = true;
    this.track.error = error;
    if (!this.sounding.size && this.track.chunks.every((chunk) => chunk.at)) this.leave();
  }

  stop() {
    const begun = this.sounding.size > 0 || queue().includes(this);
    this.track.stopped ||= !this.track.complete || (begun && !this.replaying);
    this.silence();
    this.leave();
  }

  // What Stop does: silence, and tell Python, which stops whoever makes the chunks.
  interrupt() {
    this.model.send({ type: "stop", play: this.track.play });
    this.stop();
    this.tell();
  }

  // Put a chunk behind the last one; returns whether that one had ended already, so that there was a gap.
  schedule(chunk) {
    const context = sharedContext();
    const soonest = Math.ceil(context.currentTime * RATE) + GUARD;
    const late = this.cursor !== null && this.cursor < soonest;
    if (late || this.cursor === null) {
      this.cursor = soonest + Math.round((this.model.get("lead_ms") * RATE) / 1000);
    }
    if (!this.gain) {
      this.gain = context.createGain();
      this.gain.connect(context.destination);
    }
    const buffer = context.createBuffer(1, chunk.samples.length, RATE);
    buffer.copyToChannel(chunk.samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(this.gain);
    source.onended = () => this.ended(source);
    source.start(this.cursor / RATE);
    this.sounding.add(source);
    chunk.at = this.cursor;
    this.cursor += chunk.samples.length;
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

  // Play again what was heard, from its beginning; nothing of it is measured.
  replay() {
    this.silence();
    this.unblock();
    this.replaying = true;
    for (const chunk of this.track.chunks) chunk.at = 0;
    this.enter(true);
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
    else if (track.chunks.length) this.replay();
  }

  // Report to Python, and draw. A message of its own, as changes of a widget's state wait until the kernel is idle.
  tell() {
    const { track } = this;
    const report = {
      play: track.play,
      phase: this.phase,
      heard_s: this.now / RATE,
      told_s: Date.now() / 1000,
      underruns: track.underruns,
      arrivals_s: [...track.arrivals],
      durations_s: track.chunks.map((chunk) => chunk.samples.length / RATE),
    };
    this.model.send({ type: "report", report });
    for (const view of this.views) view.draw();
  }

  close() {
    this.model.off("msg:custom", this.receive);
    this.silence();
    this.leave();
  }
}
