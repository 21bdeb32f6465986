// The microphone as frames of 960 samples at 24 kHz.

const CONSTRAINTS = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

export class Microphone {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.stream = null;
    this.context = null;
  }

  get on() {
    return this.stream !== null;
  }

  // Ask for it and start; throws an error with a sentence for the user.
  async start() {
    if (!navigator.mediaDevices) throw new Error("a browser gives the microphone to https and localhost alone");
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: CONSTRAINTS });
    try {
      this.context = new AudioContext({ sampleRate: 24000 });
      await this.context.audioWorklet.addModule("/microphone_worklet.js");
      const gather = new AudioWorkletNode(this.context, "gather", { numberOfOutputs: 0 });
      gather.port.onmessage = ({ data }) => this.on && this.onFrame(data);
      this.context.createMediaStreamSource(this.stream).connect(gather);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
    this.stream = this.context = null;
  }
}
