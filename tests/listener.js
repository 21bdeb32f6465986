// Runs in the page before JupyterLab does: notes every sound that is scheduled, and when the output was last audible.

window.heard = { starts: [], lastLoudMs: 0, clickMs: 0 };

const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  if (this.context instanceof AudioContext) {
    window.heard.starts.push({ when, rate: this.context.sampleRate, samples: Array.from(this.buffer.getChannelData(0)) });
  }
  return start.call(this, when);
};

const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode && this.context instanceof AudioContext) watch(this);
  return connect.call(this, target, ...rest);
};

function watch(node) {
  const analyser = new AnalyserNode(node.context, { fftSize: 512 });
  connect.call(node, analyser);
  const latest = new Float32Array(analyser.fftSize);
  setInterval(() => {
    analyser.getFloatTimeDomainData(latest);
    if (latest.some((sample) => sample !== 0)) window.heard.lastLoudMs = performance.now();
  }, 5);
}

document.addEventListener("click", () => (window.heard.clickMs = performance.now()), { capture: true });

// What those starts sound like, by the browser's own mixer, from the first sample on.
window.render = async () => {
  const { starts } = window.heard;
  const end = Math.max(...starts.map(({ when, samples }) => Math.round(when * 24000) + samples.length));
  const context = new OfflineAudioContext(1, end, 24000);
  for (const { when, samples } of starts) {
    const buffer = context.createBuffer(1, samples.length, 24000);
    buffer.copyToChannel(Float32Array.from(samples), 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    start.call(source, when);
  }
  const rendered = await context.startRendering();
  return Array.from(rendered.getChannelData(0).subarray(Math.round(starts[0].when * 24000)));
};

// Append a cell to the open notebook and run it; its outputs come back when it has finished.
window.runCell = async (source) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const index = notebook.model.sharedModel.cells.length;
  notebook.model.sharedModel.insertCell(index, { cell_type: "code", source });
  notebook.activeCellIndex = index;
  await window.jupyterapp.commands.execute("notebook:run-cell");
  return notebook.model.cells.get(index).outputs.toJSON();
};

// Run all cells of the open notebook; the errors of those that failed.
window.runAll = async () => {
  await window.jupyterapp.commands.execute("notebook:run-all-cells");
  const cells = Array.from(window.jupyterapp.shell.currentWidget.content.model.cells);
  const outputs = cells.filter((cell) => cell.type === "code").flatMap((cell) => cell.outputs.toJSON());
  return outputs.filter((output) => output.output_type === "error").map((output) => output.traceback.join("\n"));
};

window.kernelStatus = () => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status;
