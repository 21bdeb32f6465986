// A microphone as frames of 16-bit samples: 40 ms each at 24 kHz, from getUserMedia through an AudioWorklet.

const FRAME_MS = 40;
const WORKLET = `registerProcessor("csmkit-frames", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0][0]) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});`;
const SILENT_RMS = 1e-4; // -80 dBFS: a working microphone is louder, even in a quiet room
const SILENT_AFTER_MS = 4000;
const SHORTEST_WAIT_S = 1; // after a recording: longer than the silence that ends a turn
const LONGEST_WAIT_S = 30;

const REASONS = {
  NotAllowedError:
    "The browser does not allow the microphone. Allow it for this page (the icon left of the address), then press Talk.",
  NotFoundError: "No microphone was found. Connect one and press Talk, or choose a recording.",
  NotReadableError: "The microphone is in use by another program. Close that program and press Talk.",
};
const INSECURE =
  "The browser gives a microphone only to pages from https or localhost. Open JupyterLab there, or choose a recording.";
const UNPLUGGED = "The microphone was unplugged. Connect it and press Talk.";
const SILENT = "The microphone is silent: check that it is not muted, and that it is the right one.";

// Words for a person for an error of getUserMedia.
function reasonOf(error) {
  return REASONS[error.name] ?? `The microphone cannot be used: ${error.message || error.name}.`;
}

// Collects samples of any number into frames of a fixed length.
class Framer {
  constructor(rate, onFrame) {
    this.frame = new Float32Array(Math.round((rate * FRAME_MS) / 1000));
    this.filled = 0;
    this.onFrame = onFrame;
  }

  add(samples) {
    for (let from = 0; from < samples.length; ) {
      const n = Math.min(samples.length - from, this.frame.length - this.filled);
      this.frame.set(samples.subarray(from, from + n), this.filled);
      this.filled += n;
      from += n;
      if (this.filled === this.frame.length) {
        this.filled = 0;
        this.onFrame(this.frame);
      }
    }
  }
}

class Microphone {
  // `onFrame(samples, rate)` is called every 40 ms; `onLoss(reason)` when the microphone stops by itself;
  // `onSilence(isSilent)` when it has given nothing but zeros for some seconds, and when that ends.
  constructor({ onFrame, onLoss, onSilence }) {
    Object.assign(this, { onFrame, onLoss, onSilence });
  }

  // Throws an Error whose message a person can act on.
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(INSECURE);
    const wishes = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: wishes });
      await this.connect();
    } catch (error) {
      this.close();
      throw new Error(reasonOf(error));
    }
    const [track] = this.stream.getAudioTracks();
    track.onended = () => {
      this.close();
      this.onLoss(UNPLUGGED);
    };
  }

  async connect() {
    this.context = sharedContext();
    await this.context.resume();
    try {
      this.source = this.context.createMediaStreamSource(this.stream);
    } catch {
      this.context = new AudioContext(); // some browsers only connect a microphone at its own rate
      this.source = this.context.createMediaStreamSource(this.stream);
    }
    const rate = this.context.sampleRate;
    this.heardMs = performance.now();
    this.framer = new Framer(rate, (frame) => this.take(frame, rate));
    this.node = await this.reader();
    this.source.connect(this.node);
  }

  // The node that reads samples: a worklet, or its predecessor where the page's policy forbids a worklet's script.
  async reader() {
    const address = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    try {
      if (!this.context.csmkitFrames) await this.context.audioWorklet.addModule(address);
      this.context.csmkitFrames = true;
      const node = new AudioWorkletNode(this.context, "csmkit-frames", { numberOfOutputs: 0 });
      node.port.onmessage = (event) => this.framer.add(event.data);
      return node;
    } catch {
      const node = this.context.createScriptProcessor(1024, 1, 1);
      node.onaudioprocess = (event) => this.framer.add(event.inputBuffer.getChannelData(0));
      node.connect(this.context.destination); // it only runs when connected; its output stays silent
      return node;
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  take(frame, rate) {
    if (levelOf(frame) > SILENT_RMS) this.heardMs = performance.now();
    const silent = performance.now() - this.heardMs > SILENT_AFTER_MS;
    if (silent !== Boolean(this.silent)) this.onSilence((this.silent = silent));
    this.onFrame(frame, rate);
  }

  close() {
    this.stream?.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.source?.disconnect();
    this.node?.disconnect();
    if (this.context && this.context !== sharedContext()) this.context.close();
    this.stream = this.source = this.node = this.context = null;
  }
}

// A sound file in place of a microphone: its frames come as fast as they were spoken, then silence until `isOver()`.
class Recording {
  constructor({ file, onFrame, isOver, onEnd }) {
    Object.assign(this, { file, onFrame, isOver, onEnd });
  }

  async open() {
    const decoder = new OfflineAudioContext(1, 1, RATE);
    try {
      this.samples = (await decoder.decodeAudioData(await this.file.arrayBuffer())).getChannelData(0);
    } catch {
      throw new Error(`${this.file.name} is not a sound file that this browser reads: choose a WAV file.`);
    }
    this.from = 0;
    this.beganMs = performance.now();
    this.timer = setInterval(() => this.advance(), FRAME_MS / 2);
  }

  advance() {
    const length = (RATE * FRAME_MS) / 1000;
    const due = ((performance.now() - this.beganMs) * RATE) / 1000;
    for (; this.from + length <= due; this.from += length) {
      const frame = new Float32Array(length);
      frame.set(this.samples.subarray(this.from, this.from + length));
      this.onFrame(frame, RATE);
    }
    const silentS = (this.from - this.samples.length) / RATE;
    if (silentS > LONGEST_WAIT_S || (silentS > SHORTEST_WAIT_S && this.isOver())) {
      this.close();
      this.onEnd();
    }
  }

  close() {
    clearInterval(this.timer);
  }
}

function levelOf(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

function pcmOf(samples) {
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}
