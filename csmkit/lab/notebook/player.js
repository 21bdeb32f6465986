// What the player shows: button, waveform with a cursor, words, spectrogram, download, a line of text. Colours and sizes
// are in player.css. Python joins sound.js and this file to one module: a widget's module cannot import another file.

const WINDOW_S = 4; // the waveform shows at least this much, so that a first chunk does not fill it
const BAR_PX = 3; // a bar and the space after it
const KEY_STEP_S = 0.5; // of the arrow keys
const FFT_SIZE = 512; // samples for one column of the spectrogram: 21 ms
const FLOOR_DB = -80; // of the spectrogram, below its loudest value
const ICONS = {
  play: "M5 3.5v11l9-5.5z",
  stop: "M4.5 4.5h9v9h-9z",
  spectrogram: "M3 14V9h2v5zm3 0V4h2v10zm3 0V7h2v7zm3 0v-3h2v3z",
  download: "M8 3h2v6h3l-4 4-4-4h3zM3 14h12v1.5H3z",
};

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.append(made);
  return made;
}

function textButton(className, parent, text) {
  const button = keepKeys(element("button", className, parent));
  button.type = "button";
  button.textContent = text;
  return button;
}

function iconButton(className, parent, icon, label) {
  const button = textButton(className, parent, "");
  button.innerHTML = '<svg viewBox="0 0 18 18" aria-hidden="true"><path fill="currentColor"/></svg>';
  setIcon(button, icon, label);
  return button;
}

function setIcon(button, icon, label) {
  button.setAttribute("aria-label", label);
  button.title = label;
  button.querySelector("path").setAttribute("d", ICONS[icon]);
}

// A canvas with one unit for each CSS pixel; its pen.
function penOf(canvas) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return pen;
}

// Keys that are pressed here do not reach the notebook's shortcuts; JupyterLab looks at the focused element itself.
function keepKeys(node) {
  node.dataset.lmSuppressShortcuts = "true";
  return node;
}

class View {
  constructor(engine, el) {
    this.engine = engine;
    this.root = element("div", "csmkit-player", el);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Audio player");
    const bar = element("div", "csmkit-player-bar", this.root);
    this.button = iconButton("csmkit-player-button", bar, "play", "Play");
    this.button.onclick = () => engine.press();
    this.canvas = keepKeys(element("canvas", "csmkit-player-picture", bar));
    this.makeSlider();
    this.spectrogramButton = iconButton("csmkit-player-tool", bar, "spectrogram", "Show the spectrogram");
    this.spectrogramButton.onclick = () => this.toggleSpectrogram();
    this.downloadButton = iconButton("csmkit-player-tool", bar, "download", "Download as WAV");
    this.downloadButton.onclick = () => this.download();
    this.status = element("span", "csmkit-player-status", bar);
    this.words = element("div", "csmkit-player-words", this.root);
    this.words.setAttribute("role", "group");
    this.words.setAttribute("aria-label", "Recognised words; press one to hear it");
    this.spectrogram = element("canvas", "csmkit-player-spectrogram", this.root);
    this.spectrogram.setAttribute("role", "img");
    this.spectrogram.setAttribute("aria-label", "Spectrogram, 0 to 12 kHz from bottom to top");
    this.spectrogram.hidden = true;
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(this.canvas);
    this.themed = new MutationObserver(() => this.redraw()); // colours come from the theme
    this.themed.observe(document.body, { attributes: true });
    engine.views.add(this);
    this.draw();
  }

  makeSlider() {
    const { canvas, engine } = this;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", "Position in the sound");
    canvas.setAttribute("aria-valuemin", "0");
    canvas.title = "Click to play from there; arrow keys move, space plays and stops";
    canvas.onclick = (event) => engine.seek(event.offsetX / this.pixelsPerSample());
    canvas.onkeydown = (event) => this.pressKey(event);
  }

  pressKey(event) {
    const { engine } = this;
    const steps = { ArrowLeft: -KEY_STEP_S, ArrowDown: -KEY_STEP_S, ArrowRight: KEY_STEP_S, ArrowUp: KEY_STEP_S };
    if (event.key in steps) engine.seek(engine.now + steps[event.key] * RATE);
    else if (event.key === "Home") engine.seek(0);
    else if (event.key === "End") engine.seek(engine.track.length - KEY_STEP_S * RATE);
    else if (event.key === " " || event.key === "Enter") engine.press();
    else return;
    event.preventDefault();
  }

  close() {
    this.engine.views.delete(this);
    this.resized.disconnect();
    this.themed.disconnect();
    cancelAnimationFrame(this.frame);
  }

  pixelsPerSample() {
    return this.canvas.clientWidth / Math.max(this.engine.track.length, WINDOW_S * RATE);
  }

  redraw() {
    this.spectrogramOf = null;
    this.draw();
  }

  draw() {
    const { engine } = this;
    const { phase, track, now } = engine;
    const stops = phase === "playing" || phase === "waiting" || phase === "queued";
    const hasSound = track.chunks.length > 0;
    this.root.dataset.phase = phase;
    setIcon(this.button, stops ? "stop" : "play", stops ? "Stop" : "Play");
    this.button.disabled = !stops && !hasSound;
    this.spectrogramButton.disabled = this.downloadButton.disabled = !hasSound;
    this.canvas.setAttribute("aria-valuemax", (track.length / RATE).toFixed(2));
    this.canvas.setAttribute("aria-valuenow", (now / RATE).toFixed(2));
    const place = `${(now / RATE).toFixed(1)} of ${(track.length / RATE).toFixed(1)} seconds`;
    this.canvas.setAttribute("aria-valuetext", place);
    this.paint(track, now);
    this.showWords(track, now / RATE);
    this.paintSpectrogram(track);
    this.describe(track, now / RATE, phase);
    cancelAnimationFrame(this.frame);
    if (phase === "playing") this.frame = requestAnimationFrame(() => this.draw());
  }

  describe(track, heardS, phase) {
    const parts = [];
    const whole = `${(track.length / RATE).toFixed(1)} s`;
    if (phase === "waiting") parts.push("waiting");
    if (phase === "queued") parts.push("plays after the sound before it");
    if (phase === "playing") parts.push(`${heardS.toFixed(1)} / ${whole}`);
    if (phase === "blocked") parts.push("press play to hear it");
    if (phase === "ended") parts.push(whole);
    if (phase === "stopped") parts.push(`stopped at ${heardS.toFixed(1)} s`);
    if (track.chunks.length) parts.push(count(track.chunks.length, "chunk"));
    const error = this.engine.restarted ? RESTARTED : track.error;
    const key = [...parts, track.underruns, error].join("\n");
    if (key === this.described) return; // so that a screen reader is not told the same again
    this.described = key;
    this.status.textContent = parts.join(" \u00b7 ");
    const gaps = count(track.underruns, "underrun");
    if (track.underruns) element("span", "csmkit-player-late", this.status).textContent = ` \u00b7 ${gaps}`;
    if (error) {
      const shown = element("span", "csmkit-player-error", this.status);
      shown.setAttribute("role", "alert");
      shown.textContent = ` \u00b7 ${error}`;
    }
    this.status.title = this.status.textContent;
  }

  paint(track, heard) {
    const { canvas } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const pen = penOf(canvas);
    const styles = getComputedStyle(this.root);
    const color = (name) => styles.getPropertyValue(`--csmkit-${name}`);
    const perSample = this.pixelsPerSample();
    const middle = (height - 6) / 2; // the marks of the chunks are below the bars

    pen.fillStyle = color("rest");
    pen.fillRect(0, middle - 0.5, width, 1);
    const { peaks } = track;
    const perBar = BAR_PX / perSample / BIN;
    for (let bar = 0; bar * perBar < peaks.length; bar += 1) {
      const from = Math.floor(bar * perBar);
      const peak = Math.max(...peaks.slice(from, Math.max(from + 1, Math.floor((bar + 1) * perBar))));
      const half = Math.max(0.5, Math.min(1, peak) ** 0.5 * middle); // the root keeps quiet speech visible
      pen.fillStyle = color(bar * BAR_PX < heard * perSample ? "heard" : "rest");
      pen.fillRect(bar * BAR_PX, middle - half, BAR_PX - 1, 2 * half);
    }
    for (const chunk of track.chunks) {
      pen.fillStyle = color(chunk.late ? "late" : "mark");
      const rise = chunk.late ? height : 4;
      pen.fillRect(chunk.from * perSample, height - rise, chunk.late ? 2 : 1, rise);
    }
    if (track.chunks.length) {
      pen.fillStyle = color("cursor");
      pen.fillRect(Math.min(width - 2, heard * perSample), 0, 2, height);
    }
  }

  showWords(track, heardS) {
    if (this.wordsOf !== track.words) {
      this.wordsOf = track.words;
      this.words.replaceChildren();
      this.words.hidden = !track.words.length;
      for (const word of track.words) {
        const button = textButton("csmkit-player-word", this.words, word.text);
        button.title = `${word.from.toFixed(2)} to ${word.to.toFixed(2)} s`;
        button.onclick = () => this.engine.seek(word.from * RATE);
      }
    }
    track.words.forEach((word, index) => {
      const sounds = this.engine.sounding.size > 0 && word.from <= heardS && heardS < word.to;
      this.words.children[index].classList.toggle("csmkit-player-word-now", sounds);
    });
  }

  toggleSpectrogram() {
    const hidden = !this.spectrogram.hidden;
    this.spectrogram.hidden = hidden;
    this.spectrogramButton.setAttribute("aria-pressed", String(!hidden));
    this.redraw();
  }

  paintSpectrogram(track) {
    if (this.spectrogram.hidden || !track.chunks.length || this.spectrogramOf === track.length) return;
    this.spectrogramOf = track.length;
    this.spectrogram.style.marginLeft = `${this.canvas.offsetLeft - this.root.offsetLeft}px`; // one axis of time
    this.spectrogram.style.width = `${this.canvas.clientWidth}px`;
    const pen = penOf(this.spectrogram);
    const width = Math.max(1, Math.round(this.spectrogram.clientWidth));
    const image = spectrogram(track.joined(), width, Math.max(track.length, WINDOW_S * RATE));
    const picture = new OffscreenCanvas(width, FFT_SIZE / 2);
    picture.getContext("2d").putImageData(image, 0, 0);
    pen.drawImage(picture, 0, 0, this.spectrogram.clientWidth, this.spectrogram.clientHeight);
  }

  download() {
    const { track } = this.engine;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([wavOf(track.joined())], { type: "audio/wav" }));
    link.download = `csmkit_${track.play}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

// A picture of `width` columns for `length` samples, of which those given are the first; quiet parts are transparent.
function spectrogram(samples, width, length) {
  const rows = FFT_SIZE / 2;
  const image = new ImageData(width, rows);
  const columns = Math.ceil((samples.length / length) * width);
  const levels = [];
  for (let column = 0; column < columns; column += 1) {
    levels.push(spectrumDb(samples, Math.floor((column * length) / width) - FFT_SIZE / 2));
  }
  const loudest = levels.reduce((most, level) => level.reduce((a, b) => Math.max(a, b), most), -Infinity);
  levels.forEach((level, column) => {
    for (let row = 0; row < rows; row += 1) {
      const share = Math.min(1, Math.max(0, 1 - (level[row] - loudest) / FLOOR_DB));
      const color = [40 + 215 * share, 70 + 150 * share ** 2, 160 - 110 * share, 255 * Math.min(1, share * 2)];
      image.data.set(color, 4 * ((rows - 1 - row) * width + column));
    }
  });
  return image;
}

// Levels in dB of the frequencies from 0 to 12 kHz around a place, with a Hann window.
function spectrumDb(samples, from) {
  const real = new Float64Array(FFT_SIZE);
  const imaginary = new Float64Array(FFT_SIZE);
  for (let index = 0; index < FFT_SIZE; index += 1) {
    real[index] = (samples[from + index] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * index) / FFT_SIZE));
  }
  transform(real, imaginary);
  return Array.from({ length: FFT_SIZE / 2 }, (_, bin) => {
    return 10 * Math.log10(real[bin] ** 2 + imaginary[bin] ** 2 + 1e-12);
  });
}

// The discrete Fourier transform in place, by halves; the length is a power of two.
function transform(real, imaginary) {
  const size = real.length;
  if (size === 1) return;
  const half = size / 2;
  const even = [real.filter((_, index) => index % 2 === 0), imaginary.filter((_, index) => index % 2 === 0)];
  const odd = [real.filter((_, index) => index % 2), imaginary.filter((_, index) => index % 2)];
  transform(...even);
  transform(...odd);
  for (let bin = 0; bin < half; bin += 1) {
    const angle = (-2 * Math.PI * bin) / size;
    const turnedReal = Math.cos(angle) * odd[0][bin] - Math.sin(angle) * odd[1][bin];
    const turnedImaginary = Math.cos(angle) * odd[1][bin] + Math.sin(angle) * odd[0][bin];
    real[bin] = even[0][bin] + turnedReal;
    imaginary[bin] = even[1][bin] + turnedImaginary;
    real[bin + half] = even[0][bin] - turnedReal;
    imaginary[bin + half] = even[1][bin] - turnedImaginary;
  }
}

// A 16-bit mono WAV file as bytes.
function wavOf(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const name = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  name(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  name(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a sample
  view.setUint16(34, 16, true); // bits a sample
  name(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => {
    view.setInt16(44 + 2 * index, Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true);
  });
  return view.buffer;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
