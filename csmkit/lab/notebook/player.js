// The button, the picture and a line of text of the player; colours and sizes are in player.css. It follows sound.js in
// one module: a widget's module has no address from which it could import another.

const WINDOW_S = 4; // the picture shows at least so much, so that a first chunk does not fill it
const BAR_PX = 3; // a bar and the space after it
const ICONS = { play: "M5 3.5v11l9-5.5z", stop: "M4.5 4.5h9v9h-9z" };

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.append(made);
  return made;
}

class View {
  constructor(engine, el) {
    this.engine = engine;
    this.root = element("div", "csmkit-player", el);
    this.button = element("button", "csmkit-player-button", this.root);
    this.button.type = "button";
    this.button.innerHTML = '<svg viewBox="0 0 18 18" aria-hidden="true"><path fill="currentColor"/></svg>';
    this.button.onclick = () => engine.press();
    this.canvas = element("canvas", "csmkit-player-picture", this.root);
    this.status = element("span", "csmkit-player-status", this.root);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.canvas);
    this.themed = new MutationObserver(() => this.draw()); // colours come from the theme
    this.themed.observe(document.body, { attributes: true });
    engine.views.add(this);
    this.draw();
  }

  close() {
    this.engine.views.delete(this);
    this.resized.disconnect();
    this.themed.disconnect();
    cancelAnimationFrame(this.frame);
  }

  draw() {
    const { engine } = this;
    const phase = engine.phase;
    const stops = phase === "playing" || phase === "waiting" || phase === "queued";
    const label = stops ? "Stop" : "Play";
    this.root.dataset.phase = phase;
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
    this.button.disabled = !stops && !engine.track.chunks.length;
    this.button.querySelector("path").setAttribute("d", stops ? ICONS.stop : ICONS.play);
    this.paint(engine.track, engine.now);
    this.describe(engine.track, engine.now / RATE, phase);
    cancelAnimationFrame(this.frame);
    if (phase === "playing") this.frame = requestAnimationFrame(() => this.draw());
  }

  describe(track, heardS, phase) {
    const words = [];
    const whole = `${(track.length / RATE).toFixed(1)} s`;
    if (phase === "waiting") words.push("waiting");
    if (phase === "queued") words.push("plays after the sound before it");
    if (phase === "playing") words.push(`${heardS.toFixed(1)} / ${whole}`);
    if (phase === "blocked") words.push("press play to hear it");
    if (phase === "ended") words.push(whole);
    if (phase === "stopped") words.push(`stopped at ${heardS.toFixed(1)} s`);
    if (track.chunks.length) words.push(count(track.chunks.length, "chunk"));
    this.status.textContent = words.join(" \u00b7 ");
    const gaps = count(track.underruns, "underrun");
    if (track.underruns) element("span", "csmkit-player-late", this.status).textContent = ` \u00b7 ${gaps}`;
    if (track.error) element("span", "csmkit-player-error", this.status).textContent = ` \u00b7 ${track.error}`;
    this.status.title = this.status.textContent;
  }

  paint(track, heard) {
    const { canvas } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const styles = getComputedStyle(this.root);
    const color = (name) => styles.getPropertyValue(`--csmkit-${name}`);
    const perSample = width / Math.max(track.length, WINDOW_S * RATE);
    const middle = (height - 6) / 2; // marks stand below the bars

    pen.fillStyle = color("rest");
    pen.fillRect(0, middle - 0.5, width, 1);
    const peaks = track.chunks.flatMap((chunk) => chunk.peaks);
    const perBar = BAR_PX / perSample / BIN;
    for (let bar = 0; bar * perBar < peaks.length; bar += 1) {
      const from = Math.floor(bar * perBar);
      const peak = Math.max(...peaks.slice(from, Math.max(from + 1, Math.floor((bar + 1) * perBar))));
      const half = Math.max(0.5, Math.min(1, peak) ** 0.5 * middle); // quiet speech stays visible
      pen.fillStyle = color(bar * BAR_PX < heard * perSample ? "heard" : "rest");
      pen.fillRect(bar * BAR_PX, middle - half, BAR_PX - 1, 2 * half);
    }
    for (const chunk of track.chunks) {
      pen.fillStyle = color(chunk.late ? "late" : "mark");
      const rise = chunk.late ? height : 4;
      pen.fillRect(chunk.from * perSample, height - rise, chunk.late ? 2 : 1, rise);
    }
  }
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export default () => {
  let engine = null; // sound belongs to the model: a player shown twice is heard once
  return {
    initialize({ model }) {
      engine = new Engine(model);
      return () => engine.close();
    },
    render({ el }) {
      const view = new View(engine, el);
      return () => view.close();
    },
  };
};
