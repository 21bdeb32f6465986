// The microphone as frames of 960 samples at 24 kHz, whatever its own rate is.

const CONSTRAINTS = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
const SILENT = 1e-4; // -80 dBFS at most: a working microphone is louder, even in a quiet room
const SILENT_AFTER_MS = 4000;

const REASONS = {
  NotAllowedError: "the browser does not allow the microphone; allow it for this page (the icon left of the address)",
  NotFoundError: "no microphone was found; connect one and press Start microphone again",
  NotReadableError: "the microphone is in use by another program; close that program and press Start microphone again",
};

export class Microphone {
  // `onFrame(samples)` is called every 40 ms, `onSilence(silent)` when there have been only zeros for some seconds and
  // when that ends, `onLoss(reason)` when the microphone was unplugged.
  constructor(handlers) {
    Object.assign(this, handlers);
    this.stream = null;
    this.context = null;
  }

  get on() {
    return this.stream !== null;
  }

  // Ask for it and start; throws an error with a sentence for the user.
  async start() {
    if (!navigator.mediaDevices) throw new Error("a browser gives the microphone to https and localhost alone");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: CONSTRAINTS });
      await this.connect();
    } catch (error) {
      this.stop();
      throw new Error(REASONS[error.name] ?? error.message);
    }
    this.stream.getAudioTracks()[0].onended = () => {
      this.stop();
      this.onLoss("the microphone was unplugged; connect it and press Start microphone again");
    };
  }

  async connect() {
    this.context = new AudioContext({ sampleRate: 24000 });
    await this.context.audioWorklet.addModule("/microphone_worklet.js");
    const gather = new AudioWorkletNode(this.context, "gather", { numberOfOutputs: 0 });
    this.loudMs = performance.now();
    this.silent = false;
    gather.port.onmessage = ({ data }) => this.on && this.take(data);
    this.context.createMediaStreamSource(this.stream).connect(gather);
  }

  take(samples) {
    const now = performance.now();
    if (samples.some((sample) => Math.abs(sample) > SILENT)) this.loudMs = now;
    const silent = now - this.loudMs > SILENT_AFTER_MS;
    if (silent !== this.silent) this.onSilence((this.silent = silent));
    this.onFrame(samples);
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.context?.close();
    this.stream = this.context = null;
  }
}
