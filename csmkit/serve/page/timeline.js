// Who was busy when in a turn, as bars; the same in words for those who do not see them.

const LANES = ["language model", "clauses", "frames", "chunks", "playback", "recogniser"];

export function figures(metrics, firstHeardMs) {
  const ms = (value) => (value == null ? "not measured" : `${Math.round(value)} ms`);
  const rtf = metrics.rtf == null ? "not measured" : metrics.rtf.toFixed(2);
  return (
    `Time to first audio: ${ms(firstHeardMs)} here, ${ms(metrics.ttfa_ms)} at the server. ` +
    `First word of the answer after ${ms(metrics.llm_ttft_ms)}. ` +
    `Speech: ${(metrics.audio_s ?? 0).toFixed(1)} s, real-time factor ${rtf}.`
  );
}

export function draw(canvas, spans) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const styles = getComputedStyle(document.documentElement);
  const lanes = LANES.filter((lane) => spans.some((span) => span.lane === lane));
  const end = Math.max(1, ...spans.map((span) => span.end_ms ?? span.start_ms));
  const left = 110;
  const step = Math.min(24, (height - 18) / Math.max(1, lanes.length));
  pen.font = "12px system-ui, sans-serif";
  lanes.forEach((lane, row) => {
    pen.fillStyle = styles.getPropertyValue("--ink");
    pen.fillText(lane, 0, row * step + step * 0.7);
    pen.fillStyle = styles.getPropertyValue("--accent");
    for (const span of spans.filter((span) => span.lane === lane)) {
      const from = left + (span.start_ms / end) * (width - left);
      const long = (((span.end_ms ?? span.start_ms) - span.start_ms) / end) * (width - left);
      pen.fillRect(from, row * step + 3, Math.max(1, long - 0.5), step - 6);
    }
  });
  pen.fillStyle = styles.getPropertyValue("--ink");
  pen.fillText("0", left, height - 3);
  pen.fillText(`${Math.round(end)} ms`, width - 60, height - 3);
}
