// Runs in the audio thread: gathers the microphone's blocks of 128 samples into frames of 40 ms.

const FRAME = 960; // samples at 24 kHz

class Gather extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Float32Array(FRAME);
    this.filled = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.frame[this.filled] = sample;
      this.filled += 1;
      if (this.filled === FRAME) {
        this.port.postMessage(this.frame.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("gather", Gather);
